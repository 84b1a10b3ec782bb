"""Check a merge, then merge a teacher into a student's Program; any failure rolls back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import TypeVar, cast

from graphtool.arguments import bad_argument
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.facts import (
    as_place,
    device_facts,
    is_pir_default,
    known_operators,
    same_variables,
    scope_facts,
)
from graphtool.backend.generators import advance_counters, counted_names, restore_counters_on
from graphtool.backend.joining import NewNames, join
from graphtool.backend.layer_weights import (
    changed_since_start,
    differing_tensors,
    has_pending_startup,
    missing_tensors,
    weights_layer,
)
from graphtool.backend.live import (
    LiveProgram,
    graph_before_merges,
    is_live,
    live_program,
    merge_records,
    open_saved,
    program_before_merges,
    program_of,
    set_merge_records,
    translate,
)
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle, static_mode
from graphtool.backend.tensors import assign_tensors, initialised_tensors, new_scope
from graphtool.both import Both
from graphtool.checks.plan import (
    MergePlan,
    ParametersWhen,
    check_arguments,
    plan_without_facts,
    saved_names,
)
from graphtool.checks.rules import run_rules
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    MergeError,
    ReadError,
    Report,
    Severity,
    UsageError,
    warn,
)
from graphtool.facts import ScopeFacts
from graphtool.graph import Graph, ProgramKind, collection_paused
from graphtool.interrupts import raise_pending_interrupt
from graphtool.merging._teacher import (
    IN_SOURCE,
    Provenance,
    TeacherWeights,
    check_saved_shapes,
    is_saved_model,
    teacher_weights,
    transfer_weights,
)
from graphtool.merging.merged import Merged, inherited_merges, merged_of, register
from graphtool.merging.verify import Comparison, Verification
from graphtool.readers.files import find_parameters
from graphtool.readers.problems import no_parameters_beside
from graphtool.readers.tensor_files import parameter_file_facts
from graphtool.readers.weights import SUFFIXES
from graphtool.sources import Source, read, read_without_teachers
from graphtool.sources.layers import Network

__all__ = ["Comparison", "Merged", "Verification", "check_merge", "merge", "merged_of"]

_Read = TypeVar("_Read")

_LIVE = "a Program or a Network, as graphtool.for_training(path) gives for a saved model"


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
    _check_sources(teacher_program, student_program, teachers=(str, PathLike))
    call = _checked(
        _Call(
            teacher=teacher_program,
            student=student_program,
            feed_map=feed_map,
            prefix=name_prefix,
            parameters=parameters,
            shared=shared,
            place=place,
            scope=load_paddle().static.global_scope() if scope is None else scope,
            teacher_scope=teacher_scope,
        )
    )
    with raise_paddle_errors_as(MergeError, "gt.merge"):
        with collection_paused():
            teacher, student = _open_networks(call)
            weights = teacher_weights(call.teacher, teacher.graph, call.teacher_scope, call.scope)
            known = _operator_types(teacher.graph), _operator_types(student.graph)
            plan = _plan(call, teacher.graph, student.graph, weights, known)
        report = run_rules(plan)
        if report.errors:
            raise MergeError(*report)
        for found in report:
            if found.severity is Severity.WARNING:
                warn(found)
        with static_mode(student.kind), ExitStack() as undo:
            merged = _merge(call, teacher, student, plan, report, weights, undo, share=share)
            # Garbage collection has just run, for some milliseconds: check for Ctrl-C once more.
            raise_pending_interrupt()
            undo.pop_all()
        return merged


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Call:
    """The networks and arguments of a merge; `scope` is the student's, None if it is unknown.

    `teacher_scope` is the one given for the teacher, which may not hold its weights. `restored`:
    the student goes through `for_training` first.
    """

    teacher: Source
    student: Source
    feed_map: Mapping[str, str]
    prefix: str
    parameters: str
    shared: Iterable[str]
    scope: Paddle | None
    teacher_scope: Paddle | None
    place: Paddle | None
    restored: bool = False

    @property
    def one_program(self) -> bool:
        """Return whether both networks are one Program; a path is read anew for each."""
        return is_live(self.teacher) and program_of(self.teacher) is program_of(self.student)


def _checked(call: _Call) -> _Call:
    """Check the arguments of a call, and resolve its place."""
    scopes = {"scope": call.scope, "teacher_scope": call.teacher_scope}
    check_arguments(call.feed_map, call.prefix, call.shared, **scopes)
    # Only strings are compared: PIR Values crash once their Program is gone.
    given, known = cast("object", call.parameters), {when.value for when in ParametersWhen}
    if not isinstance(given, str) or given not in known:
        example = 'merge(..., parameters="later")'
        raise UsageError(bad_argument("parameters", given, "`now` or `later`", example))
    place, wanted = call.place, 'a Place, or what Paddle calls it: "cpu"'
    if not (place is None or isinstance(place, str) or type(place).__name__.endswith("Place")):
        raise UsageError(bad_argument("place", place, wanted))
    try:
        return replace(call, place=None if place is None else as_place(place))
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(bad_argument("place", place, f"a Place: {error}")) from None


def _open_networks(call: _Call) -> tuple[LiveProgram, LiveProgram]:
    """Open both networks; a legacy teacher is translated for a PIR student.

    A teacher that had a teacher itself is opened as it was before that merge, without losses and
    optimizer.
    """
    student = live_program(call.student)
    source, is_pir = call.teacher, student.kind is ProgramKind.PIR
    is_path = isinstance(source, str | PathLike)
    if is_path or is_legacy(program_of(source)) is is_pir:
        _check_before_opening(call, student)
    if is_path:
        return open_saved(read(fspath(source)), student.kind), student
    teacher = program_before_merges(source)
    if teacher.kind is ProgramKind.LEGACY and is_pir:
        teacher = translate(teacher.program)
    if call.one_program:
        # Paddle hangs if a Program is copied into its own Block.
        with static_mode(teacher.kind):
            clone = LiveProgram.of(teacher.program.clone())
        teacher = replace(clone, graph=teacher.graph)
    return teacher, student


# Checked before Paddle opens the teacher: opening can abort the process, translation hides them.
_CODES_BEFORE_OPENING = frozenset({"GT219", "GT243", "GT244"})


def _check_before_opening(call: _Call, student: LiveProgram) -> None:
    """Check a teacher before Paddle opens or translates it, which can abort the process."""
    teacher = call.teacher
    is_path = isinstance(teacher, str | PathLike)
    graph = read(fspath(teacher)) if is_path else graph_before_merges(teacher)
    known = known_operators(graph.kind), _operator_types(student.graph)
    errors = run_rules(_plan(call, graph, student.graph, IN_SOURCE, known)).errors
    if any(found.code in _CODES_BEFORE_OPENING for found in errors):
        raise MergeError(*errors)


@collection_paused()
def _merge(
    call: _Call,
    teacher: LiveProgram,
    student: LiveProgram,
    plan: MergePlan,
    report: Report,
    weights: TeacherWeights,
    undo: ExitStack,
    *,
    share: bool,
) -> Merged:
    network = call.student if isinstance(call.student, Network) else None
    inherited = inherited_merges(student)
    is_now = plan.parameters is ParametersWhen.NOW
    source = weights.scope if weights.load is None else new_scope()
    if is_now and weights.load is not None:
        weights.load(source)
    # Clones: later changes to the teacher's Program must not affect the merge.
    originals = teacher.program.clone(), student.program.clone()
    undo.callback(set_merge_records, student.program, merge_records(student.program))
    names = NewNames(
        feed_map=plan.feed_map,
        replacements=plan.replacements,
        renames=plan.renames,
        unmapped_feeds=plan.unmapped_feeds,
        prefix=plan.prefix,
    )
    joined = join(names, teacher, student, undo)
    provenance = Provenance({}, unknown="they are still to be loaded")
    if is_now:
        share = share or weights.load is not None
        transfer_weights(plan, source, call.scope, call.place, undo, share=share)
        old_names = {new: old for old, new in plan.weights}
        provenance = Provenance(old_names, scope=weights.scope, load=weights.load)
    merged = Merged(
        plan=plan,
        report=report,
        scope=call.scope,
        place=call.place,
        joined=joined,
        originals=originals,
        before=student,
        source=teacher,
        network=network,
        provenance=provenance,
    )
    layer = weights_layer(network)
    if layer is not None:
        # Copied, because the Layer may be trained further.
        missing = missing_tensors(layer, call.scope)
        assign_tensors(missing, call.scope, copied=frozenset(missing), undo=undo)
    restore_counters_on(student.program, undo)
    advance_counters(student.program, counted_names(student.graph))
    return register(merged, inherited)


def _plan(
    call: _Call,
    teacher: Graph,
    student: Graph,
    weights: TeacherWeights,
    known: tuple[frozenset[str] | None, frozenset[str] | None],
) -> MergePlan:
    """Return the plan of a merge with all facts about it; nothing is changed.

    `known` holds the operator types that Paddle knows, for the teacher and for the student.
    """
    plan = plan_without_facts(
        teacher,
        student,
        call.feed_map,
        prefix=call.prefix,
        shared=call.shared,
        translated=call.restored and student.kind is ProgramKind.LEGACY and is_pir_default(),
    )
    is_brought = weights.load is not None
    same_names: frozenset[str] = frozenset()
    if call.scope is not None and weights.scope is not None:
        same_names = same_variables(weights.scope, call.scope, plan.teacher_persistables)
    merges: tuple[Merged, ...] = merge_records(program_of(call.student))
    layer = weights_layer(call.student)
    unlike_layer: tuple[str, ...] | None = ()
    # An earlier merge set the Layer's weights, which may have been trained since.
    if layer is not None and all(one.scope is not call.scope for one in merges):
        unlike_layer = None if call.scope is None else differing_tensors(layer, call.scope)
    ignored: tuple[str, ...] = ()
    given = call.teacher_scope
    if is_brought and given is not None and given is not call.scope:
        ignored = tuple(initialised_tensors(given, plan.teacher_persistables))
    place, types = call.place, _operator_types(teacher)

    def facts(scope: Paddle | None, names: Iterable[str]) -> ScopeFacts | None:
        return None if scope is None else scope_facts(scope, names)

    return replace(
        plan,
        parameters=ParametersWhen(call.parameters),
        one_program=call.one_program,
        prefixes=tuple(earlier.prefix for earlier in merges),
        operators=known[0],
        student_operators=known[1],
        device=None if place is None else device_facts(teacher.kind, types, place),
        parameter_file=weights.file,
        brings_weights=is_brought,
        restored=call.restored,
        startup_pending=has_pending_startup(call.student),
        changed=Both(changed_since_start(call.teacher), changed_since_start(call.student)),
        unlike_layer=unlike_layer,
        ignored_scope_names=ignored,
        same_variables=same_names,
        teacher_scope=facts(weights.scope, plan.teacher_persistables),
        student_scope=facts(
            call.scope, [*plan.student_persistables, *(new for _, new in plan.renames)]
        ),
    )


def _operator_types(graph: Graph) -> frozenset[str]:
    """Return the types of a network's operators: the installed Paddle knows those of a live one."""
    return frozenset(operator.type for operator in graph.operators.values())


