"""Run the part of a network that some Values depend on, in test mode, and fetch them pooled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.backend.errors import PADDLE_ERRORS, paddle_failed, shortened_message
from graphtool.backend.legacy_editing import pruned_for_test, remove_operators
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle, program_lock, static_mode
from graphtool.backend.pir_editing import (
    inserting_after,
    operations,
    remove_stack_pushes,
    remove_unused,
    set_test_mode,
)
from graphtool.diagnostics import Diagnostic, PairError, Where, listed
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import UNKNOWN_DIM, Graph, Origin, ProgramKind, Value, variable_of
from graphtool.matching import evidence_problems as problems
from graphtool.matching._opening import Opened
from graphtool.ops import LEGACY_PORTS
from graphtool.structure import Structure, analyse

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NOT_BY_SAMPLE", "Runner", "runner_of"]

_Array: TypeAlias = "np.ndarray[Any, Any]"

# Maps are pooled to a grid of means, four on a side, sequences to the means of 16 parts.
_SIDE = 4
_PARTS = 16
NOT_BY_SAMPLE = "its first axis is not the samples"
# The start of Paddle's message, after the frames of the user's code that built the program.
_SUMMARY = re.compile(r"\b[A-Z]\w*Error: ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runner:
    """The part of a network to run, with its feeds and fetches.

    `axes` has the channel axis of each measured Value as fetched, counted from the end, in program
    order.
    """

    role: str
    graph: Graph
    program: Paddle
    feeds: tuple[Value, ...]
    axes: Mapping[str, int]
    fetches: tuple[Paddle, ...]
    scope: Paddle
    executor: Paddle
    report: tuple[Diagnostic, ...]

    @program_lock()
    def run(self, feed: Mapping[str, _Array], count: int) -> dict[str, _Array | None]:
        """Return the pooled map of each Value; None where the first axis is not the samples.

        Raises PairError: GT258 where Paddle fails.
        """
        import numpy as np

        if not self.fetches:
            return {}
        try:
            with static_mode(self.graph.kind):
                results = self.executor.run(
                    self.program,
                    feed=dict(feed),
                    fetch_list=list(self.fetches),
                    scope=self.scope,
                )
        except PADDLE_ERRORS as error:
            message = str(error)
            start = _SUMMARY.search(message)
            reason = shortened_message(message[start.start() :] if start else message)
            raise PairError(
                paddle_failed(
                    f"the {self.role} does not run on the samples: {reason}",
                    where=(Where(role=self.role, program=self.graph.source),),
                    notes=(f"fed: {listed(tuple(feed))}",),
                )
            ) from error
        arrays = (np.asarray(array) for array in results)
        return {
            name: _by_sample(array, count) for name, array in zip(self.axes, arrays, strict=True)
        }


def _by_sample(array: _Array, count: int) -> _Array | None:
    """Unfold windows that were folded into the batch into a second axis."""
    import numpy as np

    if not array.ndim or array.shape[0] % count or not array.shape[0]:
        return None
    folds = array.shape[0] // count
    return array if folds == 1 else np.reshape(array, (count, folds, *array.shape[1:]))


@program_lock()
def runner_of(opened: Opened, names: Iterable[str], scope: Paddle, *, allow_random: bool) -> Runner:
    """Make a Program that computes some Values, and load its parameters into a Scope.

    Raises PairError: GT376. Raises GraphtoolError as reading a file of parameters does.
    """
    graph = opened.graph
    structure = analyse(graph)
    axes = structure.channel_axes
    measurable, diagnostics = _measurable(opened, structure, list(names))
    with static_mode(graph.kind):
        make = _legacy if graph.kind is ProgramKind.LEGACY else _pir
        program, fetches = make(opened.live, measurable, axes)
        part = LiveProgram.of(program).graph
        of_parameters = opened.load_parameters(part, scope, allow_random=allow_random)
    feeds = (value for value in graph.values.values() if value.origin is Origin.FEED)
    return Runner(
        role=opened.role,
        graph=graph,
        program=program,
        feeds=tuple(value for value in feeds if value.name in part.consumers),
        axes={name: _pooled_axis(graph.values[name], axes.get(name)) for name in measurable},
        fetches=tuple(fetches),
        scope=scope,
        executor=load_paddle().static.Executor(),
        report=(*of_parameters, *diagnostics),
    )


def _measurable(
    opened: Opened, structure: Structure, names: Sequence[str]
) -> tuple[list[str], list[Diagnostic]]:
    """Return the Values that have one map per sample, in program order, and diagnostics."""
    graph = opened.graph
    feeds = [value for value in graph.values.values() if value.origin is Origin.FEED]
    any_batch = any(feed.shape and feed.shape[0] == UNKNOWN_DIM for feed in feeds)
    order = {name: index for index, name in enumerate(graph.values)}
    last_write = {variable_of(name, graph): name for name in graph.values}
    is_legacy = graph.kind is ProgramKind.LEGACY
    measurable: list[str] = []
    by_reason: dict[str, list[str]] = {}
    for name in sorted(dict.fromkeys(names), key=order.__getitem__):
        value = graph.values[name]
        reason = _reason_against(structure, value)
        if reason is None and any_batch and value.shape and value.shape[0] != UNKNOWN_DIM:
            reason = NOT_BY_SAMPLE
        if reason is None and is_legacy and last_write[variable_of(name, graph)] != name:
            reason = "written again later"
        if reason is None:
            measurable.append(name)
        else:
            by_reason.setdefault(reason, []).append(name)
    return measurable, [
        problems.not_measured(opened.role, graph.source, unmeasured, reason)
        for reason, unmeasured in by_reason.items()
    ]


def _reason_against(structure: Structure, value: Value) -> str | None:
    if value.name not in structure.flow.maker or value.shape is None:
        return "no result of the forward pass, or one inside a branch or loop"
    if value.dtype not in FLOAT_DTYPES:
        return "no floating-point numbers"
    if not value.shape:
        return "a single number"
    return None


def _pir(
    live: LiveProgram, names: Sequence[str], axes: Mapping[str, int]
) -> tuple[Paddle, list[Paddle]]:
    """Clone a Program, pool after each Value's operation, and remove dead operations."""
    program = live.program.clone()
    copy, block = LiveProgram.of(program), program.global_block()
    for op in operations(block):
        set_test_mode(op)
    for op in block.ops:
        remove_stack_pushes(op)
    fetches: list[Paddle] = []
    for name in names:
        value = copy.value(name)
        # Not at the end: an in-place operator may follow.
        with inserting_after(value.get_defining_op(), program):
            fetches.append(_pooled(value, live.graph.values[name], axes.get(name)))
    kept = {value.get_defining_op().id() for value in fetches}
    remove_unused(block, [op for op in block.ops if op.id() not in kept])
    return program, fetches


