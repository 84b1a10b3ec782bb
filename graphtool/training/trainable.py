"""Make an inference model trainable again, and report what its file has lost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike, fspath

from graphtool.arguments import bad_argument
from graphtool.backend import legacy_training, pir_training
from graphtool.backend.counters import advance_counters, counted_names
from graphtool.backend.live import (
    LiveProgram,
    is_live,
    open_legacy,
    open_pir,
    program_of,
    translate,
)
from graphtool.backend.paddle import Paddle, in_mode, is_legacy, load_paddle, program_lock
from graphtool.checks.fits import probabilities
from graphtool.checks.networks import already_minimized
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    Report,
    Severity,
    UsageError,
    Where,
    counted,
)
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import Graph, Operator, ProgramKind, variable_of
from graphtool.ops import BATCH_NORMS, NORMS, is_training, statistics_of
from graphtool.readers.weights import persistable_values
from graphtool.sources import read
from graphtool.structure import analyse
from graphtool.training import problems
from graphtool.training._reach import reached_by_gradient

__all__ = ["Trainable", "for_training", "open_program"]


_COUNTED_NAME = re.compile(r"(?:.*\.)?tmp_\d+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trainable:
    """An inference model in training mode, with its feeds and the outputs that it fetched.

    `report` has what could not be restored.
    """

    live: LiveProgram
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    report: Report

    @property
    def program(self) -> Paddle:
        """The Program, a clone of the one that was given."""
        return self.live.program

    @property
    def graph(self) -> Graph:
        """The Graph of the Program."""
        return self.live.graph

    def value(self, selector: str) -> Paddle:
        """Return the Paddle Value or Variable that a selector means, as `LiveProgram.value`."""
        return self.live.value(selector)


@program_lock()
def for_training(inference_program: Paddle | str | PathLike[str]) -> Trainable:
    """Return a trainable clone of an inference model: add a label and a loss, and minimize it.

    Fetch operators are dropped, `is_test` and `use_global_stats` are cleared in every Block,
    dropout works if the file still has it, and parameters are trainable: a file of Paddle 2 does
    not say which ones were. `report` notes what can't be restored. `inference_program` is a Program
    of either kind, a LiveProgram, or a saved model, whose parameters `load_parameters` loads. Where
    new Programs are PIR, a saved legacy model is translated.

    Raises GraphtoolError: GT231 for a program with gradients. Raises ReadError as `gt.read` does,
    and GT032 where Paddle can't translate it. Raises UsageError: GT248 for anything else.
    """
    live = open_program(inference_program)
    before = live.graph
    for operator in before.operators.values():
        if is_training(operator):
            raise GraphtoolError(
                already_minimized(
                    f"the program already has gradients: `{operator.name}`",
                    where=(Where(program=before.source, value=operator.name),),
                    help="give the program from before `minimize`, or the inference model",
                )
            )
    plan = _plan(before)
    backend = legacy_training if live.kind is ProgramKind.LEGACY else pir_training
    with in_mode(static=True):
        program = backend.training_clone(
            live.program,
            trainable=plan.trainable,
            statistics=plan.statistics,
            unstopped=plan.unstopped,
        )
    after = LiveProgram.of(program)
    advance_counters(program, counted_names(after.graph))
    found = (*_diagnostics(before, after.graph, plan), *_name_collisions(before, program))
    return Trainable(
        live=replace(after, graph=_with_names(after.graph, before)),
        feeds=before.feeds,
        fetches=before.fetches,
        report=Report.of(found),
    )


def _with_names(graph: Graph, before: Graph) -> Graph:
    """Copy the source, the fetches, and the aliases of translated Values from the original."""
    values = dict(graph.values)
    for name, value in before.values.items():
        if value.aliases and name in values:
            values[name] = replace(values[name], aliases=value.aliases)
    return replace(graph, source=before.source, values=values, fetches=before.fetches)


def open_program(source: Paddle | str | PathLike[str]) -> LiveProgram:
    """Return a Program, or that of a saved model, with its Graph.

    Raises ReadError as `gt.read` does, and GT032 where Paddle can't translate a legacy model.
    """
    if isinstance(source, LiveProgram):
        return source
    if not isinstance(source, str | PathLike):
        if not is_live(source):
            wanted = "a Program, or the path of a saved model"
            call = 'gt.for_training("student.json")'
            raise UsageError(bad_argument("inference_program", source, wanted, call))
        return LiveProgram.of(program_of(source))
    graph = read(fspath(source))
    if graph.kind is ProgramKind.PIR:
        live = open_pir(graph.source, graph)
    elif is_legacy(load_paddle().static.Program()):
        live = open_legacy(graph.source)
    else:
        live = translate(graph.source)
    return replace(
        live,
        graph=replace(live.graph, source=graph.source, report=graph.report, unknown=graph.unknown),
    )


@dataclass(frozen=True, slots=True)
class _TrainingPlan:
    """Which parameters to train, which stay frozen, and which Values pass gradients again.

    `statistics` are running statistics; `unstopped` are Values whose `stop_gradient` is cleared.
    """

    trainable: frozenset[str]
    statistics: frozenset[str]
    unstopped: frozenset[str]
    frozen: tuple[str, ...]


def _plan(graph: Graph) -> _TrainingPlan:
    # Legacy Graphs have a Value for each write; parameters go by the Variables that hold them.
    is_pir = graph.kind is ProgramKind.PIR
    statistics = frozenset(
        name if is_pir else variable_of(name, graph)
        for operator in graph.operators.values()
        for name in statistics_of(operator)
    )
    read_names = {name if is_pir else variable_of(name, graph) for name in graph.consumers}
    candidates = {
        name: value
        for name, value in persistable_values(graph).items()
        if name not in statistics and value.dtype in FLOAT_DTYPES and name in read_names
    }
    frozen = tuple(name for name, value in candidates.items() if value.stop_gradient)
    trainable = frozenset(candidates) - set(frozen)
    unstopped = frozenset(_wrongly_stopped(graph, trainable))
    return _TrainingPlan(trainable, statistics, unstopped, frozen)


def _wrongly_stopped(graph: Graph, trainable: frozenset[str]) -> Iterator[str]:
    """Yield Values that may stop gradients only because Paddle translated a legacy program.

    Where a legacy operator became several, the Values between them have no Variable, and Paddle
    makes them stop the gradient: nothing before a `concat` would be trained, nor any bias of a
    convolution. Some have no flag at all, which Paddle reads as `stop_gradient`. All possible ones
    are yielded.
    """
    translated = any(value.aliases for value in graph.values.values())
    passing = {name for name, value in graph.values.items() if not value.stop_gradient}
    passing |= trainable
    for operator in graph.operators.values() if graph.kind is ProgramKind.PIR else ():
        if passing.isdisjoint(operator.operands):
            continue
        # A saved translation has lost its aliases; no network detaches its own parameters.
        made = operator.type.startswith("builtin.") or not trainable.isdisjoint(operator.operands)
        for value in map(graph.values.__getitem__, operator.results):
            is_translated = made or (translated and not value.aliases)
            if is_translated and (value.elements or value.dtype in FLOAT_DTYPES):
                passing.add(value.name)
                yield value.name


def _diagnostics(before: Graph, after: Graph, plan: _TrainingPlan) -> Iterator[Diagnostic]:
    """Report what of the training network the inference model has lost."""
    operators = before.operators.values()
    if not before.fetches and not any(operator.attributes.get("is_test") for operator in operators):
        yield problems.nothing_to_restore(before)
        return
    yield problems.outputs_only(before)
    for head in analyse(before).heads:
        if head.softmax is not None and head.output in before.fetches:
            logits = before.values[head.logits]
            yield probabilities(
                f"output `{head.output}` holds probabilities; the logits are `{logits.name}`",
                severity=Severity.NOTE,
                where=(Where(program=before.source, value=logits.name, shape=logits.shape),),
            )
    kinds = Counter(operator.kind for operator in operators)
    convolutions = sum(count for kind, count in kinds.items() if "conv2d" in kind)
    # `norm` divides by a length and has no statistics that could be folded.
    if convolutions and not kinds.keys() & (BATCH_NORMS | NORMS - {"norm"}):
        count = counted(convolutions, "convolution")
        yield problems.lost_in_export(before, f"{count}, no batch norm: folded ones are lost")
    if not any("dropout" in kind for kind in kinds):
        message = "no dropout in the file: if the network had any, it cannot be restored"
        yield problems.lost_in_export(before, message)
    if norms := sum(map(_has_frozen_statistics, operators)):
        yield problems.statistics_learn_again(before, norms)
    if plan.frozen:
        yield problems.still_frozen(before, plan.frozen)
    for kind, count in _norms_without_results(after).items():
        yield problems.without_results(before, kind, count)
    if lost := _unreached(after, before.fetches, plan.trainable):
        yield problems.cut_off(before, lost)


def _has_frozen_statistics(operator: Operator) -> bool:
    return operator.kind in BATCH_NORMS and bool(
        operator.attributes.get("use_global_stats") or operator.attributes.get("is_test")
    )


def _norms_without_results(graph: Graph) -> Counter[str]:
    """Count batch norms of which translation left a result empty."""
    return Counter(
        operator.kind
        for operator in graph.operators.values()
        if graph.kind is ProgramKind.PIR
        and operator.kind in BATCH_NORMS
        and any(graph.values[name].dtype is None for name in operator.results)
    )


def _name_collisions(graph: Graph, program: Paddle) -> Iterator[Diagnostic]:
    """Warn if Paddle may generate names again that a legacy program has."""
    if graph.kind is ProgramKind.PIR or legacy_training.counts_names_by_program(program):
        return
    if taken := [name for name in graph.values if _COUNTED_NAME.fullmatch(name)]:
        yield problems.names_taken(graph, taken)


def _unreached(graph: Graph, fetches: Iterable[str], trainable: frozenset[str]) -> list[str]:
    """Return the parameters that no gradient from the outputs reaches, in program order."""
    if graph.kind is ProgramKind.LEGACY:
        return []
    reached = reached_by_gradient(graph, fetches)
    return [name for name in persistable_values(graph) if name in trainable - reached]
