"""Trace a Layer into a Program: modes, hooks, and the sublayer that makes each Value."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, cast

from graphtool.backend.legacy import operator_ids, read_legacy
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, in_mode, is_legacy, load_paddle
from graphtool.backend.pir import ValueKey, insertion_block, read_pir
from graphtool.diagnostics import Report
from graphtool.graph import Graph, Origin, Value, variable_of
from graphtool.sources.inputs import Input
from graphtool.sources.problems import outputs_left_out

__all__ = ["isolated_dynamic_mode", "isolated_static_mode", "trace"]


@contextmanager
def isolated_dynamic_mode() -> Generator[None]:
    """Switch to dynamic mode, with name counters that start at 0."""
    with in_mode(static=False), load_paddle().utils.unique_name.guard():
        yield


@contextmanager
def isolated_static_mode() -> Generator[None]:
    """Switch to static mode, with new default Programs and name counters that start at 0."""
    static, unique_name = load_paddle().static, load_paddle().utils.unique_name
    programs = static.Program(), static.Program()
    with in_mode(static=True), unique_name.guard(), static.program_guard(*programs):
        yield


@contextmanager
def layer_mode(layer: Paddle, *, train: bool | None) -> Generator[None]:
    """Put a Layer into train or eval mode, and restore its sublayers afterwards.

    None is eval mode as well, by the flags alone: neither `eval()` nor `train()` is called.

    The `forward` that Paddle up to 3.0 sets on instances while tracing is removed, since its own
    `jit.save` refuses it; other methods that a Layer assigned meanwhile stay. A `forward` decorated
    by `to_static` is undecorated meanwhile: it refuses static mode.
    """
    layers = layer.sublayers(include_self=True)
    before = [(sublayer.training, sublayer.__dict__.get("forward")) for sublayer in layers]
    for sublayer, (_, assigned) in zip(layers, before, strict=True):
        undecorated = getattr(assigned, "dygraph_function", None)
        if undecorated is not None:
            sublayer.__dict__["forward"] = undecorated.__get__(sublayer)
    if train is None:
        for sublayer in layers:
            sublayer.training = False
    else:
        (layer.train if train else layer.eval)()
    removals = [_value_removal(sublayer) for sublayer in layer.sublayers(include_self=True)]
    try:
        yield
    finally:
        for remove_values in removals:
            remove_values()
        if train is not None:
            (layer.train if before[0][0] else layer.eval)()
        for sublayer, (training, assigned) in zip(layers, before, strict=True):
            sublayer.training = training
            if assigned is not None:
                sublayer.__dict__["forward"] = assigned
            elif _is_set_by_tracing(sublayer.__dict__.get("forward")):
                del sublayer.__dict__["forward"]


# The dicts of a Layer's parts: those that a `forward` creates stay.
_REGISTERED = frozenset({"_parameters", "_buffers", "_sub_layers"})


def _value_removal(layer: Paddle) -> Callable[[], None]:
    """Return a function that removes the Values that `forward` assigns to attributes of a Layer.

    They belong to the Program that is built: using one after that Program died crashes the process.
    """
    attributes: dict[str, Any] = layer.__dict__
    tensor = load_paddle().Tensor
    before = {
        name: copy(one) if type(one) in (dict, list) else one for name, one in attributes.items()
    }

    def remove_values() -> None:
        for name, now in list(attributes.items()):
            if name in _REGISTERED or all(isinstance(one, tensor) for one in flatten(now)):
                continue
            if name in before:
                attributes[name] = before[name]
            else:
                del attributes[name]

    return remove_values


def _is_set_by_tracing(forward: object) -> bool:
    """Return whether Paddle's tracing set a `forward`: a method, or in 3.0 a Paddle object."""
    name: object = getattr(forward, "__name__", None)
    return name == "forward" or type(forward).__module__.startswith("paddle.")


_CONTAINERS = ("Sequential", "LayerList", "LayerDict")


@dataclass(frozen=True, slots=True, eq=False)
class _LayerCall:
    """One call of a sublayer's forward; equal only to itself, as a sublayer may run many times."""

    path: str
    is_container: bool


@dataclass
class _Attribution:
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
            self._returned.append((_value_id(value), newest, call))

    def _record(self) -> int:
        """Record the stack of running sublayers; return the newest operator id."""
        block = _insertion_block()
        newest = max(self._op_ids[-1], block.newest)
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
        last = self._op_ids[self._unresolved[0]]
        first = next((op_id for op_id in block.ids() if op_id > last), last + 1)
        for index in self._unresolved:
            self._op_ids[index] = max(self._op_ids[index], first - 1)
        self._unresolved.clear()

    def annotate(
        self, graph: Graph, ids: Mapping[str, int], names: Mapping[str, list[str]]
    ) -> Graph:
        """Set `layer` and `layer_outputs` of the Graph's Values.

        `ids` maps Operator names to operator ids, `names` a `_value_id` to names in the Graph:
        several where a Variable is written several times.
        """
        returned: dict[str, list[_LayerCall]] = defaultdict(list)
        for key, newest, call in self._returned:
            for name in reversed(names.get(key, ())):
                producer = graph.values[name].producer
                if producer is None or ids[producer] <= newest:
                    returned[name].append(call)
                    break
        values = dict(graph.values)
        for operator in graph.operators.values():
            if operator.type != "builtin.parameter":
                stack = self._stacks[bisect_left(self._op_ids, ids[operator.name]) - 1]
                for name in operator.results:
                    values[name] = _annotated(values[name], stack, returned.get(name, []))
        return replace(graph, values=values)


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


