"""Attribute each Value to the sublayer that makes it while a Layer is built into a Program."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir import insertion_block
from graphtool.graph import Graph, Value

__all__ = ["Attribution", "flatten", "value_id"]


_CONTAINERS = ("Sequential", "LayerList", "LayerDict")


@dataclass(frozen=True, slots=True, eq=False)
class _LayerCall:
    """One call of a sublayer's forward; equal only to itself, as a sublayer may run many times."""

    path: str
    is_container: bool


@dataclass
class Attribution:
    """Record which sublayers run when, and what they return.

    Ids of operators grow as they are built: `_op_ids[i]` is the newest id when the stack of running
    sublayers became `_stacks[i]`. `_unresolved` are indices into `_op_ids` whose exact id is not
    known yet, since the Block was empty.
    """

    _running: list[_LayerCall] = field(default_factory=list[_LayerCall])
    _op_ids: list[int] = field(default_factory=lambda: [-1])
    _stacks: list[tuple[_LayerCall, ...]] = field(default_factory=lambda: [()])
    _returned: list[tuple[str, int, _LayerCall]] = field(
        default_factory=list[tuple[str, int, _LayerCall]]
    )
    _unresolved: list[int] = field(default_factory=list[int])

    @contextmanager
    def recording(self, layer: Paddle) -> Generator[None]:
        """Hook every sublayer, and remove the hooks afterwards."""
        paths = _attribute_paths(layer)
        hooks: list[Paddle] = []
        for sublayer in layer.sublayers():
            hooks.append(sublayer.register_forward_pre_hook(self._enter_hook(paths[id(sublayer)])))
            hooks.append(sublayer.register_forward_post_hook(self._leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter_hook(self, paths: list[str]) -> Paddle:
        def enter(sublayer: Paddle, _inputs: Paddle) -> None:
            outer = f"{self._running[-1].path}." if self._running else ""
            path = next((path for path in paths if path.startswith(outer)), paths[0])
            self._running.append(_LayerCall(path, type(sublayer).__name__ in _CONTAINERS))
            self._record()

        return enter

    def _leave(self, _sublayer: Paddle, _inputs: Paddle, outputs: Paddle) -> None:
        call = self._running.pop()
        newest = self._record()
        for value in flatten(outputs):
            self._returned.append((value_id(value), newest, call))

    def _record(self) -> int:
        """Record the stack of running sublayers; return the newest operator id."""
        block = _insertion_block()
        newest = max(self._op_ids[-1], block.newest_id())
        self._resolve_ids(block)
        if block.is_empty:
            self._unresolved.append(len(self._op_ids))
        self._op_ids.append(newest)
        self._stacks.append(tuple(self._running))
        return newest

    def _resolve_ids(self, block: _InsertionBlock) -> None:
        """Set the exact ids recorded while the Block was empty, now that it has operators."""
        if block.is_empty or not self._unresolved:
            return
        first = block.first_id_after(self._op_ids[self._unresolved[0]])
        for index in self._unresolved:
            self._op_ids[index] = max(self._op_ids[index], first - 1)
        self._unresolved.clear()

    def annotate(
        self, graph: Graph, ids: Mapping[str, int], names: Mapping[str, list[str]]
    ) -> Graph:
        """Set `layer` and `layer_outputs` of the Graph's Values.

        `ids` maps Operator names to operator ids, `names` a `value_id` to names in the Graph:
        several where a Variable is written several times.
        """
        returned = self._returning_calls(graph, ids, names)
        values = dict(graph.values)
        for operator in graph.operators.values():
            if operator.type == "builtin.parameter":
                continue
            stack = self._stack_at(ids[operator.name])
            for name in operator.results:
                values[name] = _annotated(values[name], stack, returned.get(name, []))
        return replace(graph, values=values)

    def _stack_at(self, op_id: int) -> tuple[_LayerCall, ...]:
        return self._stacks[bisect_left(self._op_ids, op_id) - 1]

    def _returning_calls(
        self, graph: Graph, ids: Mapping[str, int], names: Mapping[str, list[str]]
    ) -> Mapping[str, list[_LayerCall]]:
        """Map names of Values to the calls that returned them."""
        calls: dict[str, list[_LayerCall]] = defaultdict(list)
        for key, newest, call in self._returned:
            written = [
                name for name in names.get(key, ()) if _producer_id(graph, ids, name) <= newest
            ]
            if written:
                calls[written[-1]].append(call)
        return calls


def _producer_id(graph: Graph, ids: Mapping[str, int], name: str) -> int:
    producer = graph.values[name].producer
    return -1 if producer is None else ids[producer]


def _annotated(value: Value, stack: tuple[_LayerCall, ...], returned: list[_LayerCall]) -> Value:
    if not stack and not returned:
        return value
    makers = [call for call in stack if call in returned and not call.is_container]
    path = makers[0].path if makers else stack[-1].path if stack else None
    outputs = tuple(dict.fromkeys(call.path for call in returned))
    return replace(value, layer=path, layer_outputs=outputs)


def flatten(outputs: Paddle) -> Iterator[Paddle]:
    """Yield the Values in nested lists, tuples and dicts, in order."""
    if hasattr(outputs, "stop_gradient"):
        yield outputs
    elif isinstance(outputs, dict):
        yield from flatten(list(cast("dict[Paddle, Paddle]", outputs).values()))
    elif isinstance(outputs, list | tuple):
        for item in cast("Sequence[Paddle]", outputs):
            yield from flatten(item)


def _attribute_paths(layer: Paddle) -> dict[int, list[str]]:
    """Map `id(sublayer)` to its attribute paths, several if it is used in several places."""
    paths: dict[int, list[str]] = {}
    worklist = [(layer, "")]
    for owner, prefix in worklist:
        for name, sublayer in owner.named_children():
            path = f"{prefix}{name}"
            paths.setdefault(id(sublayer), []).append(path)
            worklist.append((sublayer, f"{path}."))
    return paths


def value_id(value: Paddle) -> str:
    """Return the address of a PIR Value, or the name of a legacy Variable."""
    return str(value.id) if hasattr(value, "get_defining_op") else value.name


class _InsertionBlock(Protocol):
    """The Block that new operators currently go into, and the ids of its operators."""

    @property
    def is_empty(self) -> bool: ...

    def newest_id(self) -> int:
        """Return the id of its last operator; if empty, that of the nearest enclosing Block."""
        ...

    def first_id_after(self, id: int) -> int:
        """Return the id of its first operator that is newer than an id."""
        ...


@dataclass(frozen=True, slots=True)
class _PirInsertionBlock:
    block: Paddle

    @property
    def is_empty(self) -> bool:
        return self.block.empty()

    def newest_id(self) -> int:
        block = self.block
        while block is not None and block.empty():
            block = block.parent_block
        return -1 if block is None else block.back().id()

    def first_id_after(self, id: int) -> int:
        ids = (op.id() for op in self.block.ops)
        return next((op_id for op_id in ids if op_id > id), id + 1)


@dataclass(frozen=True, slots=True)
class _LegacyInsertionBlock:
    program: Paddle

    @property
    def is_empty(self) -> bool:
        return not self.program.current_block().ops

    def newest_id(self) -> int:
        index = self.program.current_block_idx
        while index >= 0 and not self.program.block(index).ops:
            index = self.program.block(index).parent_idx
        return -1 if index < 0 else self.program.block(index).ops[-1].desc.id()

    def first_id_after(self, id: int) -> int:
        ids = (op.desc.id() for op in self.program.current_block().ops)
        return next((op_id for op_id in ids if op_id > id), id + 1)


def _insertion_block() -> _InsertionBlock:
    paddle = load_paddle()
    program = paddle.static.default_main_program()
    if is_legacy(program):
        return _LegacyInsertionBlock(program)
    return _PirInsertionBlock(insertion_block())
