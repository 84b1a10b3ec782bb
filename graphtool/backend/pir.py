"""Read a live PIR Program, with the same names as its saved JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias, cast

from graphtool.backend.errors import PADDLE_ERRORS
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.problems import foreign_operand
from graphtool.diagnostics import ReadError
from graphtool.graph import Attribute, Graph, Operator, Shape, collection_paused
from graphtool.readers.graph_builder import NAME_ATTRIBUTES, GraphBuilder, ResultType, user_line

__all__ = ["PirWalk", "ValueKey", "contains_value", "read_pir"]


# Identifies a Value within the process: the id of the operation (a counter that is never reused,
# unlike the address in `Value.id`), the index of its Block (-1 for results) and the position.
ValueKey: TypeAlias = tuple[int, int, int]

_RESULT = -1
_UNDEFINED = "Undefined(ALL_DTYPE)"
_PLACES = {"undefined": 0, "cpu": 1, "gpu": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PirWalk:
    """A Graph, and how its names map to Paddle's Values and operations.

    `names`: `Value.id` -> name; `keys`: name -> ValueKey; `ids`: Operator name -> `op.id()`.
    """

    graph: Graph
    names: Mapping[str, str]
    keys: Mapping[str, ValueKey]
    ids: Mapping[str, int]


@collection_paused()
def read_pir(program: Paddle) -> PirWalk:
    """Read a live PIR Program, and keep how names map to its Values.

    Raises ReadError: GT050.
    """
    top = program.global_block()
    reader = _PirReader(GraphBuilder(frozenset(_user_names(top))))
    reader.read_block(top, path="", owner=None)
    return PirWalk(
        graph=reader.builder.graph(source="<Program>", unknown=tuple(sorted(reader.unknown))),
        # `Value.id` is a string.
        names=cast("Mapping[str, str]", reader.builder.keys),
        keys=reader.keys,
        ids=reader.ids,
    )


def contains_value(program: Paddle, value: Paddle) -> bool:
    """Return whether a PIR Value is at the top level of a Program.

    Only its address is compared: other access crashes if its Program is gone.
    """
    if is_legacy(program):
        return False
    address = value.id
    ops = program.global_block().ops
    return any(result.id == address for op in ops for result in op.results())


@dataclass
class _PirReader:
    builder: GraphBuilder
    keys: dict[str, ValueKey] = field(default_factory=dict[str, ValueKey])
    ids: dict[str, int] = field(default_factory=dict[str, int])
    unknown: set[str] = field(default_factory=set[str])

    def read_block(self, block: Paddle, *, path: str, owner: str | None, number: int = 0) -> None:
        arguments: list[str] = []
        for index, value in enumerate(block.args()):
            name = self.builder.add_argument(value.id, _result_type(value), path, index)
            if owner is not None:
                self.keys[name] = (self.ids[owner], number, index)
            arguments.append(name)
        operators = [
            self._read_operator(op, path, index if owner is None else None)
            for index, op in enumerate(block.ops)
        ]
        self.builder.add_block(path, owner=owner, arguments=arguments, operators=operators)

    def _read_operator(self, op: Paddle, path: str, index: int | None) -> Operator:
        attributes = self._attributes(op)
        blocks = list(op.blocks()) if op.num_regions() else []
        callstack = attributes.pop("op_callstack", None)
        source = user_line(callstack) if callstack else None
        keys = self.builder.keys
        try:
            operands = tuple(
                [keys[value.id] if value.initialized() else None for value in op.operands_source()]
            )
        except KeyError:
            raise ReadError(foreign_operand(op.name(), source)) from None
        operator = self.builder.add_operator(
            type=op.name(),
            block=path,
            index=index,
            operands=operands,
            results=[(value.id, _result_type(value)) for value in op.results()],
            stop_gradient=tuple(attributes.pop("stop_gradient", ())),
            persistable=any(attributes.pop("persistable", ())),
            trainable=any(attributes.pop("trainable", ())),
            regions=len(blocks),
            module=_str_or_none(attributes.pop("struct_name", None)),
            role=_int_or_zero(attributes.pop("op_role", 0)),
            source=source,
            attributes=_plain_attributes(attributes),
        )
        op_id = self.ids[operator.name] = op.id()
        for output, name in enumerate(operator.results):
            self.keys[name] = (op_id, _RESULT, output)
        for number, inner in enumerate(blocks):
            self.read_block(inner, path=operator.blocks[number], owner=operator.name, number=number)
        return operator

    def _attributes(self, op: Paddle) -> dict[str, Paddle]:
        # The call takes 6 us, half of it for the callstack, which `source` needs.
        try:
            attributes: dict[str, Paddle] = op.attrs()
        except PADDLE_ERRORS:
            self.unknown.add(f"attributes of {op.name()}")
            return {}
        if "is_parameter" in attributes:
            for name in _PARAMETER_FLAGS:
                attributes[name] = any(attributes.get(name, ()))
        return attributes


_PARAMETER_FLAGS = ("is_distributed", "is_parameter", "need_clip")
_USER_NAMED = frozenset({"builtin.parameter", "pd_op.data"})


def _user_names(block: Paddle) -> Iterator[str]:
    for op in block.ops:
        op_type = op.name()
        if op_type in _USER_NAMED:
            yield op.str_attr(NAME_ATTRIBUTES[op_type])
        elif op.num_regions():
            for inner in op.blocks():
                yield from _user_names(inner)


def _result_type(value: Paddle) -> ResultType:
    if not value.initialized():
        return ResultType()
    if value.is_dense_tensor_type() or value.is_selected_row_type():
        return _tensor_type(int(value.dtype), tuple(value.shape))
    if value.is_combine():
        elements = value.type().as_vec_type().as_list()
        tensors = [_tensor_type(int(element.dtype), tuple(element.shape)) for element in elements]
        return ResultType(elements=tuple([(tensor.dtype, tensor.shape) for tensor in tensors]))
    if value.is_dense_tensor_array_type():
        return _tensor_type(int(value.dtype), tuple(value.shape))
    return ResultType()


@lru_cache(maxsize=4096)
def _tensor_type(dtype: int, shape: Shape) -> ResultType:
    # The dtype is a number: looking up one of Paddle's takes 1 us.
    name = str(load_paddle().base.core.DataType(dtype))
    return ResultType(shape=shape, dtype=name.rpartition(".")[2].lower())


_SCALARS = frozenset({bool, int, float, str, bytes, type(None)})


def _plain_attributes(attributes: dict[str, Paddle]) -> dict[str, Attribute]:
    """Convert attributes to plain data, in place."""
    for name, value in attributes.items():
        if type(value) not in _SCALARS:
            attributes[name] = _plain(value)
    return attributes


def _plain(value: Paddle) -> Attribute:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, (list, tuple)):
        items = tuple(cast("Sequence[Paddle]", value))
        is_plain = _SCALARS.issuperset(map(type, items))
        return items if is_plain else tuple([_plain(item) for item in items])
    return _dtype_or_place(str(value))


def _dtype_or_place(text: str) -> Attribute:
    """Return a dtype or place as in the saved JSON: `float32`, `(1, 0, '')` for `Place(cpu)`."""
    kind, _, device = text.removeprefix("Place(").removesuffix(")").partition(":")
    if text.startswith("Place(") and kind in _PLACES:
        return (_PLACES[kind], int(device or 0), "")
    if text.startswith(("paddle.", "DataType.")):
        dtype = text.rpartition(".")[2].lower()
        return _UNDEFINED if dtype == "undefined" else dtype
    return text


def _str_or_none(value: Paddle) -> str | None:
    return value if isinstance(value, str) else None


def _int_or_zero(value: Paddle) -> int:
    return value if isinstance(value, int) else 0
