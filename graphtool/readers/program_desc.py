"""Read a ProgramDesc, the protobuf of `.pdmodel`, `__model__` and legacy Programs, without Paddle.

A Variable may be written many times; `batch_norm` even writes the statistics that it reads. So each
write becomes a new Value: `x`, then `x@2`, `x@3`. The writes of a Block to Variables of enclosing
Blocks are its results. Its owner, the control flow Operator, writes them again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from operator import attrgetter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.dtypes import BY_CODE
from graphtool.graph import (
    Attribute,
    Block,
    Graph,
    Operator,
    Origin,
    ProgramKind,
    Shape,
    Value,
    collection_paused,
)
from graphtool.readers import problems
from graphtool.readers.graph_builder import (
    MAX_ENCLOSING_BLOCKS,
    MAX_PATH_LENGTH,
    ImpossibleShapeError,
    checked_shape,
    new_operator,
    new_value,
    user_line,
)
from graphtool.text import inspect_command

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

__all__ = ["parse_program", "program_message", "read_protobuf"]

# A protobuf schema of the fields of a ProgramDesc that graphtool reads. It has its own descriptor
# pool and package, since registering Paddle's file twice in one process would abort it. Every field
# is optional and enums are plain integers, so that files with missing fields or newer enum values
# are accepted. Field numbers are those of Paddle 2.6 to 3.3.
_PACKAGE = "graphtool.framework"

# By message; `*` marks a repeated field, an initial capital a message of this schema. Strings in
# `Attr` are `bytes`: some attributes hold serialised engines, which are not UTF-8.
_SCHEMA = """
ProgramDesc: BlockDesc* blocks=1, Version version=4, OpVersions ops=5
Version: int64 version=1
OpVersions: OpVersionPair* pairs=1
OpVersionPair: string name=1, OpVersion version=2
OpVersion: int32 version=1
BlockDesc: int32 idx=1, int32 parent_idx=2, VarDesc* vars=3, OpDesc* ops=4,
    int32 forward_block_idx=5
OpDesc: Slot* inputs=1, Slot* outputs=2, string type=3, Attr* attrs=4, bool is_target=5
Slot: string parameter=1, string* arguments=2
Attr: string name=1, int32 type=2, int32 i=3, float f=4, bytes s=5, int32* ints=6,
    float* floats=7, bytes* strings=8, bool b=10, bool* bools=11, int32 block_idx=12,
    int64 l=13, int32* blocks_idx=14, int64* longs=15, double* float64s=16, string var_name=17,
    string* vars_name=18, double float64=19, Scalar scalar=20, Scalar* scalars=21
Scalar: int32 type=1, bool b=2, int64 i=3, double r=4, Complex c=5
Complex: double r=1, double i=2
VarDesc: string name=1, VarType type=2, bool persistable=3, bool need_check_feed=4,
    bool is_parameter=5, bool stop_gradient=6
VarType: int32 type=1, Tensor selected_rows=2, LoDTensor dense_tensor=3,
    LoDTensor tensor_array=4, Tensor string=8, Tensor strings=9, Tensor vocab=10,
    Tensor sparse_coo=11, Tensor sparse_csr=12
LoDTensor: Tensor tensor=1, int32 lod_level=2
Tensor: int32 data_type=1, int64* dims=2
"""
_MESSAGE = re.compile(r"^(\w+):((?:.|\n )*)", re.MULTILINE)
_FIELD = re.compile(r"(\w+)(\*?) (\w+)=(\d+)")


@cache
def _pool() -> DescriptorPool:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    constants: Any = FieldDescriptorProto
    file = FileDescriptorProto(name="graphtool/framework.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGE.findall(_SCHEMA):
        descriptor = file.message_type.add(name=message)
        for kind, repeated, field_name, number in _FIELD.findall(fields):
            new = descriptor.field.add(name=field_name, number=int(number))
            new.label = constants.LABEL_REPEATED if repeated else constants.LABEL_OPTIONAL
            if kind[0].isupper():
                new.type, new.type_name = constants.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                new.type = getattr(constants, f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


@cache
def program_message(name: str = "ProgramDesc") -> type[Message]:
    """Return the protobuf message class of ProgramDesc, or of a message in it."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def parse_program(data: bytes, name: str = "ProgramDesc") -> tuple[Any, set[str]]:
    """Return a message with its known fields, and the unknown ones, such as `OpDesc field 9`.

    Raises DecodeError if the bytes are not such a message.
    """
    program = program_message(name)()
    program.ParseFromString(data)
    program.DiscardUnknownFields()
    unknown: set[str] = set()
    if program.ByteSize() != len(data):
        complete = program_message(name)()
        complete.ParseFromString(data)
        _collect_unknown(complete, unknown)
    return program, unknown


