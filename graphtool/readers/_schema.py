"""The fields of a ProgramDesc that graphtool knows, as a protobuf schema of its own.

The schema lives in a descriptor pool and a package of its own: a second file that calls itself
Paddle's in one process would abort it. Every field is optional and enums are plain integers, so
that no file is refused for what it leaves out or for a number that is newer than this schema. Field
numbers are those of Paddle 2.6 to 3.3.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import Message

__all__ = ["parse_program", "program_message"]

_PACKAGE = "graphtool.framework"

# A trailing `*` marks a repeated field; a capital letter, a message of this schema.
_MESSAGES = {
    "ProgramDesc": {
        "blocks": (1, "BlockDesc*"),
        "version": (4, "Version"),
        "ops": (5, "OpVersions"),
    },
    "Version": {"version": (1, "int64")},
    "OpVersions": {"pairs": (1, "OpVersionPair*")},
    "OpVersionPair": {"name": (1, "string"), "version": (2, "OpVersion")},
    "OpVersion": {"version": (1, "int32")},
    "BlockDesc": {
        "idx": (1, "int32"),
        "parent_idx": (2, "int32"),
        "vars": (3, "VarDesc*"),
        "ops": (4, "OpDesc*"),
        "forward_block_idx": (5, "int32"),
    },
    "OpDesc": {
        "inputs": (1, "Slot*"),
        "outputs": (2, "Slot*"),
        "type": (3, "string"),
        "attrs": (4, "Attr*"),
        "is_target": (5, "bool"),
    },
    "Slot": {"parameter": (1, "string"), "arguments": (2, "string*")},
    # Text is `bytes`: some attributes hold serialised engines, which are no UTF-8.
    "Attr": {
        "name": (1, "string"),
        "type": (2, "int32"),
        "i": (3, "int32"),
        "f": (4, "float"),
        "s": (5, "bytes"),
        "ints": (6, "int32*"),
        "floats": (7, "float*"),
        "strings": (8, "bytes*"),
        "b": (10, "bool"),
        "bools": (11, "bool*"),
        "block_idx": (12, "int32"),
        "l": (13, "int64"),
        "blocks_idx": (14, "int32*"),
        "longs": (15, "int64*"),
        "float64s": (16, "double*"),
        "var_name": (17, "string"),
        "vars_name": (18, "string*"),
        "float64": (19, "double"),
        "scalar": (20, "Scalar"),
        "scalars": (21, "Scalar*"),
    },
    "Scalar": {
        "type": (1, "int32"),
        "b": (2, "bool"),
        "i": (3, "int64"),
        "r": (4, "double"),
        "c": (5, "Complex"),
    },
    "Complex": {"r": (1, "double"), "i": (2, "double")},
    "VarDesc": {
        "name": (1, "string"),
        "type": (2, "VarType"),
        "persistable": (3, "bool"),
        "need_check_feed": (4, "bool"),
        "is_parameter": (5, "bool"),
        "stop_gradient": (6, "bool"),
    },
    "VarType": {
        "type": (1, "int32"),
        "selected_rows": (2, "Tensor"),
        "dense_tensor": (3, "LoDTensor"),
        "tensor_array": (4, "LoDTensor"),
        "string": (8, "Tensor"),
        "strings": (9, "Tensor"),
        "vocab": (10, "Tensor"),
        "sparse_coo": (11, "Tensor"),
        "sparse_csr": (12, "Tensor"),
    },
    "LoDTensor": {"tensor": (1, "Tensor"), "lod_level": (2, "int32")},
    "Tensor": {"data_type": (1, "int32"), "dims": (2, "int64*")},
}


@cache
def program_message() -> type[Message]:
    """Return the message class of ProgramDesc."""
    from google.protobuf import message_factory
    from google.protobuf.descriptor_pool import DescriptorPool

    pool = DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    descriptor = pool.FindMessageTypeByName(f"{_PACKAGE}.ProgramDesc")
    return message_factory.GetMessageClass(descriptor)


def parse_program(data: bytes) -> tuple[Any, set[str]]:
    """Return a ProgramDesc of known fields, and the names of the others: `OpDesc field 9`.

    Raises DecodeError where the bytes are none.
    """
    program = program_message()()
    program.ParseFromString(data)
    program.DiscardUnknownFields()
    unknown: set[str] = set()
    if program.ByteSize() != len(data):
        whole = program_message()()
        whole.ParseFromString(data)
        _collect_unknown(whole, unknown)
    return program, unknown


def _collect_unknown(message: Message, found: set[str]) -> None:
    from google.protobuf.message import Message
    from google.protobuf.unknown_fields import UnknownFieldSet

    name = message.DESCRIPTOR.name
    found.update(f"{name} field {field.field_number}" for field in UnknownFieldSet(message))
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        for inner in (content,) if isinstance(content, Message) else content:
            _collect_unknown(inner, found)


def _file() -> FileDescriptorProto:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

    file = FileDescriptorProto(name="graphtool/framework.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            described.field.add(name=name, number=number, **_field(kind, FieldDescriptorProto))
    return file


def _field(kind: str, constants: Any) -> dict[str, Any]:
    stem = kind.rstrip("*")
    label = constants.LABEL_REPEATED if kind.endswith("*") else constants.LABEL_OPTIONAL
    if stem[0].isupper():
        return {"label": label, "type": constants.TYPE_MESSAGE, "type_name": f".{_PACKAGE}.{stem}"}
    return {"label": label, "type": getattr(constants, f"TYPE_{stem.upper()}")}
