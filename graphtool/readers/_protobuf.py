"""Read a ProgramDesc, the protobuf of `.pdmodel`, `__model__` and legacy Programs, without Paddle.

A Variable may be written many times, and `batch_norm` writes the statistics that it reads. So every
write becomes a Value of its own: `x`, then `x@2`, `x@3`. What a Block writes into Variables of the
Blocks around it is handed back to its owner, whose results are writes again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from operator import attrgetter
from typing import Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.garbage import collection_paused
from graphtool.graph import (
    Attribute,
    Block,
    Graph,
    Operator,
    Origin,
    ProgramKind,
    Shape,
    Value,
)
from graphtool.readers import problems
from graphtool.readers._bounds import (
    LONGEST_PATH,
    MOST_BLOCKS_AROUND,
    ImpossibleShapeError,
    shape_of,
)
from graphtool.readers._callstack import user_line
from graphtool.readers._records import new_operator, new_value
from graphtool.readers._schema import parse_program

__all__ = ["read_protobuf"]

# Protobuf builds the message classes at run time: their fields have no static types.
_Message: TypeAlias = Any

_DTYPES = {
    0: "bool",
    1: "int16",
    2: "int32",
    3: "int64",
    4: "float16",
    5: "float32",
    6: "float64",
    20: "uint8",
    21: "int8",
    22: "bfloat16",
    23: "complex64",
    24: "complex128",
    32: "float8_e4m3fn",
    33: "float8_e5m2",
    36: "uint16",
    37: "uint32",
    38: "uint64",
}
_DENSE_TENSOR, _TENSOR_ARRAY = 7, 13
_CARRIERS = frozenset({9, 10})  # FEED_MINIBATCH, FETCH_LIST
_PLAIN_TENSORS = {8: "selected_rows", 30: "sparse_coo", 31: "sparse_csr"}

_STRINGS, _BLOCK, _BLOCKS = 5, 8, 10
_BLOCK_TYPES = frozenset({_BLOCK, _BLOCKS})
_OPTIMIZE = 2  # the bit of `op_role` that optimizer operators have
_ABSENT = frozenset({"", "@EMPTY@"})
_STATISTICS = frozenset({"Mean", "Variance"})
_OPERAND_RANK = {"X": 0, "Input": 0, "Ids": 0, "Logits": 0, "Filter": 1, "W": 1, "Y": 1}
_RESULT_RANK = {"Out": 0, "Output": 0, "Y": 0, "Loss": 0, "LogLikelihood": 0}
_LAST = 9


@collection_paused()
def read_protobuf(path: str, data: bytes) -> Graph:
    """Read a serialised ProgramDesc.

    Raises ReadError where the bytes are no ProgramDesc, or one whose Blocks do not fit together.
    """
    program, unknown = _parse(path, data)
    scopes = [_Scope(index, block) for index, block in enumerate(program.blocks)]
    try:
        graph = _Walk(path, scopes, unknown).graph(_version(program))
    except ImpossibleShapeError as error:
        reason = f"it declares a tensor that cannot be, with {error}"
        raise ReadError(problems.not_a_program(path, reason)) from None
    if not _is_text(graph):
        raise ReadError(problems.not_a_program(path, "a name in it is no text"))
    return graph


def _parse(path: str, data: bytes) -> tuple[_Message, set[str]]:
    from google.protobuf.message import DecodeError

    try:
        program, unknown = parse_program(data)
    except (DecodeError, UnicodeDecodeError):
        raise ReadError(problems.not_a_program(path, "its bytes are no ProgramDesc")) from None
    if not program.blocks:
        raise ReadError(problems.not_a_program(path, "it holds no Block"))
    return program, unknown


@dataclass(eq=False)
class _Scope:
    """A BlockDesc while it is walked: its Variables, and the Value that each holds now."""

    index: int
    desc: _Message
    path: str = ""
    around: tuple[_Scope, ...] = ()
    current: dict[str, str] = field(default_factory=dict[str, str])
    handed: dict[str, str] = field(default_factory=dict[str, str])
    is_open: bool = False
    is_done: bool = False

    def __post_init__(self) -> None:
        self.variables: dict[str, _Message] = {var.name: var for var in self.desc.vars}

    def home(self, name: str) -> _Scope:
        """Return the Block that declares a Variable, this one where none does."""
        if name not in self.variables:
            for outer in self.around:
                if name in outer.variables:
                    return outer
        return self


@dataclass
class _Walk:
    path: str
    scopes: list[_Scope]
    unknown: set[str]
    operators: dict[str, Operator] = field(default_factory=dict[str, Operator])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    blocks: dict[str, Block] = field(default_factory=dict[str, Block])
    ports: dict[str, dict[str, int]] = field(default_factory=lambda: {"feed": {}, "fetch": {}})

    def __post_init__(self) -> None:
        self._ordinals: dict[str, Iterator[int]] = {}
        self._types: dict[bytes, _Type] = {}
        self._writes: defaultdict[str, int] = defaultdict(lambda: 1)
        self._declared: dict[str, _Scope] = {}
        for scope in self.scopes:
            scope.around = tuple(self._around(scope))
            for name in scope.variables:
                self._declared.setdefault(name, scope)
        self._flagged = any(var.is_parameter for var in self.scopes[0].desc.vars)

    def graph(self, version: str) -> Graph:
        self._block(self.scopes[0], "", None)
        for scope in self.scopes:
            if not scope.is_done:
                self._block(scope, f"block_{scope.index}", None)
        self._keep_untouched()
        feeds = self.ports["feed"]
        for value in self.values.values():
            if value.origin is Origin.FEED:
                feeds.setdefault(value.name, len(feeds))
        return Graph(
            source=self.path,
            kind=ProgramKind.LEGACY,
            operators=self.operators,
            values=self.values,
            blocks=self.blocks,
            feeds=_in_order(feeds),
            fetches=_in_order(self.ports["fetch"]),
            version=version,
            unknown=tuple(sorted(self.unknown)),
        )

    def _keep_untouched(self) -> None:
        """Keep the Variables that no Operator names, but those that only carry feeds or fetches.

        These stay where feed and fetch Operators were taken out; they hold no tensor.
        """
        for scope in self.scopes:
            for name, var in scope.variables.items():
                if name not in scope.current and var.type.type not in _CARRIERS:
                    self._read(scope, name)

    def _around(self, scope: _Scope) -> Iterator[_Scope]:
        """Yield the Blocks whose Variables a Block sees, nearest first, as Paddle looks them up."""
        waiting, seen = [scope], {scope.index}
        for inner in waiting:
            desc = inner.desc
            forward = desc.forward_block_idx if desc.HasField("forward_block_idx") else -1
            for index in (forward, desc.parent_idx if inner.index else -1):
                if index >= 0 and index not in seen:
                    seen.add(index)
                    if len(seen) > MOST_BLOCKS_AROUND:
                        raise ReadError(problems.nested_too_deeply(self.path))
                    waiting.append(self._scope(index, inner))
                    yield waiting[-1]

    def _scope(self, index: int, user: _Scope) -> _Scope:
        if not 0 <= index < len(self.scopes):
            raise ReadError(problems.no_such_block(self.path, user.index, index, len(self.scopes)))
        return self.scopes[index]

    def _block(self, scope: _Scope, path: str, owner: str | None) -> None:
        scope.path, scope.is_open = path, True
        names = [
            self._operator(scope, op, None if path else index)
            for index, op in enumerate(scope.desc.ops)
        ]
        scope.is_open, scope.is_done = False, True
        self.blocks[path] = Block(
            path=path,
            owner=owner,
            arguments=(),
            operators=tuple(names),
            results=tuple(scope.handed.values()),
        )

    def _operator(self, scope: _Scope, op: _Message, index: int | None) -> str:
        kind = op.type
        name = self._operator_name(kind, scope.path)
        attributes, source, inner = self._attributes(scope, op)
        role = attributes.pop("op_role", 0)
        role = role if isinstance(role, int) else 0
        slots, operands = self._operands(scope, op, role)
        written = self._results(scope, op, name, Origin.FEED if kind == "feed" else Origin.OPERATOR)
        operator = self.operators[name] = new_operator(
            name=name,
            type=kind,
            index=index,
            block=scope.path,
            operands=operands,
            results=tuple([value for _, _, value in written]),
            slots=slots,
            attributes=attributes,
            blocks=self._places(scope, name, inner) if inner else (),
            role=role,
            source=source,
        )
        for block in inner:
            if not block.is_done:
                self._block(block, block.path, name)
        for home, variable, value in written:
            home.current[variable] = value
            if home is not scope:
                scope.handed[variable] = value
        if kind in self.ports:
            self._port(operator)
        return name

    def _operator_name(self, type: str, path: str) -> str:
        stem = f"{path}/{type}" if path else type
        ordinals = self._ordinals.get(stem)
        if ordinals is None:
            ordinals = self._ordinals[stem] = count()
        return f"{stem}_{next(ordinals)}"

    def _places(self, user: _Scope, owner: str, inner: list[_Scope]) -> tuple[str, ...]:
        """Return the paths of an owner's Blocks, which an earlier Operator may own too."""
        for number, block in enumerate(inner):
            if block.is_open:
                raise ReadError(problems.block_inside_itself(self.path, user.index, block.index))
            if not block.is_done:
                block.path = f"{owner}/{number}"
                if len(block.path) > LONGEST_PATH:
                    raise ReadError(problems.nested_too_deeply(self.path))
        return tuple([block.path for block in inner])

    def _attributes(
        self, scope: _Scope, op: _Message
    ) -> tuple[dict[str, Attribute], str | None, list[_Scope]]:
        attributes: dict[str, Attribute] = {}
        source: str | None = None
        inner: dict[int, _Scope] = {}
        for attr in op.attrs:
            kind, name = attr.type, attr.name
            content = _CONTENT.get(kind)
            if kind == _STRINGS and name == "op_callstack":
                source = user_line([line.decode(errors="replace") for line in attr.strings])
            elif content is not None:
                attributes[name] = content(attr)
            elif kind in _BLOCK_TYPES:
                indices = attr.blocks_idx if kind == _BLOCKS else (attr.block_idx,)
                inner.update((index, self._scope(index, scope)) for index in indices)
            else:
                self.unknown.add(f"attribute `{name}` of type {kind}")
        return attributes, source, list(inner.values())

    def _operands(
        self, scope: _Scope, op: _Message, role: int
    ) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
        slots: list[str] = []
        operands: list[str | None] = []
        current = scope.current
        for slot in _main_first(op.inputs, _OPERAND_RANK):
            parameter = slot.parameter
            for name in slot.arguments:
                slots.append(parameter)
                value = current.get(name)
                if value is None and name not in _ABSENT:
                    value = self._read(scope, name, parameter, role)
                operands.append(value)
        return tuple(slots), tuple(operands)

    def _read(self, scope: _Scope, name: str, slot: str = "", role: int = _OPTIMIZE) -> str:
        """Return the Value that a Variable holds now, without a producer where nothing wrote it."""
        home = scope.home(name)
        value = home.current.get(name)
        if value is not None:
            return value
        var = home.variables.get(name)
        origin = Origin.VARIABLE if var is None else self._origin(var, role)
        value = self._name(name, home, home)
        home.current[name] = value
        trains = origin is Origin.PARAMETER and slot not in _STATISTICS
        self._keep(value, var, origin, trainable=trains)
        return value

    def _origin(self, var: _Message, role: int) -> Origin:
        """Tell what a Variable is that the program reads before it writes it.

        Inference models come without the flag `is_parameter`: there, what is persistable and not
        read by an optimizer is one.
        """
        if var.is_parameter:
            return Origin.PARAMETER
        if var.need_check_feed:
            return Origin.FEED
        plain = var.persistable and var.type.type == _DENSE_TENSOR
        if plain and not self._flagged and not role & _OPTIMIZE:
            return Origin.PARAMETER
        return Origin.VARIABLE

    def _results(
        self, scope: _Scope, op: _Message, operator: str, origin: Origin
    ) -> list[tuple[_Scope, str, str]]:
        """Keep what an Operator writes: the Variables, each with its home and the new Value."""
        written: list[tuple[_Scope, str, str]] = []
        for slot in _main_first(op.outputs, _RESULT_RANK):
            for name in slot.arguments:
                if name in _ABSENT:
                    continue
                home = scope.home(name)
                value = self._name(name, home, scope)
                var = home.variables.get(name)
                self._keep(value, var, origin, producer=operator, output=len(written))
                written.append((home, name, value))
        return written

    def _keep(
        self,
        name: str,
        var: _Message | None,
        origin: Origin,
        *,
        producer: str | None = None,
        output: int = 0,
        trainable: bool = False,
    ) -> None:
        """Keep a Value of a Variable, None for one that no Block declares."""
        if var is None:
            self.values[name] = new_value(
                name=name, shape=None, dtype=None, producer=producer, output=output, origin=origin
            )
            return
        # A Program has few types: to look at each Variable's takes six times as long.
        kind = var.type
        key = kind.SerializePartialToString()
        if key not in self._types:
            self._types[key] = _type(kind)
        dtype, shape, elements, level = self._types[key]
        stops = var.stop_gradient
        self.values[name] = new_value(
            name=name,
            shape=shape,
            dtype=dtype,
            elements=elements,
            producer=producer,
            output=output,
            origin=origin,
            persistable=var.persistable,
            trainable=trainable and not stops,
            stop_gradient=stops,
            lod_level=level,
        )

    def _name(self, variable: str, home: _Scope, scope: _Scope) -> str:
        """Name a new Value of a Variable: `x`, in an inner Block `while_0/0/x` if that is taken."""
        if self._is_free(variable, home):
            return variable
        base = f"{scope.path}/{variable}" if scope.path else variable
        if self._is_free(base, home):
            return base
        while True:
            self._writes[base] += 1
            name = f"{base}@{self._writes[base]}"
            if name not in self.values and name not in self._declared:
                return name

    def _is_free(self, name: str, home: _Scope) -> bool:
        return name not in self.values and self._declared.get(name, home) is home

    def _port(self, operator: Operator) -> None:
        columns = self.ports[operator.type]
        column = operator.attributes.get("col")
        for name in operator.results if operator.type == "feed" else operator.operands:
            if name is not None:
                columns[name] = column if isinstance(column, int) else len(columns)


