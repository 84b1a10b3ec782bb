"""Merge a teacher into a student's Program: checked first, and rolled back on any failure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike, fspath

from graphtool.backend import legacy_joining, pir_joining
from graphtool.backend.counters import advance_counters, counted_names, restore_counters_on
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.facts import known_operators
from graphtool.backend.interrupts import heed_interrupt
from graphtool.backend.joining import NewNames
from graphtool.backend.layer_weights import missing_tensors, weights_layer
from graphtool.backend.live import LiveProgram, graph_before_merges, live_program
from graphtool.backend.paddle import Paddle, load_paddle, static_mode
from graphtool.backend.registry import merge_records, set_merge_records
from graphtool.backend.tensors import assign_tensors
from graphtool.checks import MergePlan, ParametersWhen, run_rules
from graphtool.diagnostics import MergeError, Report, Severity, warn
from graphtool.graph import ProgramKind, collection_paused
from graphtool.merging._teacher import (
    Provenance,
    Scopes,
    Teacher,
    open_teacher,
    program_kind,
    transfer_weights,
)
from graphtool.merging.checking import (
    MergeOptions,
    TeacherWeights,
    check_sources,
    operator_types,
    plan_merge,
)
from graphtool.merging.merged import Merged, inherited_merges, merged_of, register
from graphtool.merging.verify import Comparison, Verification
from graphtool.sources import read
from graphtool.sources.layers import Network

__all__ = ["Comparison", "Merged", "Verification", "merge", "merged_of"]


def merge(
    teacher_program: Paddle,
    student_program: Paddle,
    feed_map: Mapping[str, str],
    place: Paddle | None = None,
    scope: Paddle | None = None,
    teacher_scope: Paddle | None = None,
    name_prefix: str = "teacher_",
    *,
    parameters: str = "now",
    share: bool = False,
    shared: Iterable[str] = (),
) -> Merged:
    """Merge a frozen teacher into the student's Program, in place, after checking everything.

    The teacher is a live Program, a Network, or the path of a saved model, which is loaded with its
    weights. The student is a live Program or a Network. A teacher that has a teacher itself is
    merged as it was before that merge, with its current weights: neither its own teacher nor its
    optimizer is merged.

    `feed_map` maps teacher feed names to student feed names. A teacher feed mapped to its own name
    with the prefix stays a separate feed.

    `scope` holds the student's tensors, the global Scope if None. Those of a dynamic-mode Layer are
    copied there; it is an error if the Scope has other tensors under their names. `teacher_scope`
    holds the teacher's tensors; if None it is `scope`, or for a teacher that has a teacher, the
    Scope in which it was trained.

    The teacher's tensors are copied, except those of a saved model, which are shared because
    nothing else holds them. `share=True` shares those of `teacher_scope` as well, except tensors
    that the student's Scope or one of its parameters also uses. It saves memory, but running the
    teacher's startup program again, or training it, then changes the merged teacher. If `place` is
    another device, all tensors are copied to it.

    With `parameters="later"` no weights are transferred; load them with `Merged.load_teacher`.
    `shared` names parameters of both networks to merge into one: the student's, which the teacher
    then reads while it is trained.

    The `report` of the result has all Diagnostics of the checks; its warnings are also issued as
    Python warnings.

    Raises MergeError with all Diagnostics of the checks, or with GT258 if Paddle fails. Raises
    UsageError: GT248 for an argument of a wrong type or value. Raises ReadError if the teacher
    cannot be read. On any failure, interrupts included, both Programs and both Scopes are left as
    they were.

    A Scope made by `scope.new_scope()` is destroyed by `scope.drop_kids()`. Using it afterwards,
    also through a Merged, crashes the process.

    Threads: calls that change or run Programs, or read or set tensors in Scopes, run one at a time;
    other threads wait. `program_guard`, the mode and the kind of Programs that Paddle builds are
    process-wide. If several threads use them, hold one lock of your own around each guard, each
    graphtool call and each `Executor.run`. A guard that exits while another thread is inside one
    leaves that thread with the wrong Program. graphtool refuses this if it can detect it (GT340,
    GT258), and Paddle may crash.
    """
    check_sources(teacher_program, student_program, teachers=(str, PathLike))
    options = MergeOptions.of(
        feed_map,
        name_prefix,
        parameters,
        shared,
        place=place,
        scope=scope,
        teacher_scope=teacher_scope,
    )
    with raise_paddle_errors_as(MergeError, "gt.merge"):
        with collection_paused():
            inputs = _open_networks(teacher_program, student_program, teacher_scope, options)
            teacher, student = inputs.teacher, inputs.student
            plan = plan_merge(
                teacher.live.graph,
                student.graph,
                inputs.options,
                TeacherWeights(
                    scope=teacher.scope, file=teacher.file, in_source=teacher.has_own_weights
                ),
                known=(operator_types(teacher.live.graph), operator_types(student.graph)),
                merges=merge_records(student.program),
            )
        return _checked_merge(inputs, plan, share=share)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _MergeInputs:
    """The opened teacher and student; `network` is the student if it was given as a Network."""

    teacher: Teacher
    student: LiveProgram
    network: Network | None
    options: MergeOptions


def _open_networks(
    teacher: Paddle, student: Paddle, teacher_scope: Paddle | None, options: MergeOptions
) -> _MergeInputs:
    kind = program_kind(student)
    scope = load_paddle().static.global_scope() if options.scope is None else options.scope
    student_live = live_program(student)
    options = replace(options, scope=scope).with_networks(teacher, student)
    if isinstance(teacher, str | PathLike) or program_kind(teacher) is not kind:
        _check_before_opening(teacher, student_live, options)
    opened = open_teacher(teacher, teacher_scope, scope, kind)
    if options.one_program:
        # Paddle hangs if a Program is copied into its own Block.
        with static_mode(opened.live.kind):
            clone = LiveProgram.of(opened.live.program.clone())
        opened = replace(opened, live=replace(clone, graph=opened.live.graph))
    return _MergeInputs(
        teacher=opened,
        student=student_live,
        network=student if isinstance(student, Network) else None,
        options=options,
    )


# Checked before Paddle opens the teacher: opening can abort the process, translation hides them.
_CODES_BEFORE_OPENING = frozenset({"GT219", "GT243", "GT244"})


def _check_before_opening(teacher: Paddle, student: LiveProgram, options: MergeOptions) -> None:
    """Check a teacher before Paddle opens or translates it, which can abort the process.

    Raises MergeError with all errors.
    """
    graph = (
        read(fspath(teacher))
        if isinstance(teacher, str | PathLike)
        else graph_before_merges(teacher)
    )
    known = known_operators(graph.kind), operator_types(student.graph)
    plan = plan_merge(graph, student.graph, options, TeacherWeights(in_source=True), known=known)
    errors = run_rules(plan).errors
    if any(found.code in _CODES_BEFORE_OPENING for found in errors):
        raise MergeError(*errors)


def _checked_merge(inputs: _MergeInputs, plan: MergePlan, *, share: bool) -> Merged:
    """Check, then merge; any failure rolls back to the state before."""
    report = run_rules(plan)
    if report.errors:
        raise MergeError(*report)
    for found in report:
        if found.severity is Severity.WARNING:
            warn(found)
    if plan.parameters is ParametersWhen.NOW:
        inputs.teacher.load(inputs.teacher.scope)
    with static_mode(inputs.student.kind), ExitStack() as undo:
        merged = _merge(inputs, plan, report, undo, share=share)
        # Garbage collection has just run, for some milliseconds: check for Ctrl-C once more.
        heed_interrupt()
        undo.pop_all()
    return merged


@collection_paused()
def _merge(
    inputs: _MergeInputs, plan: MergePlan, report: Report, undo: ExitStack, *, share: bool
) -> Merged:
    teacher, student, options = inputs.teacher, inputs.student, inputs.options
    scopes = Scopes(
        teacher=teacher.scope, student=options.scope, share=share or teacher.has_own_weights
    )
    inherited = inherited_merges(student)
    # Clones: later changes to the teacher's Program must not affect the merge.
    originals = teacher.live.program.clone(), student.program.clone()
    undo.callback(set_merge_records, student.program, merge_records(student.program))
    joining = pir_joining if student.kind is ProgramKind.PIR else legacy_joining
    names = NewNames(
        feed_map=plan.feed_map,
        replacements=plan.replacements,
        renames=plan.renames,
        unmapped_feeds=plan.unmapped_feeds,
        prefix=plan.prefix,
    )
    joined = joining.join(names, teacher.live, student, undo)
    if plan.parameters is ParametersWhen.NOW:
        transfer_weights(plan, scopes, options.place, undo)
    merged = Merged(
        plan=plan,
        report=report,
        scopes=scopes,
        place=options.place,
        joined=joined,
        originals=originals,
        before=student,
        source=teacher.live,
        network=inputs.network,
        provenance=_provenance(plan, teacher),
    )
    layer = weights_layer(inputs.network)
    if layer is not None:
        # Copied, because the Layer may be trained further.
        missing = missing_tensors(layer, options.scope)
        assign_tensors(missing, options.scope, copied=frozenset(missing), undo=undo)
    restore_counters_on(student.program, undo)
    advance_counters(student.program, counted_names(student.graph))
    return register(merged, inherited)


def _provenance(plan: MergePlan, teacher: Teacher) -> Provenance:
    if plan.parameters is ParametersWhen.LATER:
        return Provenance.unavailable("they are still to be loaded")
    names = {new: old for old, new in plan.weights}
    if teacher.has_own_weights:
        return Provenance.of_file(teacher.load, names)
    return Provenance.of_scope(teacher.scope, names)