def _check_sources(
    teacher: object,
    student: object,
    *,
    teachers: tuple[type, ...],
    students: tuple[type, ...] = (),
) -> None:
    """Refuse networks that are neither live nor of the other types that a call accepts."""
    networks = (("teacher_program", teacher, teachers), ("student_program", student, students))
    found = [
        bad_argument(name, given, "a Program, a Network or a path" if types else _LIVE)
        for name, given, types in networks
        if not (is_live(given) or isinstance(given, types))
    ]
    if found:
        raise UsageError(*found)


def check_merge(
    teacher_program: Source,
    student_program: Source,
    feed_map: Mapping[str, str],
    scope: Paddle | None = None,
    teacher_scope: Paddle | None = None,
    *,
    place: Paddle | None = None,
    name_prefix: str = "teacher_",
    parameters: str = "now",
    shared: Iterable[str] = (),
    restored: bool = False,
    built: bool = False,
) -> Report:
    """Report all problems of merging a teacher into a student.

    Both are live Programs, Networks, paths of saved models, `module:callable` or Graphs. `feed_map`
    maps teacher feed names to student feed names. `scope` holds the student's tensors and the
    teacher's, unless `teacher_scope` is given; a saved teacher has its weights in a file. With a
    `place`, operators without a kernel for it are reported. `shared` names parameters that the
    teacher takes from the student, as for `merge`. `restored` says that the student goes through
    `for_training` before the merge and loads its own parameters, as a saved one does in
    `graphtool merge`. `built` says that building the teacher also makes its weights, as there for
    `module:callable`. No Program or Scope is changed. Networks that cannot be read are in the
    Report too; a rule without the facts it needs (no Scope was given) gives a `not checked` note.

    Raises UsageError: GT248 for arguments of a wrong type or value.
    """
    types = (str, PathLike, Graph)
    _check_sources(teacher_program, student_program, teachers=types, students=types)
    call = _checked(
        _Call(
            teacher=teacher_program,
            student=student_program,
            feed_map=feed_map,
            prefix=name_prefix,
            parameters=parameters,
            shared=shared,
            place=place,
            scope=scope,
            teacher_scope=teacher_scope,
            restored=restored,
        )
    )
    found: list[Diagnostic] = []

    def read_or_report(reader: Callable[[], _Read]) -> _Read | None:
        try:
            return reader()
        except GraphtoolError as error:
            found.extend(error.report)
            return None

    teacher = read_or_report(lambda: read_without_teachers(teacher_program))
    student = read_or_report(lambda: read(student_program))
    if teacher is None or student is None:
        return Report.of(found)
    if call.parameters == ParametersWhen.NOW and restored and is_saved_model(student_program):
        read_or_report(lambda: _check_student_file(student))
    weights = IN_SOURCE
    if not built:
        given = call.teacher_scope
        weights = read_or_report(lambda: teacher_weights(teacher_program, teacher, given, scope))
    known = (
        _known_operators(teacher_program, teacher),
        _known_operators(student_program, student),
    )
    plan = _plan(call, teacher, student, weights or IN_SOURCE, known)
    return Report.of([*found, *run_rules(plan)], about=(teacher, student))


def _check_student_file(student: Graph) -> None:
    """Check a saved student's parameter file, which merging loads."""
    names = saved_names(student)
    path = find_parameters(student.source, names, endings=SUFFIXES)
    if path is None:
        if names:
            raise ReadError(no_parameters_beside(student.source))
    elif not path.is_dir() and path.suffix != ".pdparams":
        facts = parameter_file_facts(path)
        check_saved_shapes(path, student, [shape for shape, _ in facts.tensors])


def _known_operators(source: Source, graph: Graph) -> frozenset[str] | None:
    """Return the operator types that Paddle knows, None if it is not imported.

    Checking files takes less time than importing Paddle. Paddle knows all types of a live PIR
    Program.
    """
    if not isinstance(source, Graph | str | PathLike) and graph.kind is ProgramKind.PIR:
        return _operator_types(graph)
    return known_operators(graph.kind) if "paddle" in sys.modules else None
