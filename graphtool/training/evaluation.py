"""A Program for evaluation: what some Values need, in test mode, and nothing that trains."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, GraphtoolError, Report, UsageError, warn
from graphtool.graph import Graph, ProgramKind
from graphtool.merging._backend import drop_schedule
from graphtool.merging._failures import paddle_failures
from graphtool.merging._pir import operations, to_test_mode
from graphtool.readers._paddle import static_mode
from graphtool.readers.live import LiveProgram
from graphtool.readers.registry import note
from graphtool.training import evaluation_problems as problems
from graphtool.training._forward import SAVES, needed, training_operators
from graphtool.training._subject import Subject

__all__ = ["Evaluation", "evaluation_of", "for_test"]

# Programs, Values and operations are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# What draws numbers and has no test mode; drop path and dropout of whole axes are made of these.
_RANDOM = frozenset(
    {
        "bernoulli",
        "binomial",
        "exponential",
        "gaussian",
        "gaussian_random",
        "gumbel_softmax",
        "multinomial",
        "poisson",
        "randint",
        "randperm",
        "standard_gamma",
        "truncated_gaussian_random",
        "uniform",
        "uniform_random",
    }
)
_TRAINS_ANYWAY = "trainable_statistics"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """A Program to evaluate with, the feeds that it needs, and what it gives.

    `names` are those of the fetches in the Program that it was made of. It unpacks to the Program
    and the fetches. Values die with their Program, and using one then
    crashes the process: keep the Program for as long as the fetches.
    """

    live: LiveProgram
    names: tuple[str, ...]
    fetches: tuple[_Paddle, ...]
    report: Report

    @property
    def program(self) -> _Paddle:
        """The Program."""
        return self.live.program

    @property
    def feeds(self) -> tuple[str, ...]:
        """The names of what the fetches are computed from."""
        return self.live.graph.feeds

    def __deepcopy__(self, _: object) -> Evaluation:
        # Paddle copies a Value by an operator, in whatever Program is the default one by then.
        return self

    def __iter__(self) -> Iterator[_Paddle]:
        yield self.program
        yield self.fetches

    def __repr__(self) -> str:
        return f"Evaluation({self.live.graph!r}; {len(self.report)} diagnostics)"


def for_test(program: _Paddle, *, fetch: Sequence[_Paddle | str] | None = None) -> Evaluation:
    """Return a clone for evaluation, which `clone(for_test=True)` was: PIR has it no more.

    `test, (accuracy,) = gt.for_test(program, fetch=[accuracy])`. `program` is a Program of either
    kind, a Network or a Merged, before or after `minimize`. The clone holds what `fetch` needs and
    nothing else: no gradients, no optimizer, no learning rate, and no teacher unless a fetch reads
    it; it is fed what that takes. Dropout and batch norms are in test mode, those in branches and
    loops too, so running it changes no Variable. It shares its Variables with `program`: what that
    has learnt by then is what is evaluated.

    `fetch` has Values or Variables of `program`, or names: with a teacher's prefix the teacher's,
    else the student's as before the merge. Where None, it is what the network answers if that is
    known (a Network has it, a saved model too). GT544 warns of what is random in test mode too.

    Raises GraphtoolError: GT540 where nothing is to be fetched, GT541 for a Value of another
    Program, GT542 for a gradient or an update, GT543 for what can't be fetched, GT258
    where Paddle fails. Raises UsageError: GT248. Raises ReadError: GT101, GT102, GT031 for a name.
    Nothing has changed then or ever.

    Source: https://www.paddlepaddle.org.cn/documentation/docs/en/2.6/api/paddle/static/Program_en.html
    """
    with paddle_failures(GraphtoolError, "gt.for_test"):
        subject = Subject.of(program)
        made = evaluation_of(subject, subject.own.graph.fetches if fetch is None else fetch)
    for found in made.report:
        warn(found)
    return made


def evaluation_of(subject: Subject, fetch: object) -> Evaluation:
    """Make the clone that `for_test` returns; raises what that raises."""
    names = _names(subject, _listed(fetch))
    if not names:
        raise GraphtoolError(problems.nothing_to_fetch(subject.graph))
    with static_mode(subject.live.kind):
        make = _legacy_clone if subject.live.kind is ProgramKind.LEGACY else _pir_clone
        program, fetches = make(subject, names)
    _forget(subject, program)
    live = LiveProgram.of(program)
    return Evaluation(
        live=live, names=tuple(names), fetches=fetches, report=Report.of(_said(live.graph))
    )


def _forget(subject: Subject, clone: _Paddle) -> None:
    """Take from a clone what Paddle copies: its schedule, and merges, whose names moved with it."""
    drop_schedule(clone)
    note(clone, (), (new for merged in subject.merges for _, new in merged.plan.weights))


def _listed(fetch: object) -> Sequence[_Paddle | str]:
    if not isinstance(fetch, list | tuple):
        wanted, call = "a list of Values, or of their names", "fetch=[accuracy]"
        raise UsageError(bad_argument("fetch", fetch, wanted, call))
    return cast("Sequence[_Paddle | str]", fetch)


def _names(subject: Subject, fetch: Iterable[_Paddle | str]) -> list[str]:
    """Return the names of what is to be fetched, once each of them is seen to be possible."""
    graph, names = subject.graph, list[str]()
    training = training_operators(graph)
    found: list[Diagnostic] = []
    for place, item in enumerate(fetch):
        value = subject.value(item) if isinstance(item, str) else item
        name = subject.name_of(value)
        if name is None:
            found.append(problems.foreign_fetch(graph, place, type(item).__name__))
            continue
        found += _against(graph, name, training)
        names.append(name)
    if found:
        raise GraphtoolError(*found)
    return names


def _against(graph: Graph, name: str, training: Collection[str]) -> Iterator[Diagnostic]:
    operator = graph.producer(name)
    if operator is not None and operator.name in training:
        yield problems.fetches_gradient(graph, name)
    elif (operator is not None and operator.block) or graph.values[name].shape is None:
        yield problems.not_fetchable(graph, name)


def _pir_clone(subject: Subject, names: Sequence[str]) -> tuple[_Paddle, tuple[_Paddle, ...]]:
    clone = subject.program.clone()
    block = clone.global_block()
    ops = block.ops
    staying = {operator.index for operator in needed(subject.graph, names)}
    for index in reversed(range(len(ops))):
        # Last first: Paddle ends the process where an operation that has users is removed.
        if index not in staying:
            block.remove_op(ops[index])
        elif ops[index].num_regions():
            _drop_saves(ops[index])
    for op in operations(block):
        to_test_mode(op)
    return clone, tuple(_same_value(subject.graph, name, ops) for name in names)


def _drop_saves(op: _Paddle) -> None:
    """Let branches and loops keep nothing for a gradient that is gone."""
    for block in op.blocks():
        for inner in block.ops:
            if inner.name() in SAVES:
                block.remove_op(inner)
            elif inner.num_regions():
                _drop_saves(inner)


def _same_value(graph: Graph, name: str, ops: Sequence[_Paddle]) -> _Paddle:
    producer = graph.producer(name)
    assert producer is not None
    assert producer.index is not None
    return ops[producer.index].result(graph.values[name].output)


def _legacy_clone(subject: Subject, names: Sequence[str]) -> tuple[_Paddle, tuple[_Paddle, ...]]:
    whole = subject.program.clone(for_test=True)
    targets = [whole.global_block().var(name) for name in names]
    clone = whole._prune(targets)  # noqa: SLF001  # what `save_inference_model` calls
    for block in clone.blocks:
        for op in block.ops:
            if op.has_attr(_TRAINS_ANYWAY):
                op._set_attr(_TRAINS_ANYWAY, False)  # noqa: SLF001, FBT003
    return clone, tuple(clone.global_block().var(name) for name in names)


def _said(graph: Graph) -> Iterator[Diagnostic]:
    random = [one.name for one in graph.operators.values() if one.kind in _RANDOM]
    if random:
        yield problems.random_in_test(graph, random)
