"""Find out which sublayer made which Value while a Layer is built into a Program: forward hooks and op ids."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from graphtool.graph import Graph, Value
from graphtool.readers._paddle import is_legacy, load_paddle

__all__ = ["Attribution", "flatten"]

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

    Operators are told apart by their id, which grows as they are built; `_marks[i]` is the newest id
    when the stack of running sublayers became `_stacks[i]`.
    """

    _running: list[_Call] = field(default_factory=list[_Call])
    _marks: list[int] = field(default_factory=lambda: [-1])
    _stacks: list[tuple[_Call, ...]] = field(default_factory=lambda: [()])
    _returned: list[tuple[str | int, int, _Call]] = field(
        default_factory=list[tuple[str | int, int, _Call]]
    )
    _open: list[int] = field(default_factory=list[int])

    @contextmanager
    def watching(self, layer: _Paddle) -> Iterator[None]:
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
            self._returned.append((_identity(value), mark, call))

    def _tick(self) -> int:
        block = _Building.now()
        newest = max(self._marks[-1], block.newest())
        self._settle(block)
        if block.empty:
            self._open.append(len(self._marks))
        self._marks.append(newest)
        self._stacks.append(tuple(self._running))
        return newest

    def _settle(self, block: _Building) -> None:
        """Give the times that fell into a Block still empty their exact mark, once it has operators."""
        if block.empty or not self._open:
            return
        first = block.first_after(self._marks[self._open[0]])
        for index in self._open:
            self._marks[index] = max(self._marks[index], first - 1)
        self._open.clear()

    def annotate(
        self, graph: Graph, ids: Mapping[str, int], names: Mapping[str | int, list[str]]
    ) -> Graph:
        """Set `layer` and `layer_outputs` of the Graph's Values.

        `ids` maps Operator names to op ids, `names` what identifies a Value while building to the
        names of the Graph's Values, several where a Variable is written several times.
        """
        returned = self._returned_values(graph, ids, names)
        values = dict(graph.values)
        for operator in graph.operators.values():
            stack = self._stack_at(ids[operator.name])
            for name in operator.results:
                values[name] = _annotated(values[name], stack, returned.get(name, []))
        return replace(graph, values=values)

    def _stack_at(self, op_id: int) -> tuple[_Call, ...]:
        return self._stacks[bisect_left(self._marks, op_id) - 1]

    def _returned_values(
        self, graph: Graph, ids: Mapping[str, int], names: Mapping[str | int, list[str]]
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
    if isinstance(outputs, dict):
        outputs = outputs.values()
    elif not isinstance(outputs, list | tuple):
        if hasattr(outputs, "stop_gradient"):
            yield outputs
        return
    for item in outputs:
        yield from flatten(item)


def _attribute_paths(layer: _Paddle, prefix: str = "") -> dict[int, list[str]]:
    """Map `id(sublayer)` to its attribute paths: several where one sublayer is used in many places."""
    paths: dict[int, list[str]] = {}
    waiting = [(layer, "")]
    for owner, prefix in waiting:
        for name, sublayer in owner.named_children():
            path = f"{prefix}{name}"
            paths.setdefault(id(sublayer), []).append(path)
            waiting.append((sublayer, f"{path}."))
    return paths


def _identity(value: _Paddle) -> str | int:
    return value.id if hasattr(value, "get_defining_op") else value.name


@dataclass(frozen=True, slots=True)
class _Building:
    """The Block that operators go into at this moment, and those around it, innermost first."""

    blocks: tuple[_Paddle, ...]
    legacy: bool