def _collect_unknown(message: Message, unknown: set[str]) -> None:
    from google.protobuf.message import Message
    from google.protobuf.unknown_fields import UnknownFieldSet

    name = message.DESCRIPTOR.name
    unknown.update(f"{name} field {one.field_number}" for one in UnknownFieldSet(message))
    for known, content in message.ListFields():
        if known.message_type is None:
            continue
        for inner in (content,) if isinstance(content, Message) else content:
            _collect_unknown(inner, unknown)


# Protobuf builds message classes at run time, so their fields have no static types.
_Message: TypeAlias = Any

_DENSE_TENSOR, _TENSOR_ARRAY = 7, 13
_FEED_FETCH_TYPES = frozenset({9, 10})  # FEED_MINIBATCH, FETCH_LIST
_OTHER_TENSORS = {8: "selected_rows", 30: "sparse_coo", 31: "sparse_csr"}

_STRINGS, _BLOCK, _BLOCKS = 5, 8, 10
_BLOCK_TYPES = frozenset({_BLOCK, _BLOCKS})
_OPTIMIZE = 2  # the bit of `op_role` that optimizer operators have
_ABSENT = frozenset({"", "@EMPTY@"})
_STATISTICS = frozenset({"Mean", "Variance"})
_OPERAND_ORDER = {"X": 0, "Input": 0, "Ids": 0, "Logits": 0, "Filter": 1, "W": 1, "Y": 1}
_RESULT_ORDER = {"Out": 0, "Output": 0, "Y": 0, "Loss": 0, "LogLikelihood": 0}
_LAST = 9


@collection_paused()
def read_protobuf(path: str, data: bytes) -> Graph:
    """Read a serialised ProgramDesc.

    Raises ReadError if the bytes are not a ProgramDesc, or its Blocks are inconsistent.
    """
    program, unknown = _parse(path, data)
    blocks = [_BlockState(index, block) for index, block in enumerate(program.blocks)]
    try:
        graph = _ProgramDescReader(path, blocks, unknown).graph(_version(program))
    except ImpossibleShapeError as error:
        raise _not_a_program_desc(path, f"it declares an impossible tensor, with {error}") from None
    if not _has_str_names(graph):
        raise _not_a_program_desc(path, "a name in it is not text")
    return graph


def _parse(path: str, data: bytes) -> tuple[_Message, set[str]]:
    from google.protobuf.message import DecodeError

    try:
        program, unknown = parse_program(data)
    except (DecodeError, UnicodeDecodeError):
        raise _not_a_program_desc(path, "its bytes are not a ProgramDesc") from None
    if not program.blocks:
        raise _not_a_program_desc(path, "it holds no Block")
    return program, unknown


def _not_a_program_desc(path: str, reason: str) -> ReadError:
    message = f"the file is not a Paddle program: {reason}"
    if not path.endswith(".py"):
        return ReadError(problems.damaged_model(path, message))
    parts = PurePath(path).with_suffix("").parts
    module = ".".join(parts if all(map(str.isidentifier, parts)) else parts[-1:])
    inspect = f"{inspect_command(f'{module}:CALLABLE')} --input 3,224,224"
    return ReadError(problems.damaged_model(path, message, inspect))


@dataclass(eq=False)
class _BlockState:
    """A BlockDesc while it is read.

    `current` maps its Variables to the Values that they hold now, `escaping` those of enclosing
    Blocks to the last Value written here.
    """

    index: int
    desc: _Message
    path: str = ""
    enclosing: tuple[_BlockState, ...] = ()
    current: dict[str, str] = field(default_factory=dict[str, str])
    escaping: dict[str, str] = field(default_factory=dict[str, str])
    is_open: bool = False
    is_done: bool = False

    def __post_init__(self) -> None:
        self.variables: dict[str, _Message] = {var.name: var for var in self.desc.vars}

    def declaring_block(self, name: str) -> _BlockState:
        """Return the Block that declares a Variable, this one if none does."""
        if name not in self.variables:
            for outer in self.enclosing:
                if name in outer.variables:
                    return outer
        return self


