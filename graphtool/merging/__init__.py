"""Merge a teacher into a student's Program: checked first, then all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphtool.checks import (
    MergePlan,
    ParametersWhen,
    bad_argument,
    check_arguments,
    merged_prefixes,
    parameters_when,
    plan_of,
    run_rules,
)
from graphtool.diagnostics import MergeError, Report, UsageError
from graphtool.garbage import collection_paused
from graphtool.graph import Graph, ProgramKind
from graphtool.merging import _legacy, _pir
from graphtool.merging._backend import Joined, Scopes
from graphtool.merging._teacher import Teacher, as_live, kind_of, open_teacher, working_on
from graphtool.merging.merged import Merged, merged_of, register
from graphtool.merging.verify import Comparison, Verification
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import same_variables, scope_facts
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram

__all__ = ["Comparison", "Merged", "Verification", "merge", "merged_of"]

# Programs, Scopes and Places are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@collection_paused()
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
) -> Merged:
    """Merge a frozen teacher into the student's Program, in place, after checking everything.

    The teacher is a live Program, a Network or the path of a saved model, which brings its weights
    along; the student is a live Program or a Network. `feed_map` goes from teacher feed names to
    student feed names; a teacher feed mapped onto its own name with the prefix stays a feed of its
    own. `scope` holds the student's tensors (the global Scope where None), `teacher_scope` the
    teacher's (that same one where None). The teacher's tensors are copied; those of a saved model,
    which nothing else holds, are shared. With `share=True` so are those of `teacher_scope`, except
    where the student's Scope or a parameter of the student's reaches them: it takes no memory, but
    running the teacher's startup program again, or training it, then changes the merged teacher.
    Onto another `place` all are copied. With `parameters="later"` no tensor is touched, and
    `Merged.load_teacher` brings them.

    Raises MergeError with all Diagnostics of the checks, UsageError GT249 for another
    `parameters`, GT248 for arguments of another type, ReadError where the teacher cannot be read:
    nothing has changed then. On any other failure, too, both Programs and both Scopes are as they
    were.
    """
    check_arguments(feed_map, name_prefix, scope=scope, teacher_scope=teacher_scope)
    home = _place_of(place)
    when = parameters_when(parameters)
    kind = kind_of(student_program)
    request = _Request(
        student=as_live(student_program),
        feed_map=feed_map,
        prefix=name_prefix,
        when=when,
        scope=_or_global(scope),
        same=_program(teacher_program) is _program(student_program),
        share=share,
    )
    opened = open_teacher(teacher_program, teacher_scope, request.scope, kind)
    teacher = _apart(opened, request)
    plan = _plan(teacher, request)
    report = run_rules(plan)
    if report.errors:
        raise MergeError(*report)
    return _merge(plan, report, teacher, request, home)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Request:
    student: LiveProgram
    feed_map: Mapping[str, str]
    prefix: str
    when: ParametersWhen
    scope: _Paddle
    same: bool
    share: bool


def _program(source: _Paddle) -> _Paddle:
    return source.program if isinstance(source, Network | LiveProgram) else source


def _place_of(place: _Paddle | None) -> _Paddle | None:
    """Return a Place for one, or for what Paddle calls it: `cpu`, `gpu:0`."""
    try:
        return load_paddle().base.framework._get_paddle_place(place)  # noqa: SLF001
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(bad_argument("place", place, f"a Place: {error}")) from None


def _or_global(scope: _Paddle | None) -> _Paddle:
    return load_paddle().static.global_scope() if scope is None else scope


def _apart(teacher: Teacher, request: _Request) -> Teacher:
    """Put a clone in the place of a teacher that is the student's own Program.

    Paddle hangs where a Program is copied into its own Block.
    """
    if not request.same:
        return teacher
    with working_on(teacher.live.kind):
        now = LiveProgram.of(teacher.live.program.clone())
    return replace(teacher, live=replace(now, graph=teacher.live.graph))


def _plan(teacher: Teacher, request: _Request) -> MergePlan:
    plan = plan_of(
        teacher.live.graph,
        request.student.graph,
        request.feed_map,
        prefix=request.prefix,
        parameters=request.when,
        one_program=request.same,
        prefixes=merged_prefixes(request.student.program),
        operators=_types(teacher.live.graph),
        parameter_file=teacher.file,
        brings_weights=teacher.loads,
    )
    names = [*plan.student_kept, *(new for _, new in plan.renames)]
    return replace(
        plan,
        same_variables=same_variables(teacher.scope, request.scope, plan.teacher_kept),
        student_scope=scope_facts(request.scope, names),
        teacher_scope=None if teacher.loads else scope_facts(teacher.scope, plan.teacher_kept),
    )


def _types(graph: Graph) -> frozenset[str]:
    # A live Program has no operator that the Paddle at hand doesn't know.
    return frozenset(operator.type for operator in graph.operators.values())


def _merge(
    plan: MergePlan, report: Report, teacher: Teacher, request: _Request, place: _Paddle | None
) -> Merged:
    student = request.student
    scopes = Scopes(
        teacher=teacher.scope, student=request.scope, share=request.share or teacher.loads
    )
    if plan.parameters is ParametersWhen.NOW:
        teacher.load()
    with working_on(student.kind):
        before = student.program.clone()
        joined = _join(plan, teacher.live, student, scopes, place)
    return register(
        Merged(
            plan=plan,
            report=report,
            scopes=scopes,
            place=place,
            joined=joined,
            originals=(teacher.live.program, before),
            before=student,
            source=teacher.live,
        )
    )


def _join(
    plan: MergePlan,
    teacher: LiveProgram,
    student: LiveProgram,
    scopes: Scopes,
    place: _Paddle | None,
) -> Joined:
    if student.kind is ProgramKind.PIR:
        return _pir.join(plan, teacher, student, scopes, place)
    return _legacy.join(plan, teacher, student, scopes, place)
