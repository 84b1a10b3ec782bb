"""Open models with their parameters, and make those saved for inference trainable again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath

from graphtool.arguments import bad_argument
from graphtool.backend import legacy, pir
from graphtool.backend.generators import advance_counters, counted_names
from graphtool.backend.layer_weights import copy_layer_tensors
from graphtool.backend.live import (
    LiveProgram,
    is_live,
    open_saved,
    program_of,
)
from graphtool.backend.paddle import Paddle, in_mode, is_legacy, load_paddle, program_lock
from graphtool.backend.tensors import looks_untrained, new_scope
from graphtool.checks import persistable_names
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
    listed,
    rule,
)
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.evidence.networks import random_weights
from graphtool.graph import Graph, ProgramKind, variable_of
from graphtool.ops import BATCH_NORMS, NORMS, is_training, statistics_of
from graphtool.paths import path_exists
from graphtool.readers.files import find_parameters
from graphtool.readers.problems import no_parameters_beside
from graphtool.readers.weights import SUFFIXES, persistable_values
from graphtool.sources import read
from graphtool.sources.builder import build
from graphtool.sources.inputs import is_callable_spec
from graphtool.sources.layers import Network
from graphtool.structure import analyse
from graphtool.training.parameters import load_parameters
from graphtool.training.program_info import ancestors

__all__ = ["Model", "Trainable", "for_training", "open_model"]


_COUNTED_NAME = re.compile(r"(?:.*\.)?tmp_\d+")
_LISTED = 6


def _of_file(graph: Graph, message: str, severity: Severity = Severity.NOTE) -> Diagnostic:
    return Diagnostic(message=message, severity=severity, where=(Where(program=graph.source),))


@rule("GT511", replaces=("GT510", "GT512", "GT514"))
def lost_in_export(
    graph: Graph, message: str, where: Sequence[Where] = (), severity: Severity = Severity.NOTE
) -> Diagnostic:
    """The file lacks what the network may have had in training; saving it removed that.

    Label and loss always: add a label (`paddle.static.data`) and a loss before `minimize`. Exports
    may fold batch norms into convolutions, which cannot be undone, and leave out dropout, which
    does nothing in test mode. The file cannot tell, and some networks (VGG) never had them.
    Training without normalisation takes a smaller learning rate.

    It is a warning if operators lack a result that their gradient needs, as a `sync_batch_norm` of
    GPUs does: minimizing a loss that depends on one may fail, or end the process. Build the network
    from its code then, and load the parameters of the file into it.
    """
    where = tuple(where) or (Where(program=graph.source),)
    return Diagnostic(message=message, severity=severity, where=where)


@rule("GT516")
def nothing_to_restore(graph: Graph) -> Diagnostic:
    """The program is not an inference model: nothing is in test mode or fetched."""
    return _of_file(graph, "no operator is in test mode: the program is unchanged")


@rule("GT518")
def statistics_learn_again(graph: Graph, count: int) -> Diagnostic:
    """Batch norms use the statistics of the batch again, and update their running statistics.

    The network may have been trained with frozen statistics (`use_global_stats=True`): in an
    inference model that looks like test mode.
    """
    return _of_file(
        graph, f"{counted(count, 'batch norm')} in training mode, even if trained frozen"
    )


@rule("GT519", replaces=("GT515",))
def cut_off(graph: Graph, message: str, severity: Severity) -> Diagnostic:
    """These parameters are not trained: they were saved as frozen, or no gradient reaches them.

    Set `trainable` on frozen ones that you want to train. A Value on the way may stop gradients
    (`stop_gradient`, `detach`), or an operator has no gradient. The network may be meant so. A loss
    on a Value before that place reaches them.
    """
    return _of_file(graph, message, severity)


@rule("GT521")
def names_taken(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """The legacy program uses names that Paddle will give to new operators too.

    Paddle counts names (`tmp_0`) from 0 in every process, and an operator silently overwrites a
    Variable that exists: a loss `tmp_0` and the network's `tmp_0` would be one. Use a prefix for
    what you add.
    """
    return Diagnostic(
        message=f"Paddle would use these names again: {listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
        help='with paddle.utils.unique_name.guard("loss_"): ...',
    )


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
    live = _open_program(inference_program)
    before = live.graph
    operator = next(filter(is_training, before.operators.values()), None)
    if operator is not None:
        message = f"the program already has gradients: `{operator.name}`"
        where = (Where(program=before.source, value=operator.name),)
        fix = "give the program from before `minimize`, or the inference model"
        raise GraphtoolError(already_minimized(message, where=where, help=fix))
    plan = _plan(before)
    backend = legacy if live.kind is ProgramKind.LEGACY else pir
    with in_mode(static=True):
        program = backend.training_clone(
            live.program,
            trainable=plan.trainable,
            statistics=plan.statistics,
            unstopped=plan.unstopped,
        )
    after = LiveProgram.of(program)
    advance_counters(program, counted_names(after.graph))
    found = list(_diagnostics(before, after.graph, plan))
    # Paddle 2.6 counts names by process, later releases by Program.
    if live.kind is ProgramKind.LEGACY and not hasattr(program, "_name_generator"):
        taken = [name for name in before.values if _COUNTED_NAME.fullmatch(name)]
        found += [names_taken(before, taken)] if taken else []
    # Translated Values keep their aliases.
    values = {
        name: replace(value, aliases=before.values[name].aliases)
        if name in before.values and before.values[name].aliases
        else value
        for name, value in after.graph.values.items()
    }
    graph = replace(after.graph, source=before.source, values=values, fetches=before.fetches)
    return Trainable(
        live=replace(after, graph=graph),
        feeds=before.feeds,
        fetches=before.fetches,
        report=Report.of(found),
    )


def _open_program(source: Paddle | str | PathLike[str]) -> LiveProgram:
    """Return a Program, or that of a saved model, with its Graph."""
    if isinstance(source, LiveProgram):
        return source
    if not isinstance(source, str | PathLike):
        if not is_live(source):
            wanted = "a Program, or the path of a saved model"
            call = 'gt.for_training("student.json")'
            raise UsageError(bad_argument("inference_program", source, wanted, call))
        return LiveProgram.of(program_of(source))
    is_legacy_default = is_legacy(load_paddle().static.Program())
    kind = ProgramKind.LEGACY if is_legacy_default else ProgramKind.PIR
    return open_saved(read(fspath(source)), kind)


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
    statistics = frozenset(
        variable_of(name, graph)
        for operator in graph.operators.values()
        for name in statistics_of(operator)
    )
    read_names = {variable_of(name, graph) for name in graph.consumers}
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
        yield nothing_to_restore(before)
        return
    outputs = before.fetches
    has = f"its outputs are {listed(outputs)}" if outputs else "it has no outputs"
    where = [
        Where(program=before.source, value=name, shape=before.values[name].shape)
        for name in outputs[:_LISTED]
    ]
    yield lost_in_export(before, f"label and loss are not in the file; {has}", where)
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
        yield lost_in_export(before, f"{count}, no batch norm: folded ones are lost")
    if not any("dropout" in kind for kind in kinds):
        message = "no dropout in the file: if the network had any, it cannot be restored"
        yield lost_in_export(before, message)
    norms = [operator for operator in operators if operator.kind in BATCH_NORMS]
    flags = ("use_global_stats", "is_test")
    if count := sum(any(norm.attributes.get(flag) for flag in flags) for norm in norms):
        yield statistics_learn_again(before, count)
    if plan.frozen:
        names = f"{counted(len(plan.frozen), 'parameter')} frozen in the file: "
        yield cut_off(before, names + listed(plan.frozen), Severity.NOTE)
    if after.kind is ProgramKind.PIR:
        yield from _gradient_diagnostics(before, after, plan.trainable)


def _gradient_diagnostics(
    before: Graph, after: Graph, trainable: frozenset[str]
) -> Iterator[Diagnostic]:
    # Translation leaves a result empty that the operator did not have.
    empty = Counter(
        operator.kind
        for operator in after.operators.values()
        if operator.kind in BATCH_NORMS
        and any(after.values[name].dtype is None for name in operator.results)
    )
    for kind, number in empty.items():
        lacks = f"{counted(number, 'operator')} `{kind}` without a result that its gradient needs"
        yield lost_in_export(before, lacks, severity=Severity.WARNING)
    reached = ancestors(after, before.fetches, gradient=True)
    lost = [name for name in persistable_values(after) if name in trainable - reached]
    if lost:
        names = f"no gradient from the outputs reaches {counted(len(lost), 'parameter')}: "
        yield cut_off(before, names + listed(lost), Severity.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A network ready to be merged: its Program, and the Scope that holds its parameters.

    `network` is set for a network built from code. It has the keys of the Layer's state dict, but
    not the Layer: the weights are in the Scope.
    """

    live: LiveProgram
    scope: Paddle
    report: Report
    network: Network | None = None

    @property
    def graph(self) -> Graph:
        """The Graph of the Program."""
        return self.live.graph


