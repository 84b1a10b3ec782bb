"""Read a live PIR Program, with the names that its saved JSON would give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import ReadError
from graphtool.garbage import collection_paused
from graphtool.graph import Attribute, Graph, Operator, Shape
from graphtool.readers._assembly import NAME_ATTRIBUTES, Assembly, ResultType
from graphtool.readers._callstack import user_line
from graphtool.readers._paddle import REFUSALS, is_legacy, load_paddle
from graphtool.readers.problems import foreign_operand

__all__ = ["PirWalk", "ValueKey", "holds", "walk_pir"]

# Paddle ships no types for its compiled part, which Programs, Blocks and operations are of.
_Paddle: TypeAlias = Any

# What tells a Value within its process: the operation's id (a counter that is never used twice,
# unlike the address in `Value.id`), the Block's number in it (-1 for results) and the position.
ValueKey: TypeAlias = tuple[int, int, int]

_RESULTS = -1
_UNDEFINED = "Undefined(ALL_DTYPE)"
_PLACES = {"undefined": 0, "cpu": 1, "gpu": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PirWalk:
    """A Graph and the way back from it.

    `names`: `Value.id` -> name; `keys`: name -> ValueKey; `ids`: Operator name -> `op.id()`.
    """

    graph: Graph
    names: Mapping[str, str]
    keys: Mapping[str, ValueKey]
    ids: Mapping[str, int]


@collection_paused()
def walk_pir(program: _Paddle) -> PirWalk:
    """Read a live PIR Program and keep what leads from names back to its Values.

    Raises ReadError: GT050.
    """
    top = program.global_block()
    walk = _Walk(Assembly(frozenset(_user_names(top))))
    walk.block(top, path="", owner=None)
    return PirWalk(
        graph=walk.assembly.graph(source="<Program>", unknown=tuple(sorted(walk.unknown))),
        # `Value.id` is text.
        names=cast("Mapping[str, str]", walk.assembly.keys),
        keys=walk.keys,
        ids=walk.ids,
    )


def holds(program: _Paddle, value: _Paddle) -> bool:
    """Tell whether a Value of PIR is at the top level of a Program.

    It is not asked: it crashes where its Program is gone. Its address is looked for.
    """
    if is_legacy(program):
        return False
    wanted = value.id
    ops = program.global_block().ops
    return any(result.id == wanted for op in ops for result in op.results())


@dataclass
class _Walk:
    assembly: Assembly
    keys: dict[str, ValueKey] = field(default_factory=dict[str, ValueKey])
    ids: dict[str, int] = field(default_factory=dict[str, int])
    unknown: set[str] = field(default_factory=set[str])

    def block(self, block: _Paddle, *, path: str, owner: str | None, number: int = 0) -> None:
        arguments: list[str] = []
        for index, value in enumerate(block.args()):
            name = self.assembly.add_argument(value.id, _result_type(value), path, index)
            if owner is not None:
                self.keys[name] = (self.ids[owner], number, index)
            arguments.append(name)
        operators = [
            self._operator(op, path, index if owner is None else None)
            for index, op in enumerate(block.ops)
        ]
        self.assembly.add_block(path, owner=owner, arguments=arguments, operators=operators)

    def _operator(self, op: _Paddle, path: str, index: int | None) -> Operator:
        attributes = self._attributes(op)
        blocks = list(op.blocks()) if op.num_regions() else []
        stack = attributes.pop("op_callstack", None)
        source = user_line(stack) if stack else None
        keys = self.assembly.keys
        try:
            operands = tuple(
                [keys[value.id] if value.initialized() else None for value in op.operands_source()]
            )
        except KeyError:
            raise ReadError(foreign_operand(op.name(), source)) from None
        operator = self.assembly.add_operator(
            type=op.name(),
            block=path,
            index=index,
            operands=operands,
            results=[(value.id, _result_type(value)) for value in op.results()],
            stop_gradient=tuple(attributes.pop("stop_gradient", ())),
            persistable=any(attributes.pop("persistable", ())),
            trainable=any(attributes.pop("trainable", ())),
            regions=len(blocks),
            module=_text(attributes.pop("struct_name", None)),
            role=_whole(attributes.pop("op_role", 0)),
            source=source,
            attributes=_made_plain(attributes),
        )
        op_id = self.ids[operator.name] = op.id()
        for output, name in enumerate(operator.results):
            self.keys[name] = (op_id, _RESULTS, output)
        for number, inner in enumerate(blocks):
            self.block(inner, path=operator.blocks[number], owner=operator.name, number=number)
        return operator

    def _attributes(self, op: _Paddle) -> dict[str, _Paddle]:
        # One call for everything costs 6 us; the callstack is half of it, and needed for `source`.
        try:
            attributes: dict[str, _Paddle] = op.attrs()
        except REFUSALS:
            self.unknown.add(f"attributes of {op.name()}")
            return {}
        if "is_parameter" in attributes:
            for name in _PARAMETER_FLAGS:
                attributes[name] = any(attributes.get(name, ()))
        return attributes


_PARAMETER_FLAGS = ("is_distributed", "is_parameter", "need_clip")
_RESERVING = frozenset({"builtin.parameter", "pd_op.data"})


def _user_names(block: _Paddle) -> Iterator[str]:
    for op in block.ops:
        kind = op.name()
        if kind in _RESERVING:
            yield op.str_attr(NAME_ATTRIBUTES[kind])
        elif op.num_regions():
            for inner in op.blocks():
                yield from _user_names(inner)


def _result_type(value: _Paddle) -> ResultType:
    if not value.initialized():
        return ResultType()
    if value.is_dense_tensor_type() or value.is_selected_row_type():
        return _tensor(int(value.dtype), tuple(value.shape))
    if value.is_combine():
        members = value.type().as_vec_type().as_list()
        tensors = [_tensor(int(member.dtype), tuple(member.shape)) for member in members]
        return ResultType(elements=tuple([(tensor.dtype, tensor.shape) for tensor in tensors]))
    if value.is_dense_tensor_array_type():
        return _tensor(int(value.dtype), tuple(value.shape))
    return ResultType()


@lru_cache(maxsize=4096)
def _tensor(dtype: int, shape: Shape) -> ResultType:
    # By its number: Paddle's own dtypes take 1 us to be looked up.
    name = str(load_paddle().base.core.DataType(dtype))
    return ResultType(shape=shape, dtype=name.rpartition(".")[2].lower())


_ALREADY_PLAIN = frozenset({bool, int, float, str, bytes, type(None)})


def _made_plain(attributes: dict[str, _Paddle]) -> dict[str, Attribute]:
    for name, value in attributes.items():
        if type(value) not in _ALREADY_PLAIN:
            attributes[name] = _plain(value)
    return attributes


def _plain(value: _Paddle) -> Attribute:
    if type(value) in _ALREADY_PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        items = tuple(cast("Sequence[_Paddle]", value))
        is_plain = _ALREADY_PLAIN.issuperset(map(type, items))
        return items if is_plain else tuple([_plain(item) for item in items])
    return _spelt(str(value))


def _spelt(text: str) -> Attribute:
    """Spell a dtype or place as the saved JSON does: `float32`, `(1, 0, '')` for `Place(cpu)`."""
    kind, _, device = text.removeprefix("Place(").removesuffix(")").partition(":")
    if text.startswith("Place(") and kind in _PLACES:
        return (_PLACES[kind], int(device or 0), "")
    if text.startswith(("paddle.", "DataType.")):
        dtype = text.rpartition(".")[2].lower()
        return _UNDEFINED if dtype == "undefined" else dtype
    return text


def _text(value: _Paddle) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: _Paddle) -> int:
    return value if isinstance(value, int) else 0