def _legacy(
    live: LiveProgram, names: Sequence[str], axes: Mapping[str, int]
) -> tuple[Paddle, list[Paddle]]:
    paddle, graph = load_paddle(), live.graph
    clone = live.program.clone(for_test=True)
    block = clone.global_block()
    # A saved model has them; the Executor adds others, and pruning expects them at the end.
    remove_operators(block, [op for op in block.ops if op.type in LEGACY_PORTS])
    with paddle.static.program_guard(clone, paddle.static.Program()):
        pooled = [
            _pooled(block.var(variable_of(name, graph)), graph.values[name], axes.get(name))
            for name in names
        ]
    program = pruned_for_test(clone, pooled)
    return program, [program.global_block().var(variable.name) for variable in pooled]


def _pooled(tensor: Paddle, value: Value, axis: int | None) -> Paddle:
    """Append a pooling of a map or sequence, in float32, which all kernels support."""
    paddle, shape = load_paddle(), value.shape or ()
    if value.dtype != "float32":
        tensor = paddle.cast(tensor, "float32")
    pool = paddle.nn.functional.adaptive_avg_pool2d
    if len(shape) == 4:
        is_nhwc = axis == 3
        sides = shape[1:3] if is_nhwc else shape[2:4]
        size = [_SIDE if side == UNKNOWN_DIM else min(_SIDE, side) for side in sides]
        return pool(tensor, size, data_format="NHWC" if is_nhwc else "NCHW")
    if len(shape) == 3:
        width, length = (shape[1], shape[2]) if axis == 1 else (shape[2], shape[1])
        parts = _PARTS if length == UNKNOWN_DIM else min(_PARTS, length)
        if width != UNKNOWN_DIM:
            return pool(
                paddle.unsqueeze(tensor, 1), [width, parts] if axis == 1 else [parts, width]
            )
    return paddle.assign(tensor)


def _pooled_axis(value: Value, axis: int | None) -> int:
    """Return the channel axis of the result of `_pooled`, counted from the end."""
    rank = len(value.shape or ())
    if rank == 4:
        return -1 if axis == 3 else -3
    if rank == 3 and axis == 1:
        return -2
    return -1