def open_model(
    source: str, *, role: str, inputs: Sequence[str] = (), weights: str | None = None
) -> Model:
    """Open a model with its parameters in a new Scope; a student is trainable.

    `source` is a saved model, whose parameters lie beside it unless `weights` names others, or
    `module:callable` with `inputs` as `gt.read` takes them. A saved student goes through
    `for_training`. A network from code is built in training mode as a student, in test mode as a
    teacher, and keeps the weights that the callable gave it unless `weights` names a file.

    A saved student without parameters is an error in the Model's report: GT250.

    Raises GraphtoolError as `gt.read`, `for_training` and `load_parameters` do.
    """
    scope = new_scope()
    is_student = role == "student"
    if path_exists(source) or not is_callable_spec(source):
        return _open_saved(source, scope, weights, is_student=is_student)
    built_scope = new_scope()
    built = build(source, inputs, train=is_student, scope=built_scope)
    if not isinstance(built, Network):
        if weights is None:
            return Model(live=built, scope=built_scope, report=Report())
        loaded = load_parameters(built, weights, scope=scope)
        return Model(live=built, scope=scope, report=loaded.report)
    # This includes the Layer's non-persistable buffers, which are in no file.
    copy_layer_tensors(built.layer, scope)
    if weights is None:
        report = _weights_report(built, scope, role)
    else:
        report = load_parameters(built, weights, scope=scope).report
    return Model(live=built.live, scope=scope, report=report, network=replace(built, layer=None))


def _open_saved(source: str, scope: Paddle, weights: str | None, *, is_student: bool) -> Model:
    if is_student:
        trainable = for_training(source)
        live, found = trainable.live, list(trainable.report)
    else:
        live, found = _open_program(source), list[Diagnostic]()
    names = persistable_names(live.graph)
    file = weights or find_parameters(live.graph.source, names, endings=SUFFIXES)
    if file is not None:
        found += load_parameters(live.program, file, scope=scope).report
    elif is_student and names:
        found.append(no_parameters_beside(live.graph.source))
    return Model(live=live, scope=scope, report=Report.of(found))


def _weights_report(built: Network, scope: Paddle, role: str) -> Report:
    """Warn unless the weights that the callable gave its Layer are clearly trained."""
    random = looks_untrained(scope, persistable_values(built.graph))
    if not built.parameters or random is False:
        return Report()
    if random:
        message = f"the {role}'s parameters are those of a network that was just built"
    else:
        message = f"it is unknown whether `{built.graph.source}` loads the weights of the {role}"
    found = random_weights(
        message,
        where=(Where(role=role, program=built.graph.source),),
        severity=Severity.WARNING if role == "teacher" else Severity.NOTE,
        help=f"--{role}-weights FILE",
    )
    return Report((found,))