def _is_text(graph: Graph) -> bool:
    """Tell whether all names are text: protobuf hands out those that are not as bytes."""
    operators = graph.operators.values()
    names = {operator.type for operator in operators}.union(
        graph.values,
        *[operator.slots for operator in operators],
        *[operator.attributes for operator in operators],
    )
    return set(map(type, names)) <= {str}


def _in_order(columns: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(columns, key=columns.__getitem__))


def _main_first(slots: Sequence[_Message], rank: dict[str, int]) -> Sequence[_Message]:
    """Return slots with the main one first; the file has them by alphabet."""
    if len(slots) < 2:
        return slots
    return sorted(slots, key=lambda slot: rank.get(slot.parameter, _LAST))


_Element: TypeAlias = "tuple[str | None, Shape | None]"
# Dtype, shape, elements and level of detail.
_Type: TypeAlias = "tuple[str | None, Shape | None, tuple[_Element, ...], int]"


def _type(kind: _Message) -> _Type:
    dense, code = kind.dense_tensor, kind.type
    level = dense.lod_level
    if code == _DENSE_TENSOR:
        return *_tensor(dense.tensor), (), level
    if code == _TENSOR_ARRAY:
        return None, None, (_tensor(kind.tensor_array.tensor),), level
    plain = _PLAIN_TENSORS.get(code)
    return (None, None, (), level) if plain is None else (*_tensor(getattr(kind, plain)), (), level)


def _tensor(desc: _Message) -> _Element:
    code = desc.data_type
    return _DTYPES.get(code) or f"dtype{code}", shape_of(tuple(desc.dims))


def _text_or_bytes(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _scalar(scalar: _Message) -> Attribute:
    if scalar.HasField("c"):
        return (scalar.c.r, scalar.c.i)
    return next((getattr(scalar, name) for name in ("b", "i", "r") if scalar.HasField(name)), None)


# By AttrType: how content is taken out as plain data.
_CONTENT: dict[int, Callable[[_Message], Attribute]] = {
    0: attrgetter("i"),
    1: attrgetter("f"),
    2: lambda attr: _text_or_bytes(attr.s),
    3: lambda attr: tuple(attr.ints),
    4: lambda attr: tuple(attr.floats),
    _STRINGS: lambda attr: tuple(map(_text_or_bytes, attr.strings)),
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
    """Spell a version as Paddle numbers its releases: 2006002 is `2.6.2`, 0 a development build."""
    number = program.version.version
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}" if number else ""
