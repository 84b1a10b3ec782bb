"""Run the part of a network that some Values need, in test mode, and fetch them pooled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.diagnostics import Diagnostic, PairError
from graphtool.graph import FLOATS, UNKNOWN, Graph, Origin, ProgramKind, Value
from graphtool.matching import evidence_problems as problems
from graphtool.matching._opening import Opened
from graphtool.readers._legacy import variable_of
from graphtool.readers._messages import brief
from graphtool.readers._paddle import REFUSALS, load_paddle, one_at_a_time, static_mode
from graphtool.readers.live import LiveProgram
from graphtool.structure import Structure, analyse

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NOT_BY_SAMPLE", "Runner", "runner_of"]

# Programs, operations and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"

# A map keeps a mean over each cell of a grid with four on a side, a sequence one of each part.
_SIDE = 4
_PARTS = 16
NOT_BY_SAMPLE = "its first axis is not the samples"
_PORTS = frozenset({"feed", "fetch"})
_TRAINS_ANYWAY = "trainable_statistics"
# How a branch or a loop keeps what its gradient will read.
_SAVE = "cf.tuple_push"
# Where what Paddle says begins, behind the frames of the user's code that built the program.
_SUMMARY = re.compile(r"\b[A-Z]\w*Error: ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runner:
    """The part of a network to run: what it is fed, and what it gives.

    `axes` has the channel axis of what comes out for each Value that is measured, in program order.
    """

    role: str
    graph: Graph
    program: _Paddle
    feeds: tuple[Value, ...]
    axes: Mapping[str, int]
    fetches: tuple[_Paddle, ...]
    scope: _Paddle
    executor: _Paddle
    report: tuple[Diagnostic, ...]

    @one_at_a_time()
    def run(self, feed: Mapping[str, _Array], count: int) -> dict[str, _Array | None]:
        """Return the pooled map of each Value, samples first; None where they are not.

        Raises PairError: GT378 where Paddle refuses.
        """
        import numpy as np

        if not self.fetches:
            return {}
        try:
            with static_mode(self.graph.kind):
                found = self.executor.run(
                    self.program,
                    feed=dict(feed),
                    fetch_list=list(self.fetches),
                    scope=self.scope,
                )
        except REFUSALS as error:
            said = str(error)
            start = _SUMMARY.search(said)
            reason = brief(said[start.start() :] if start else said)
            program = self.graph.source
            failed = problems.evidence_run_failed(self.role, program, reason, tuple(feed))
            raise PairError(failed) from error
        arrays = (np.asarray(array) for array in found)
        return {
            name: _by_sample(array, count) for name, array in zip(self.axes, arrays, strict=True)
        }


def _by_sample(array: _Array, count: int) -> _Array | None:
    """Take windows that were folded into the batch out of it again: an axis of their own."""
    import numpy as np

    if not array.ndim or array.shape[0] % count or not array.shape[0]:
        return None
    folds = array.shape[0] // count
    return array if folds == 1 else np.reshape(array, (count, folds, *array.shape[1:]))


@one_at_a_time()
def runner_of(
    opened: Opened, names: Iterable[str], scope: _Paddle, *, allow_random: bool
) -> Runner:
    """Make the clone that gives some Values, and bring its parameters into a Scope.

    Raises PairError: GT376. Raises GraphtoolError as reading a file of parameters does.
    """
    graph = opened.graph
    structure = analyse(graph)
    axes = structure.channel_axes
    wanted, said = _measurable(opened, structure, list(names))
    with static_mode(graph.kind):
        make = _legacy if graph.kind is ProgramKind.LEGACY else _pir
        program, fetches = make(opened.live, wanted, axes)
        part = LiveProgram.of(program).graph
        of_parameters = opened.bring_parameters(part, scope, allow_random=allow_random)
    feeds = (value for value in graph.values.values() if value.origin is Origin.FEED)
    return Runner(
        role=opened.role,
        graph=graph,
        program=program,
        feeds=tuple(value for value in feeds if value.name in part.consumers),
        axes={name: _pooled_axis(graph.values[name], axes.get(name)) for name in wanted},
        fetches=tuple(fetches),
        scope=scope,
        executor=load_paddle().static.Executor(),
        report=(*of_parameters, *said),
    )


def _measurable(
    opened: Opened, structure: Structure, names: Sequence[str]
) -> tuple[list[str], list[Diagnostic]]:
    """Tell what can be fetched as one map for each sample, in program order, from the rest."""
    graph = opened.graph
    feeds = [value for value in graph.values.values() if value.origin is Origin.FEED]
    open_batch = any(feed.shape and feed.shape[0] == UNKNOWN for feed in feeds)
    order = {name: place for place, name in enumerate(graph.values)}
    last = {variable_of(name, graph): name for name in graph.values}
    legacy = graph.kind is ProgramKind.LEGACY
    wanted: list[str] = []
    refused: dict[str, list[str]] = {}
    for name in sorted(dict.fromkeys(names), key=order.__getitem__):
        value = graph.values[name]
        reason = _reason_against(structure, value)
        if reason is None and open_batch and value.shape and value.shape[0] != UNKNOWN:
            reason = NOT_BY_SAMPLE
        if reason is None and legacy and last[variable_of(name, graph)] != name:
            reason = "written again later"
        if reason is None:
            wanted.append(name)
        else:
            refused.setdefault(reason, []).append(name)
    return wanted, [
        problems.not_measured(opened.role, graph.source, listed, reason)
        for reason, listed in refused.items()
    ]


def _reason_against(structure: Structure, value: Value) -> str | None:
    if value.name not in structure.flow.maker or value.shape is None:
        return "no result of the forward pass, or one inside a branch or loop"
    if value.dtype not in FLOATS:
        return "no floating-point numbers"
    if not value.shape:
        return "a single number"
    return None


def _pir(
    live: LiveProgram, names: Sequence[str], axes: Mapping[str, int]
) -> tuple[_Paddle, list[_Paddle]]:
    """Clone a Program, pool behind what makes each Value, and drop all that nothing needs."""
    program = live.program.clone()
    copy, block = LiveProgram.of(program), program.global_block()
    for op in _operations(block):
        _to_test_mode(op)
    for op in block.ops:
        _drop_saves(op)
    fetches: list[_Paddle] = []
    for name in names:
        made = copy.value(name)
        with load_paddle().static.program_guard(program):
            # Not at the end: an operator that writes in place may follow.
            load_paddle().base.libpaddle.pir.set_insertion_point_after(made.get_defining_op())
            fetches.append(_pooled(made, live.graph.values[name], axes.get(name)))
    kept = {value.get_defining_op().id() for value in fetches}
    for op in reversed(block.ops):
        # Last first: Paddle ends the process where an operation that has users is removed.
        if op.id() not in kept and all(value.use_empty() for value in op.results()):
            block.remove_op(op)
    return program, fetches


def _operations(block: _Paddle) -> Iterator[_Paddle]:
    for op in block.ops:
        yield op
        if op.num_regions():
            for inner in op.blocks():
                yield from _operations(inner)


def _to_test_mode(op: _Paddle) -> None:
    if op.has_attr("is_test"):
        op.set_bool_attr("is_test", True)  # noqa: FBT003
        if op.has_attr(_TRAINS_ANYWAY):
            op.set_bool_attr(_TRAINS_ANYWAY, False)  # noqa: FBT003


def _drop_saves(op: _Paddle) -> None:
    """Let branches and loops keep nothing for a gradient that is to go."""
    for block in op.blocks() if op.num_regions() else ():
        for inner in list(block.ops):
            if inner.name() == _SAVE:
                block.remove_op(inner)
            else:
                _drop_saves(inner)


def _legacy(
    live: LiveProgram, names: Sequence[str], axes: Mapping[str, int]
) -> tuple[_Paddle, list[_Paddle]]:
    paddle, graph = load_paddle(), live.graph
    whole = live.program.clone(for_test=True)
    block = whole.global_block()
    for index in reversed(range(len(block.ops))):
        # Of a saved model; the Executor adds its own, and pruning wants them at the end.
        if block.ops[index].type in _PORTS:
            block._remove_op(index)  # noqa: SLF001  # there is no public spelling
    with paddle.static.program_guard(whole, paddle.static.Program()):
        pooled = [
            _pooled(block.var(variable_of(name, graph)), graph.values[name], axes.get(name))
            for name in names
        ]
    program = whole._prune(pooled)  # noqa: SLF001  # what `save_inference_model` calls
    for inner in program.blocks:
        for op in inner.ops:
            if op.has_attr(_TRAINS_ANYWAY):
                op._set_attr(_TRAINS_ANYWAY, False)  # noqa: SLF001, FBT003
    return program, [program.global_block().var(variable.name) for variable in pooled]


def _pooled(found: _Paddle, value: Value, axis: int | None) -> _Paddle:
    """Append means over the places of a map or sequence; as float32, which all kernels have."""
    paddle, shape = load_paddle(), value.shape or ()
    if value.dtype != "float32":
        found = paddle.cast(found, "float32")
    pool = paddle.nn.functional.adaptive_avg_pool2d
    if len(shape) == 4:
        last = axis == 3
        sides = shape[1:3] if last else shape[2:4]
        size = [_SIDE if side == UNKNOWN else min(_SIDE, side) for side in sides]
        return pool(found, size, data_format="NHWC" if last else "NCHW")
    if len(shape) == 3:
        width, length = (shape[1], shape[2]) if axis == 1 else (shape[2], shape[1])
        parts = _PARTS if length == UNKNOWN else min(_PARTS, length)
        if width != UNKNOWN:
            return pool(paddle.unsqueeze(found, 1), [width, parts] if axis == 1 else [parts, width])
    return paddle.assign(found)


def _pooled_axis(value: Value, axis: int | None) -> int:
    """Return where the channels are in what `_pooled` makes of a map, counted from the end."""
    rank = len(value.shape or ())
    if rank == 4:
        return -1 if axis == 3 else -3
    if rank == 3 and axis == 1:
        return -2
    return -1
