"""Find out which sublayer makes which Value while a Layer is built into a Program."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, cast

from graphtool.graph import Graph, Value
from graphtool.readers._paddle import is_legacy, load_paddle

__all__ = ["Attribution", "flatten", "identity"]

# Layers, Values and Blocks are Paddle's, which has no types that hold for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_CONTAINERS = ("Sequential", "LayerList", "LayerDict")


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One run of a sublayer's forward; equal only to itself, as a sublayer may run many times."""

    path: str
    container: bool


@dataclass
class Attribution:
    """Records, in the order of time, which sublayers are running and what they return.

    Operators are told apart by their id, which grows as they are built; `_marks[i]` is the newest
    id when the stack of running sublayers became `_stacks[i]`.
    """

    _running: list[_Call] = field(default_factory=list[_Call])
    _marks: list[int] = field(default_factory=lambda: [-1])
    _stacks: list[tuple[_Call, ...]] = field(default_factory=lambda: [()])
    _returned: list[tuple[str, int, _Call]] = field(default_factory=list[tuple[str, int, _Call]])
    _open: list[int] = field(default_factory=list[int])

    @contextmanager
    def watching(self, layer: _Paddle) -> Generator[None]:
        """Hook every sublayer, and unhook it afterwards."""
        paths = _attribute_paths(layer)
        hooks: list[_Paddle] = []
        for sublayer in layer.sublayers():
            hooks.append(sublayer.register_forward_pre_hook(self._entering(paths[id(sublayer)])))
            hooks.append(sublayer.register_forward_post_hook(self._leaving))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _entering(self, paths: list[str]) -> _Paddle:
        def enter(sublayer: _Paddle, _inputs: _Paddle) -> None:
            outer = f"{self._running[-1].path}." if self._running else ""
            path = next((path for path in paths if path.startswith(outer)), paths[0])
            self._running.append(_Call(path, type(sublayer).__name__ in _CONTAINERS))
            self._tick()

        return enter

    def _leaving(self, _sublayer: _Paddle, _inputs: _Paddle, outputs: _Paddle) -> None:
        call = self._running.pop()
        mark = self._tick()
        for value in flatten(outputs):
            self._returned.append((identity(value), mark, call))

    def _tick(self) -> int:
        block = _building()
        newest = max(self._marks[-1], block.newest())
        self._settle(block)
        if block.empty:
            self._open.append(len(self._marks))
        self._marks.append(newest)
        self._stacks.append(tuple(self._running))
        return newest

    def _settle(self, block: _Building) -> None:
        """Give the times when the Block was empty their exact mark, now that it has operators."""
        if block.empty or not self._open:
            return
        first = block.first_after(self._marks[self._open[0]])
        for index in self._open:
            self._marks[index] = max(self._marks[index], first - 1)
        self._open.clear()

    def annotate(
        self, graph: Graph, ids: Mapping[str, int], names: Mapping[str, list[str]]
    ) -> Graph:
        """Set `layer` and `layer_outputs` of the Graph's Values.

        `ids` maps Operator names to op ids, `names` what identifies a Value while building to the
        names of the Graph's Values, several where a Variable is written several times.
        """
        returned = self._returned_values(graph, ids, names)
        values = dict(graph.values)
        for operator in graph.operators.values():
            if operator.type == "builtin.parameter":
                continue
            stack = self._stack_at(ids[operator.name])
            for name in operator.results:
                values[name] = _annotated(values[name], stack, returned.get(name, []))
        return replace(graph, values=values)

    def _stack_at(self, op_id: int) -> tuple[_Call, ...]:
        return self._stacks[bisect_left(self._marks, op_id) - 1]

    def _returned_values(
        self, graph: Graph, ids: Mapping[str, int], names: Mapping[str, list[str]]
    ) -> Mapping[str, list[_Call]]:
        calls: dict[str, list[_Call]] = defaultdict(list)
        for key, mark, call in self._returned:
            written = [name for name in names.get(key, ()) if _born(graph, ids, name) <= mark]
            if written:
                calls[written[-1]].append(call)
        return calls


def _born(graph: Graph, ids: Mapping[str, int], name: str) -> int:
    producer = graph.values[name].producer
    return -1 if producer is None else ids[producer]


def _annotated(value: Value, stack: tuple[_Call, ...], returned: list[_Call]) -> Value:
    if not stack and not returned:
        return value
    makers = [call for call in stack if call in returned and not call.container]
    path = makers[0].path if makers else stack[-1].path if stack else None
    outputs = tuple(dict.fromkeys(call.path for call in returned))
    return replace(value, layer=path, layer_outputs=outputs)


def flatten(outputs: _Paddle) -> Iterator[_Paddle]:
    """Yield the Values in nested lists, tuples and dicts, in their order."""
    if hasattr(outputs, "stop_gradient"):
        yield outputs
    elif isinstance(outputs, dict):
        yield from flatten(list(cast("dict[_Paddle, _Paddle]", outputs).values()))
    elif isinstance(outputs, list | tuple):
        for item in cast("Sequence[_Paddle]", outputs):
            yield from flatten(item)


def _attribute_paths(layer: _Paddle) -> dict[int, list[str]]:
    """Map `id(sublayer)` to its attribute paths, several where it is used in several places."""
    paths: dict[int, list[str]] = {}
    waiting = [(layer, "")]
    for owner, prefix in waiting:
        for name, sublayer in owner.named_children():
            path = f"{prefix}{name}"
            paths.setdefault(id(sublayer), []).append(path)
            waiting.append((sublayer, f"{path}."))
    return paths


def identity(value: _Paddle) -> str:
    """Return what tells a Value in the Program being built: its address, or its Variable's name."""
    return str(value.id) if hasattr(value, "get_defining_op") else value.name


class _Building(Protocol):
    """The Block that operators go into at this moment, as far as the ids of its operators go."""

    @property
    def empty(self) -> bool: ...

    def newest(self) -> int:
        """Return the id of its last operator, or of the last one around it where it is empty."""
        ...

    def first_after(self, mark: int) -> int:
        """Return the id of its first operator that is newer than a mark."""
        ...


@dataclass(frozen=True, slots=True)
class _PirBuilding:
    block: _Paddle

    @property
    def empty(self) -> bool:
        return self.block.empty()

    def newest(self) -> int:
        block = self.block
        while block is not None and block.empty():
            block = block.parent_block
        return -1 if block is None else block.back().id()

    def first_after(self, mark: int) -> int:
        ids = (op.id() for op in self.block.ops)
        return next((op_id for op_id in ids if op_id > mark), mark + 1)


@dataclass(frozen=True, slots=True)
class _LegacyBuilding:
    program: _Paddle

    @property
    def empty(self) -> bool:
        return not self.program.current_block().ops

    def newest(self) -> int:
        index = self.program.current_block_idx
        while index >= 0 and not self.program.block(index).ops:
            index = self.program.block(index).parent_idx
        return -1 if index < 0 else self.program.block(index).ops[-1].desc.id()

    def first_after(self, mark: int) -> int:
        ids = (op.desc.id() for op in self.program.current_block().ops)
        return next((op_id for op_id in ids if op_id > mark), mark + 1)


def _building() -> _Building:
    paddle = load_paddle()
    program = paddle.static.default_main_program()
    if is_legacy(program):
        return _LegacyBuilding(program)
    return _PirBuilding(paddle.base.libpaddle.pir.get_current_insertion_point().block())