@dataclass
class _ProgramDescReader:
    path: str
    states: list[_BlockState]
    unknown: set[str]
    operators: dict[str, Operator] = field(default_factory=dict[str, Operator])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    blocks: dict[str, Block] = field(default_factory=dict[str, Block])
    # Names of the fed and fetched Values, with their columns.
    columns: dict[str, dict[str, int]] = field(default_factory=lambda: {"feed": {}, "fetch": {}})

    def __post_init__(self) -> None:
        self._ordinals: dict[str, Iterator[int]] = {}
        self._types: dict[bytes, _Type] = {}
        self._writes: defaultdict[str, int] = defaultdict(lambda: 1)
        self._declared: dict[str, _BlockState] = {}
        for block in self.states:
            block.enclosing = tuple(self._enclosing(block))
            for name in block.variables:
                self._declared.setdefault(name, block)
        self._has_parameter_flags = any(var.is_parameter for var in self.states[0].desc.vars)

    def graph(self, version: str) -> Graph:
        self._read_block(self.states[0], "", None)
        for block in self.states:
            if not block.is_done:
                self._read_block(block, f"block_{block.index}", None)
        self._add_unused_variables()
        feeds = self.columns["feed"]
        for value in self.values.values():
            if value.origin is Origin.FEED:
                feeds.setdefault(value.name, len(feeds))
        return Graph(
            source=self.path,
            kind=ProgramKind.LEGACY,
            operators=self.operators,
            values=self.values,
            blocks=self.blocks,
            feeds=_by_column(feeds),
            fetches=_by_column(self.columns["fetch"]),
            version=version,
            unknown=tuple(sorted(self.unknown)),
        )

    def _add_unused_variables(self) -> None:
        """Add the Variables that no Operator names, except those of feed and fetch Operators.

        The latter remain where feed and fetch Operators were removed; they hold no tensor.
        """
        for block in self.states:
            for name, var in block.variables.items():
                if name not in block.current and var.type.type not in _FEED_FETCH_TYPES:
                    self._current_value(block, name)

    def _enclosing(self, block: _BlockState) -> Iterator[_BlockState]:
        """Yield the Blocks whose Variables a Block sees, nearest first, as Paddle looks them up."""
        worklist, seen = [block], {block.index}
        for inner in worklist:
            desc = inner.desc
            forward = desc.forward_block_idx if desc.HasField("forward_block_idx") else -1
            for index in (forward, desc.parent_idx if inner.index else -1):
                if index >= 0 and index not in seen:
                    seen.add(index)
                    if len(seen) > MAX_ENCLOSING_BLOCKS:
                        raise ReadError(problems.damaged_model(self.path, problems.TOO_DEEP))
                    worklist.append(self._state(index, inner))
                    yield worklist[-1]

    def _state(self, index: int, user: _BlockState) -> _BlockState:
        if not 0 <= index < len(self.states):
            known = f"the program has blocks 0 to {len(self.states) - 1}"
            reason = f"block {user.index} refers to block {index}; {known}"
            raise ReadError(problems.damaged_model(self.path, reason))
        return self.states[index]

    def _read_block(self, block: _BlockState, path: str, owner: str | None) -> None:
        block.path, block.is_open = path, True
        names = [
            self._read_operator(block, op, None if path else index)
            for index, op in enumerate(block.desc.ops)
        ]
        block.is_open, block.is_done = False, True
        self.blocks[path] = Block(
            path=path,
            owner=owner,
            arguments=(),
            operators=tuple(names),
            results=tuple(block.escaping.values()),
        )

    def _read_operator(self, block: _BlockState, op: _Message, index: int | None) -> str:
        op_type = op.type
        name = self._operator_name(op_type, block.path)
        attributes, source, inner = self._attributes(block, op)
        role = attributes.pop("op_role", 0)
        role = role if isinstance(role, int) else 0
        slots, operands = self._operands(block, op, role)
        origin = Origin.FEED if op_type == "feed" else Origin.OPERATOR
        writes = self._results(block, op, name, origin)
        operator = self.operators[name] = new_operator(
            name=name,
            type=op_type,
            index=index,
            block=block.path,
            operands=operands,
            results=tuple([value for _, _, value in writes]),
            slots=slots,
            attributes=attributes,
            blocks=self._assign_paths(block, name, inner) if inner else (),
            role=role,
            source=source,
        )
        for state in inner:
            if not state.is_done:
                self._read_block(state, state.path, name)
        for declaring, variable, value in writes:
            declaring.current[variable] = value
            if declaring is not block:
                block.escaping[variable] = value
        if op_type in self.columns:
            self._add_column(operator)
        return name

    def _operator_name(self, type: str, path: str) -> str:
        stem = f"{path}/{type}" if path else type
        ordinals = self._ordinals.get(stem)
        if ordinals is None:
            ordinals = self._ordinals[stem] = count()
        return f"{stem}_{next(ordinals)}"

    def _assign_paths(
        self, user: _BlockState, owner: str, inner: list[_BlockState]
    ) -> tuple[str, ...]:
        """Return the paths of an Operator's Blocks; an earlier Operator may run them too."""
        for number, block in enumerate(inner):
            if block.is_open:
                reason = f"block {user.index} runs block {block.index}, which contains it"
                raise ReadError(problems.damaged_model(self.path, reason))
            if not block.is_done:
                block.path = f"{owner}/{number}"
                if len(block.path) > MAX_PATH_LENGTH:
                    raise ReadError(problems.damaged_model(self.path, problems.TOO_DEEP))
        return tuple([block.path for block in inner])

    def _attributes(
        self, block: _BlockState, op: _Message
    ) -> tuple[dict[str, Attribute], str | None, list[_BlockState]]:
        """Return the attributes of an OpDesc, its source line, and the Blocks that it runs."""
        attributes: dict[str, Attribute] = {}
        source: str | None = None
        inner: dict[int, _BlockState] = {}
        for attr in op.attrs:
            attr_type, name = attr.type, attr.name
            content = _CONTENT.get(attr_type)
            if attr_type == _STRINGS and name == "op_callstack":
                source = user_line([line.decode(errors="replace") for line in attr.strings])
            elif content is not None:
                attributes[name] = content(attr)
            elif attr_type in _BLOCK_TYPES:
                indices = attr.blocks_idx if attr_type == _BLOCKS else (attr.block_idx,)
                inner.update((index, self._state(index, block)) for index in indices)
            else:
                self.unknown.add(f"attribute `{name}` of type {attr_type}")
        return attributes, source, list(inner.values())

    def _operands(
        self, block: _BlockState, op: _Message, role: int
    ) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
        """Return the slots and the Values of the operands, the main one first."""
        slots: list[str] = []
        operands: list[str | None] = []
        current = block.current
        for slot in _main_first(op.inputs, _OPERAND_ORDER):
            parameter = slot.parameter
            for name in slot.arguments:
                slots.append(parameter)
                value = current.get(name)
                if value is None and name not in _ABSENT:
                    value = self._current_value(block, name, parameter, role)
                operands.append(value)
        return tuple(slots), tuple(operands)

    def _current_value(
        self, block: _BlockState, name: str, slot: str = "", role: int = _OPTIMIZE
    ) -> str:
        """Return the Value that a Variable holds now; add one if it is unwritten."""
        declaring = block.declaring_block(name)
        value = declaring.current.get(name)
        if value is not None:
            return value
        var = declaring.variables.get(name)
        origin = Origin.VARIABLE if var is None else self._origin(var, role)
        value = self._value_name(name, declaring, declaring)
        declaring.current[name] = value
        trainable = origin is Origin.PARAMETER and slot not in _STATISTICS
        self._add_value(value, var, origin, trainable=trainable)
        return value

    def _origin(self, var: _Message, role: int) -> Origin:
        """Return the origin of a Variable that is read before it is written.

        Inference models lack the flag `is_parameter`: there, a persistable tensor that no optimizer
        reads is a parameter.
        """
        if var.is_parameter:
            return Origin.PARAMETER
        if var.need_check_feed:
            return Origin.FEED
        is_kept_tensor = var.persistable and var.type.type == _DENSE_TENSOR
        if is_kept_tensor and not self._has_parameter_flags and not role & _OPTIMIZE:
            return Origin.PARAMETER
        return Origin.VARIABLE

    def _results(
        self, block: _BlockState, op: _Message, operator: str, origin: Origin
    ) -> list[tuple[_BlockState, str, str]]:
        """Add the results of an Operator; return declaring Block, Variable and Value of each."""
        writes: list[tuple[_BlockState, str, str]] = []
        for slot in _main_first(op.outputs, _RESULT_ORDER):
            for name in slot.arguments:
                if name in _ABSENT:
                    continue
                declaring = block.declaring_block(name)
                value = self._value_name(name, declaring, block)
                var = declaring.variables.get(name)
                self._add_value(value, var, origin, producer=operator, output=len(writes))
                writes.append((declaring, name, value))
        return writes

    def _add_value(
        self,
        name: str,
        var: _Message | None,
        origin: Origin,
        *,
        producer: str | None = None,
        output: int = 0,
        trainable: bool = False,
    ) -> None:
        """Add a Value of a Variable; `var` is None if no Block declares it."""
        if var is None:
            self.values[name] = new_value(
                name=name, shape=None, dtype=None, producer=producer, output=output, origin=origin
            )
            return
        # Programs have few distinct types; converting each Variable's takes six times as long.
        key = var.type.SerializePartialToString()
        if key not in self._types:
            self._types[key] = _type(var.type)
        dtype, shape, elements, lod_level = self._types[key]
        stop_gradient = var.stop_gradient
        self.values[name] = new_value(
            name=name,
            shape=shape,
            dtype=dtype,
            elements=elements,
            producer=producer,
            output=output,
            origin=origin,
            persistable=var.persistable,
            trainable=trainable and not stop_gradient,
            stop_gradient=stop_gradient,
            lod_level=lod_level,
        )

    def _value_name(self, variable: str, declaring: _BlockState, block: _BlockState) -> str:
        """Name a new Value of a Variable: `x`, in an inner Block `while_0/0/x` if that is taken."""
        if self._is_free(variable, declaring):
            return variable
        base = f"{block.path}/{variable}" if block.path else variable
        if self._is_free(base, declaring):
            return base
        while True:
            self._writes[base] += 1
            name = f"{base}@{self._writes[base]}"
            if name not in self.values and name not in self._declared:
                return name

    def _is_free(self, name: str, declaring: _BlockState) -> bool:
        return name not in self.values and self._declared.get(name, declaring) is declaring

    def _add_column(self, operator: Operator) -> None:
        columns = self.columns[operator.type]
        column = operator.attributes.get("col")
        for name in operator.results if operator.type == "feed" else operator.operands:
            if name is not None:
                columns[name] = column if isinstance(column, int) else len(columns)


