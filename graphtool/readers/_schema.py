"""A protobuf schema of the fields of a ProgramDesc that graphtool reads.

It has its own descriptor pool and package, since registering Paddle's file twice in one process
would abort it. Every field is optional and enums are plain integers, so that files with missing
fields or newer enum values are accepted. Field numbers are those of Paddle 2.6 to 3.3.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import Message

__all__ = ["parse_program", "program_message"]

_PACKAGE = "graphtool.framework"

# A trailing `*` marks a repeated field, an initial capital a message of this schema.
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
    # Strings are `bytes`: some attributes hold serialised engines, which are not UTF-8.
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
    """Return the protobuf message class of ProgramDesc."""
    from google.protobuf import message_factory
    from google.protobuf.descriptor_pool import DescriptorPool

    pool = DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    descriptor = pool.FindMessageTypeByName(f"{_PACKAGE}.ProgramDesc")
    return message_factory.GetMessageClass(descriptor)


def parse_program(data: bytes) -> tuple[Any, set[str]]:
    """Return a ProgramDesc with its known fields, and the unknown ones, such as `OpDesc field 9`.

    Raises DecodeError if the bytes are not a ProgramDesc.
    """
    program = program_message()()
    program.ParseFromString(data)
    program.DiscardUnknownFields()
    unknown: set[str] = set()
    if program.ByteSize() != len(data):
        complete = program_message()()
        complete.ParseFromString(data)
        _collect_unknown(complete, unknown)
    return program, unknown


def _collect_unknown(message: Message, unknown: set[str]) -> None:
    from google.protobuf.message import Message
    from google.protobuf.unknown_fields import UnknownFieldSet

    name = message.DESCRIPTOR.name
    unknown.update(f"{name} field {field.field_number}" for field in UnknownFieldSet(message))
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        for inner in (content,) if isinstance(content, Message) else content:
            _collect_unknown(inner, unknown)


def _file() -> FileDescriptorProto:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

    file = FileDescriptorProto(name="graphtool/framework.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        descriptor = file.message_type.add(name=message)
        for name, (number, field_type) in fields.items():
            properties = _field(field_type, FieldDescriptorProto)
            descriptor.field.add(name=name, number=number, **properties)
    return file


def _field(type: str, constants: Any) -> dict[str, Any]:
    name = type.rstrip("*")
    label = constants.LABEL_REPEATED if type.endswith("*") else constants.LABEL_OPTIONAL
    if name[0].isupper():
        return {"label": label, "type": constants.TYPE_MESSAGE, "type_name": f".{_PACKAGE}.{name}"}
    return {"label": label, "type": getattr(constants, f"TYPE_{name.upper()}")}
