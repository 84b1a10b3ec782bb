"""Make an inference model trainable again, and say what its file can't give back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any, TypeAlias

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, GraphtoolError, Report, UsageError
from graphtool.graph import FLOATS, Graph, Operator, ProgramKind
from graphtool.readers import read
from graphtool.readers._legacy import variable_of
from graphtool.readers._paddle import in_mode, is_legacy, load_paddle, one_at_a_time
from graphtool.readers.counters import count_past, user_names
from graphtool.readers.live import LiveProgram, deserialise, is_live, parse, program_of, translate
from graphtool.readers.weights import persistables
from graphtool.structure import analyse, is_training, statistics_of
from graphtool.training import _legacy_mode, _pir_mode, problems
from graphtool.training._reach import reached

__all__ = ["Trainable", "for_training", "opened"]

# Programs and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_NORMS = frozenset({"batch_norm", "sync_batch_norm"})
_OTHER_NORMS = frozenset({"layer_norm", "instance_norm", "group_norm", "rms_norm"})
_COUNTED = re.compile(r"(?:.*\.)?tmp_\d+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trainable:
    """An inference model in training mode: feeds, what it fetched, and what it can't get back."""

    live: LiveProgram
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    report: Report

    @property
    def program(self) -> _Paddle:
        """The Program, a clone of the one that was given."""
        return self.live.program

    @property
    def graph(self) -> Graph:
        """The Graph of the Program."""
        return self.live.graph

    def value(self, selector: str) -> _Paddle:
        """Return the Paddle Value or Variable that a selector means, as `LiveProgram.value`."""
        return self.live.value(selector)


@one_at_a_time()
def for_training(inference_program: _Paddle | str | PathLike[str]) -> Trainable:
    """Return a clone of an inference model that trains: give it a label, a loss, and minimize.

    Fetch operators are dropped, `is_test` and `use_global_stats` switched off in every Block,
    dropout works where the file still has it, and parameters learn again: those of a file of
    Paddle 2 don't say so themselves. `report` notes what can't be restored. `inference_program` is
    a Program of either kind, a LiveProgram, or a saved model, whose parameters `load_parameters`
    loads; where new Programs are PIR, a saved legacy model is translated.

    Raises GraphtoolError: GT517 for a program with gradients. Raises ReadError as `gt.read` does
    and GT032 where Paddle does not translate it. Raises UsageError GT248 for anything else.
    """
    live = opened(inference_program)
    before = live.graph
    _refuse_gradients(before)
    plan = _plan(before)
    mode = _legacy_mode if live.kind is ProgramKind.LEGACY else _pir_mode
    with in_mode(static=True):
        program = mode.restored(
            live.program,
            trainable=plan.trainable,
            statistics=plan.statistics,
            revived=plan.revived,
        )
    after = LiveProgram.of(program)
    count_past(program, user_names(after.graph))
    return Trainable(
        live=replace(after, graph=_with_names(after.graph, before)),
        feeds=before.feeds,
        fetches=before.fetches,
        report=Report.of((*_said(before, after.graph, plan), *_names_taken(before, program))),
    )


def _with_names(graph: Graph, before: Graph) -> Graph:
    """Carry over where the program came from, what it fetched, and the names of translated ones."""
    values = dict(graph.values)
    for name, value in before.values.items():
        if value.aliases and name in values:
            values[name] = replace(values[name], aliases=value.aliases)
    return replace(graph, source=before.source, values=values, fetches=before.fetches)


def opened(source: _Paddle | str | PathLike[str]) -> LiveProgram:
    """Return a Program, or that of a saved model, with its Graph.

    Raises ReadError as `gt.read` does, and GT032 where Paddle does not translate a legacy model.
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
        live = deserialise(graph.source, graph)
    elif is_legacy(load_paddle().static.Program()):
        live = parse(graph.source)
    else:
        live = translate(graph.source)
    return replace(
        live,
        graph=replace(live.graph, source=graph.source, report=graph.report, unknown=graph.unknown),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Parameters that learn, running statistics, Values that pass gradients again, the frozen."""

    trainable: frozenset[str]
    statistics: frozenset[str]
    revived: frozenset[str]
    frozen: tuple[str, ...]


def _plan(graph: Graph) -> _Plan:
    statistics = frozenset(_statistics(graph))
    candidates = {
        name: value
        for name, value in persistables(graph).items()
        if name not in statistics and value.dtype in FLOATS and name in _read_names(graph)
    }
    frozen = tuple(name for name, value in candidates.items() if value.stop_gradient)
    trainable = frozenset(candidates) - set(frozen)
    return _Plan(trainable, statistics, frozenset(_revived(graph, trainable)), frozen)