def _has_str_names(graph: Graph) -> bool:
    """Return whether all names are strings; protobuf returns invalid UTF-8 as bytes."""
    operators = graph.operators.values()
    names = {operator.type for operator in operators}.union(
        graph.values,
        *[operator.slots for operator in operators],
        *[operator.attributes for operator in operators],
    )
    return set(map(type, names)) <= {str}


def _by_column(columns: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(columns, key=columns.__getitem__))


def _main_first(slots: Sequence[_Message], order: dict[str, int]) -> Sequence[_Message]:
    """Return slots with the main one first; the file has them in alphabetical order."""
    if len(slots) < 2:
        return slots
    return sorted(slots, key=lambda slot: order.get(slot.parameter, _LAST))


_Element: TypeAlias = "tuple[str | None, Shape | None]"
# Dtype, shape, elements and level of detail.
_Type: TypeAlias = "tuple[str | None, Shape | None, tuple[_Element, ...], int]"


def _type(desc: _Message) -> _Type:
    """Convert a VarType."""
    dense, code = desc.dense_tensor, desc.type
    level = dense.lod_level
    if code == _DENSE_TENSOR:
        return *_tensor(dense.tensor), (), level
    if code == _TENSOR_ARRAY:
        return None, None, (_tensor(desc.tensor_array.tensor),), level
    name = _OTHER_TENSORS.get(code)
    return (None, None, (), level) if name is None else (*_tensor(getattr(desc, name)), (), level)


