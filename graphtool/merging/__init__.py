"""Merge a teacher into a student's Program: checked first, then all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any, TypeAlias

from graphtool.checks import (
    MergePlan,
    ParametersWhen,
    Wanted,
    Weights,
    check_sources,
    plan_for,
    run_rules,
)
from graphtool.diagnostics import MergeError, Report, Severity, warn
from graphtool.garbage import collection_paused
from graphtool.graph import Graph, ProgramKind
from graphtool.merging import _legacy, _pir
from graphtool.merging._backend import Scopes
from graphtool.merging._failures import paddle_failures
from graphtool.merging._interrupts import heed_interrupt
from graphtool.merging._provenance import Provenance, from_file, from_nowhere, from_scope
from graphtool.merging._scope import hand_over
from graphtool.merging._teacher import Teacher, kind_of, open_teacher
from graphtool.merging.merged import Merged, inherited_by, merged_of, register
from graphtool.merging.verify import Comparison, Verification
from graphtool.readers import read
from graphtool.readers._paddle import load_paddle, static_mode
from graphtool.readers.counters import count_past, keep_counters, user_names
from graphtool.readers.facts import known_operators
from graphtool.readers.layer_weights import (
    changed_since_start,
    dynamic_layer,
    is_to_start,
    lacking_tensors,
)
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram, as_live, own_graph, program_of
from graphtool.readers.registry import note, noted

__all__ = ["Comparison", "Merged", "Verification", "merge", "merged_of"]

# Programs, Scopes and Places are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def merge(
    teacher_program: _Paddle,
    student_program: _Paddle,
    feed_map: Mapping[str, str],
    place: _Paddle | None = None,
    scope: _Paddle | None = None,
    teacher_scope: _Paddle | None = None,
    name_prefix: str = "teacher_",
    *,
    parameters: str = "now",
    share: bool = False,
    shared: Iterable[str] = (),
) -> Merged:
    """Merge a frozen teacher into the student's Program, in place, after checking everything.

    The teacher is a live Program, a Network or the path of a saved model, which brings its weights
    along; the student is a live Program or a Network. `feed_map` goes from teacher feed names to
    student feed names; a teacher feed mapped onto its own name with the prefix stays a feed of its
    own. A teacher that had a teacher itself is merged as it was before that, with what it has
    learnt since: neither its teacher nor what trained it comes along. `scope` holds the student's
    tensors (the global Scope where None); those of a Layer of
    dynamic mode are put there, and it is an error where it has others under their names.
    `teacher_scope` holds the teacher's (that same one where None; the one it learnt in, for a
    teacher that had a teacher). The teacher's tensors are
    copied; those of a saved model, which nothing else holds, are shared. With `share=True` so are
    those of `teacher_scope`, except where the student's Scope or a parameter of the student's
    reaches them: it takes no memory, but running the teacher's startup program again, or training
    it, then changes the merged teacher. Onto another `place` all are copied. With
    `parameters="later"` none of them is touched, and `Merged.load_teacher` brings them. `shared`
    names parameters of both networks that are to be one: the student's, which the teacher reads as
    it is trained.

    `report` of what is returned has all Diagnostics of the checks; its warnings are warned of.

    Raises MergeError with all Diagnostics of the checks, or GT258 where Paddle fails, UsageError
    GT249 for another `parameters`, GT248 for arguments of another type, ReadError where the teacher
    cannot be read: nothing has changed then. On any other failure, and an interrupt, too, both
    Programs and both Scopes are as they were.

    A Scope that `scope.new_scope()` made is gone after `scope.drop_kids()`: whatever uses it then,
    a Merged too, ends the process.

    Threads: one at a time is in a call that changes or runs Programs, or reads or sets what Scopes
    hold; the others wait for it. A `program_guard`, the mode, and which kind of Programs Paddle
    builds are the whole process's. Where several threads use those, let one lock of yours cover
    each guard, each call of graphtool's and each `Executor.run`: a guard that is left while another
    thread is in one gives that thread the wrong Program, which graphtool refuses if it can tell
    (GT359, GT258), and Paddle may crash of.
    """
    check_sources(teacher_program, student_program, teachers=(str, PathLike))
    wanted = Wanted.of(
        feed_map,
        name_prefix,
        parameters,
        shared,
        place=place,
        scope=scope,
        teacher_scope=teacher_scope,
    )
    with paddle_failures(MergeError, "gt.merge"):
        with collection_paused():
            sides = _Sides.of(teacher_program, student_program, teacher_scope, wanted)
            plan = _plan(sides)
        return _merge(sides, plan, share=share)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sides:
    """Both networks, opened, and what is wanted of them."""

    teacher: Teacher
    student: LiveProgram
    network: Network | None
    wanted: Wanted

    @classmethod
    def of(
        cls, teacher: _Paddle, student: _Paddle, teacher_scope: _Paddle | None, wanted: Wanted
    ) -> _Sides:
        kind = kind_of(student)
        scope = load_paddle().static.global_scope() if wanted.scope is None else wanted.scope
        same = program_of(teacher) is program_of(student)
        live = as_live(student)
        wanted = replace(
            wanted,
            scope=scope,
            one_program=same,
            layer=dynamic_layer(student),
            to_start=is_to_start(student),
            changed=(changed_since_start(teacher), changed_since_start(student)),
        )
        if isinstance(teacher, str | PathLike) or kind_of(teacher) is not kind:
            _refuse_unopened(_graph_of(teacher), live, wanted)
        opened = open_teacher(teacher, teacher_scope, scope, kind)
        return cls(
            teacher=_apart(opened) if same else opened,
            student=live,
            network=student if isinstance(student, Network) else None,
            wanted=wanted,
        )


# What Paddle must not be given to open, and what a translation leaves no trace of.
_BEFORE_OPENING = frozenset({"GT219", "GT243", "GT244"})


def _graph_of(teacher: _Paddle) -> Graph:
    if isinstance(teacher, str | PathLike):
        return read(fspath(teacher))
    return own_graph(teacher)


def _refuse_unopened(teacher: Graph, student: LiveProgram, wanted: Wanted) -> None:
    """Check a teacher before Paddle opens or translates it, which ends the process for some.

    Raises MergeError with all errors where it is none for this student.
    """
    known = known_operators(teacher.kind), _types(student.graph)
    plan = plan_for(teacher, student.graph, wanted, Weights(brought=True), known=known)
    errors = run_rules(plan).errors
    if any(found.code in _BEFORE_OPENING for found in errors):
        raise MergeError(*errors)


def _apart(teacher: Teacher) -> Teacher:
    """Put a clone in the place of a teacher that is the student's own Program.

    Paddle hangs where a Program is copied into its own Block.
    """
    with static_mode(teacher.live.kind):
        now = LiveProgram.of(teacher.live.program.clone())
    return replace(teacher, live=replace(now, graph=teacher.live.graph))


def _plan(sides: _Sides) -> MergePlan:
    teacher, student = sides.teacher, sides.student
    return plan_for(
        teacher.live.graph,
        student.graph,
        sides.wanted,
        Weights(scope=teacher.scope, file=teacher.file, brought=teacher.loads),
        known=(_types(teacher.live.graph), _types(student.graph)),
        merges=noted(student.program),
    )


def _merge(sides: _Sides, plan: MergePlan, *, share: bool) -> Merged:
    """Check, then join; whatever fails, and whenever, all is as it was before."""
    report = run_rules(plan)
    if report.errors:
        raise MergeError(*report)
    for found in report:
        if found.severity is Severity.WARNING:
            warn(found)
    if plan.parameters is ParametersWhen.NOW:
        sides.teacher.load(sides.teacher.scope)
    with static_mode(sides.student.kind), ExitStack() as undo:
        merged = _joined(sides, plan, report, undo, share=share)
        # Garbage is collected by now, which takes milliseconds.
        heed_interrupt()
        undo.pop_all()
    return merged


@collection_paused()
def _joined(
    sides: _Sides, plan: MergePlan, report: Report, undo: ExitStack, *, share: bool
) -> Merged:
    teacher, student, wanted = sides.teacher, sides.student, sides.wanted
    scopes = Scopes(teacher=teacher.scope, student=wanted.scope, share=share or teacher.loads)
    inherited = inherited_by(student)
    # What its owner does to the teacher's Program later is none of the merge's.
    originals = teacher.live.program.clone(), student.program.clone()
    undo.callback(note, student.program, noted(student.program))
    join = _pir.join if student.kind is ProgramKind.PIR else _legacy.join
    merged = Merged(
        plan=plan,
        report=report,
        scopes=scopes,
        place=wanted.place,
        joined=join(plan, teacher.live, student, scopes, wanted.place, undo),
        originals=originals,
        before=student,
        source=teacher.live,
        network=sides.network,
        provenance=_provenance(plan, teacher),
    )
    _bring_layer(sides.network, wanted.scope, undo)
    keep_counters(student.program, undo)
    count_past(student.program, user_names(student.graph))
    return register(merged, inherited)


def _provenance(plan: MergePlan, teacher: Teacher) -> Provenance:
    if plan.parameters is ParametersWhen.LATER:
        return from_nowhere("they are still to be loaded")
    names = {new: old for old, new in plan.weights}
    return from_file(teacher.load, names) if teacher.loads else from_scope(teacher.scope, names)


def _bring_layer(network: Network | None, scope: _Paddle, undo: ExitStack) -> None:
    """Give the student's Scope what it lacks of the student's Layer, which may train on."""
    layer = dynamic_layer(network)
    if layer is not None:
        lacking = lacking_tensors(layer, scope)
        hand_over(lacking, scope, copied=frozenset(lacking), undo=undo)


def _types(graph: Graph) -> frozenset[str]:
    # A live Program has no operator that the Paddle at hand doesn't know.
    return frozenset([operator.type for operator in graph.operators.values()])