def _value_id(value: Paddle) -> str:
    """Return the address of a PIR Value, or the name of a legacy Variable."""
    return str(value.id) if hasattr(value, "get_defining_op") else value.name


@dataclass(frozen=True, slots=True)
class _InsertionBlock:
    """The Block that new operators currently go into: the ids of its operators.

    `newest` is the last of them; if there are none, that of the nearest enclosing Block.
    """

    ids: Callable[[], Iterator[int]]
    is_empty: bool
    newest: int


def _insertion_block() -> _InsertionBlock:
    program = load_paddle().static.default_main_program()
    if is_legacy(program):
        inner = program.current_block()
        index = inner.idx
        while index >= 0 and not program.block(index).ops:
            index = program.block(index).parent_idx
        newest = -1 if index < 0 else program.block(index).ops[-1].desc.id()
        return _InsertionBlock(lambda: (op.desc.id() for op in inner.ops), not inner.ops, newest)
    inner = block = insertion_block()
    while block is not None and block.empty():
        block = block.parent_block
    newest = -1 if block is None else block.back().id()
    return _InsertionBlock(lambda: (op.id() for op in inner.ops), inner.empty(), newest)


def trace(
    layer: Paddle,
    positional: Mapping[str, Input],
    by_keyword: Mapping[str, Input],
    *,
    train: bool | None,
) -> tuple[Paddle, LiveProgram]:
    """Build a Layer by `to_static`; return Paddle's ConcreteProgram, and the Program as read.

    The feeds have the names of the inputs; `train` is that of `layer_mode`.
    """
    paddle = load_paddle()
    args, kwargs = (
        {
            name: paddle.static.InputSpec(list(feed.shape), feed.dtype, name, stop_gradient=True)
            for name, feed in inputs.items()
        }
        for inputs in (positional, by_keyword)
    )
    root = _root_layer(layer)
    attribution = _Attribution()
    with layer_mode(layer, train=train), attribution.recording(layer):
        concrete = paddle.jit.to_static(
            root.forward, input_spec=[list(args.values()), kwargs], full_graph=True
        ).concrete_program
    outputs = concrete.outputs
    if isinstance(outputs, list) and len(concrete.outputs) == 1:
        outputs = concrete.outputs[0]
    program, inputs_built = concrete.main_program, list(flatten(concrete.inputs[1:]))
    keys: Mapping[str, ValueKey] = {}
    if is_legacy(program):
        # `paddle.static.data` does the same: it marks the feeds in the Program itself.
        for variable in inputs_built:
            variable.desc.set_need_check_feed(True)
        graph = read_legacy(program)
        ids, names = operator_ids(program, graph), defaultdict[str, list[str]](list)
        for name in graph.values:
            names[variable_of(name, graph)].append(name)
    else:
        walk = read_pir(program)
        graph, ids, keys = walk.graph, walk.ids, walk.keys
        names = {address: [name] for address, name in walk.names.items()}
    graph = attribution.annotate(graph, ids, names)
    feeds = tuple(names[_value_id(value)][0] for value in inputs_built)
    fetches = tuple(names[_value_id(value)][-1] for value in flatten(outputs))
    fed = {name: replace(graph.values[name], origin=Origin.FEED) for name in feeds}
    others = tuple(_non_tensors(outputs))
    report = Report((outputs_left_out(type(layer).__name__, others),) if others else ())
    values = {**graph.values, **fed}
    graph = replace(graph, values=values, feeds=feeds, fetches=fetches, report=report)
    return concrete, LiveProgram(program=program, graph=graph, keys=keys)


def _root_layer(layer: Paddle) -> Paddle:
    """Wrap a Layer in another: module paths have only Layers that are called."""
    base: Paddle = load_paddle().nn.Layer

    class Root(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.layer = layer

        def forward(self, positional: Paddle, by_keyword: Paddle) -> Paddle:
            return self.layer(*positional, **by_keyword)

    return Root()


def _non_tensors(outputs: Paddle, path: str = "") -> Iterator[str]:
    """Yield the outputs of `forward` that are not tensors, with their paths: `["a"][2]: int`.

    None, and lists, tuples and dicts of tensors, are skipped.
    """
    if outputs is None or hasattr(outputs, "stop_gradient"):
        return
    if isinstance(outputs, dict):
        items = cast("Mapping[Paddle, Paddle]", outputs).items()
    elif isinstance(outputs, list | tuple):
        items = enumerate(cast("Sequence[Paddle]", outputs))
    else:
        yield f"`{path}`: {type(outputs).__name__}" if path else type(outputs).__name__
        return
    for key, item in items:
        yield from _non_tensors(item, f"{path}[{key!r}]")