def _tensor(desc: _Message) -> _Element:
    """Convert a TensorDesc."""
    code = desc.data_type
    dtype = BY_CODE.get(code)
    return dtype.name if dtype else f"dtype{code}", checked_shape(tuple(desc.dims))


def _str_or_bytes(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _scalar(scalar: _Message) -> Attribute:
    if scalar.HasField("c"):
        return (scalar.c.r, scalar.c.i)
    return next((getattr(scalar, name) for name in ("b", "i", "r") if scalar.HasField(name)), None)


# AttrType -> the function that converts the content to plain data.
_CONTENT: dict[int, Callable[[_Message], Attribute]] = {
    0: attrgetter("i"),
    1: attrgetter("f"),
    2: lambda attr: _str_or_bytes(attr.s),
    3: lambda attr: tuple(attr.ints),
    4: lambda attr: tuple(attr.floats),
    _STRINGS: lambda attr: tuple(map(_str_or_bytes, attr.strings)),
    6: attrgetter("b"),
    7: lambda attr: tuple(attr.bools),
    9: attrgetter("l"),
    11: lambda attr: tuple(attr.longs),
    12: lambda attr: tuple(attr.float64s),
    13: attrgetter("var_name"),
    14: lambda attr: tuple(attr.vars_name),
    15: attrgetter("float64"),
    16: lambda attr: _scalar(attr.scalar),
    17: lambda attr: tuple(map(_scalar, attr.scalars)),
}


def _version(program: _Message) -> str:
    """Return Paddle's version as text: 2006002 is `2.6.2`, 0 a development build, is empty."""
    number = program.version.version
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}" if number else ""
