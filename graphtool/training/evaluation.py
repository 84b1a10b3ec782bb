"""Programs for evaluation: the forward pass of chosen Values, in test mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from graphtool.arguments import bad_argument
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.legacy import pruned_for_test
from graphtool.backend.live import LiveProgram, clone_without_schedule, set_merge_records
from graphtool.backend.paddle import Paddle, static_mode
from graphtool.backend.pir import operations, remove_stack_pushes, set_test_mode
from graphtool.checks.networks import random_in_test_mode
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    Report,
    UsageError,
    Where,
    counted,
    listed,
    warn,
)
from graphtool.graph import Graph, ProgramKind
from graphtool.merging.verify import not_fetchable
from graphtool.ops import RANDOM
from graphtool.training.program_info import ProgramInfo, required_operators, training_operators

__all__ = ["Evaluation", "for_test", "make_evaluation"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """A Program for evaluation, with its feeds and fetches; it unpacks to Program and fetches.

    `names` has the names of the fetches in the Program that it was made from. Values die with their
    Program, and using one afterwards crashes the process: keep the Program as long as the fetches.
    """

    live: LiveProgram
    names: tuple[str, ...]
    fetches: tuple[Paddle, ...]
    report: Report

    @property
    def program(self) -> Paddle:
        """The Program."""
        return self.live.program

    @property
    def feeds(self) -> tuple[str, ...]:
        """The names of the feeds that the fetches are computed from."""
        return self.live.graph.feeds

    def __deepcopy__(self, _: object) -> Evaluation:
        # Paddle copies a Value by adding an operator to the current default Program.
        return self

    def __iter__(self) -> Iterator[Paddle]:
        yield self.program
        yield self.fetches

    def __repr__(self) -> str:
        return f"Evaluation({self.live.graph!r}; {len(self.report)} diagnostics)"


def for_test(program: Paddle, *, fetch: Sequence[Paddle | str] | None = None) -> Evaluation:
    """Return a clone for evaluation, as `clone(for_test=True)` did before PIR dropped it.

    `test, (accuracy,) = gt.for_test(program, fetch=[accuracy])`. `program` is a Program of either
    kind, a Network or a Merged, before or after `minimize`. The clone computes `fetch` and nothing
    else: no gradients, no optimizer, no learning rate, and no teacher unless a fetch reads it. It
    has the feeds that this takes. Dropout and batch norms are in test mode, in branches and loops
    too, so a run changes no Variable. The clone shares its Variables with `program`, and so
    evaluates what has been learnt when it runs.

    `fetch` has Values or Variables of `program`, or names. A name with a teacher's prefix is the
    teacher's, any other one the student's from before the merge. Without `fetch`, the outputs of
    the network are fetched if they are known, as those of a Network or a saved model are. GT226
    warns of operators that stay random in test mode.

    Raises GraphtoolError: GT253 without anything to fetch, for a Value of another Program, a
    gradient, an update or a Value that cannot be fetched; GT258 if Paddle fails. Raises
    UsageError: GT248. Raises ReadError: GT101, GT102, GT031 for a name. `program` is never changed.

    Source: https://www.paddlepaddle.org.cn/documentation/docs/en/2.6/api/paddle/static/Program_en.html
    """
    with raise_paddle_errors_as(GraphtoolError, "gt.for_test"):
        info = ProgramInfo.of(program)
        evaluation = make_evaluation(info, info.student.graph.fetches if fetch is None else fetch)
    for diagnostic in evaluation.report:
        warn(diagnostic)
    return evaluation


def make_evaluation(info: ProgramInfo, fetch: object) -> Evaluation:
    """Make the clone that `for_test` returns; raises the same errors."""
    if not isinstance(fetch, list | tuple):
        wanted, call = "a list of Values, or of their names", "fetch=[accuracy]"
        raise UsageError(bad_argument("fetch", fetch, wanted, call))
    given = cast("Sequence[Paddle | str]", fetch)
    names = [info.name_of(info.value(item) if isinstance(item, str) else item) for item in given]
    errors = list(_fetch_errors(info.graph, given, names))
    if errors:
        raise GraphtoolError(*errors)
    names = [name for name in names if name is not None]
    with static_mode(info.live.kind):
        clone = _legacy_clone if info.live.kind is ProgramKind.LEGACY else _pir_clone
        program, fetches = clone(info, names)
    # Paddle copies the record of merges to a clone.
    set_merge_records(program, (), info.teacher_weights)
    live = LiveProgram.of(program)
    random = [each.name for each in live.graph.operators.values() if each.kind in RANDOM]
    found = random_in_test_mode(
        f"{counted(len(random), 'operator')} random in test mode: {listed(random)}",
        where=(Where(program=live.graph.source),),
        help="gt.from_layer(layer, input_spec, train=False)",
    )
    report = Report.of((found,) if random else ())
    return Evaluation(live=live, names=tuple(names), fetches=fetches, report=report)


def _fetch_errors(
    graph: Graph, fetch: Sequence[object], names: Sequence[str | None]
) -> Iterator[Diagnostic]:
    """Find what of the fetches is no Value of the Graph, or not one that is fetched for a test."""
    training, source = training_operators(graph), graph.source
    if not names:
        way = "test, (accuracy,) = gt.for_test(program, fetch=[accuracy])"
        yield not_fetchable("there is nothing to fetch", (Where(program=source),), way)
    for place, name in enumerate(names):
        if name is None:
            kind = type(fetch[place]).__name__
            message = f"`fetch[{place}]`, a `{kind}`, is not a Value of the Program"
            way = "give Values that were built in this Program, or names: fetch=['relu_4']"
            yield not_fetchable(message, (Where(program=source),), way)
            continue
        operator, shape = graph.producer(name), graph.values[name].shape
        where = (Where(program=source, value=name, shape=shape),)
        if operator is not None and operator.name in training:
            message = f"`{name}` is a gradient or an update, which a Program for test does not have"
            yield not_fetchable(message, where, "executor.run(program, fetch_list=[...])")
        elif (operator is not None and operator.block) or shape is None:
            message = (
                f"`{name}` cannot be fetched: it is inside a branch or a loop, or not a tensor"
            )
            way = f"gt.for_test(program, fetch=[{name.partition('/')[0]!r}])"
            yield not_fetchable(message, where, way)


def _pir_clone(info: ProgramInfo, names: Sequence[str]) -> tuple[Paddle, tuple[Paddle, ...]]:
    clone = clone_without_schedule(info.program)
    block, graph = clone.global_block(), info.graph
    ops = block.ops
    required = {operator.index for operator in required_operators(graph, names)}
    # Last first: Paddle ends the process if an operation that has users is removed.
    for index in reversed(range(len(ops))):
        if index not in required:
            block.remove_op(ops[index])
        else:
            remove_stack_pushes(ops[index])
    for op in operations(block):
        set_test_mode(op)
    producers = [(graph.producer(name), graph.values[name].output) for name in names]
    return clone, tuple(
        ops[producer.index].result(output)
        for producer, output in producers
        if producer is not None and producer.index is not None
    )


def _legacy_clone(info: ProgramInfo, names: Sequence[str]) -> tuple[Paddle, tuple[Paddle, ...]]:
    whole = clone_without_schedule(info.program, for_test=True)
    clone = pruned_for_test(whole, [whole.global_block().var(name) for name in names])
    return clone, tuple(clone.global_block().var(name) for name in names)