def _revived(graph: Graph, trainable: frozenset[str]) -> Iterator[str]:
    """Yield Values that may stop gradients only because translation from Paddle 2 made them.

    Where a legacy operator became several, those in between have no Variable, and Paddle lets them
    stop the gradient: nothing before a `concat` would learn, nor would any bias of a convolution.
    Some have no flag at all, which Paddle reads as a stop: all that could be meant are yielded.
    """
    translated = any(value.aliases for value in graph.values.values())
    passing = {name for name, value in graph.values.items() if not value.stop_gradient}
    passing |= trainable
    for operator in graph.operators.values() if graph.kind is ProgramKind.PIR else ():
        if passing.isdisjoint(operator.operands):
            continue
        # A saved translation has no such names left; no network detaches its own parameters.
        made = operator.type.startswith("builtin.") or not trainable.isdisjoint(operator.operands)
        for value in map(graph.values.__getitem__, operator.results):
            ours = made or (translated and not value.aliases)
            if ours and (value.elements or value.dtype in FLOATS):
                passing.add(value.name)
                yield value.name


def _statistics(graph: Graph) -> Iterator[str]:
    """Yield running means and variances, in legacy programs by the Variables that hold them."""
    for operator in graph.operators.values():
        for name in statistics_of(operator):
            yield name if graph.kind is ProgramKind.PIR else variable_of(name, graph)


def _read_names(graph: Graph) -> set[str]:
    if graph.kind is ProgramKind.PIR:
        return set(graph.consumers)
    return {variable_of(name, graph) for name in graph.consumers}


def _refuse_gradients(graph: Graph) -> None:
    for operator in graph.operators.values():
        if is_training(operator):
            raise GraphtoolError(problems.training_program(graph, operator.name))


def _said(before: Graph, after: Graph, plan: _Plan) -> Iterator[Diagnostic]:
    kinds = Counter(operator.kind for operator in before.operators.values())
    if not before.fetches and not any(map(_in_test_mode, before.operators.values())):
        yield problems.nothing_to_restore(before)
        return
    yield problems.outputs_only(before)
    yield from _probabilities(before)
    yield from _lost(before, kinds)
    if norms := sum(map(_was_frozen, before.operators.values())):
        yield problems.statistics_learn_again(before, norms)
    if plan.frozen:
        yield problems.still_frozen(before, plan.frozen)
    for kind, count in _incomplete(after).items():
        yield problems.without_results(before, kind, count)
    if lost := _cut_off(after, before.fetches, plan.trainable):
        yield problems.cut_off(before, lost)


def _in_test_mode(operator: Operator) -> bool:
    return bool(operator.attributes.get("is_test"))


def _was_frozen(operator: Operator) -> bool:
    return operator.kind in _NORMS and bool(
        operator.attributes.get("use_global_stats") or operator.attributes.get("is_test")
    )


def _probabilities(graph: Graph) -> Iterator[Diagnostic]:
    for head in analyse(graph).heads:
        if head.normalised is not None and head.output in graph.fetches:
            yield problems.probabilities(graph, head.output, head.logits)


def _lost(graph: Graph, kinds: Mapping[str, int]) -> Iterator[Diagnostic]:
    convolutions = sum(count for kind, count in kinds.items() if "conv2d" in kind)
    if convolutions and not kinds.keys() & (_NORMS | _OTHER_NORMS):
        yield problems.norms_not_found(graph, convolutions)
    if not any("dropout" in kind for kind in kinds):
        yield problems.dropout_not_found(graph)


def _incomplete(graph: Graph) -> Counter[str]:
    """Count normalisations in which translation left a result empty."""
    return Counter(
        operator.kind
        for operator in graph.operators.values()
        if graph.kind is ProgramKind.PIR
        and operator.kind in _NORMS
        and any(graph.values[name].dtype is None for name in operator.results)
    )


def _names_taken(graph: Graph, program: _Paddle) -> Iterator[Diagnostic]:
    """Warn where Paddle will give names of a legacy program again."""
    if graph.kind is ProgramKind.PIR or _legacy_mode.counts_by_program(program):
        return
    if taken := [name for name in graph.values if _COUNTED.fullmatch(name)]:
        yield problems.names_taken(graph, taken)


def _cut_off(graph: Graph, fetches: Iterable[str], trainable: frozenset[str]) -> list[str]:
    """Return parameters that no gradient from the outputs reaches, in program order."""
    if graph.kind is ProgramKind.LEGACY:
        return []
    found = reached(graph, fetches)
    return [name for name in persistables(graph) if name in trainable - found]
