"""Rules about parameters that teacher and student are to have in common."""

from __future__ import annotations

from collections.abc import Iterator

from graphtool.checks.places import also, in_student, in_teacher, spelt
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity, Where, counted
from graphtool.graph import Origin, shapes_agree
from graphtool.structure import statistics_of

__all__ = ["not_shareable", "teacher_moves_with_student"]


@check("GT208")
def not_shareable(plan: MergePlan) -> Iterator[Diagnostic]:
    """A name in `shared` is no parameter of both networks, or one that they can't have in common.

    `shared` names parameters that teacher and student are to have as one, as where both embed words
    by one table: they have one name in both programs, one shape and one dtype. What an operator
    writes while the student trains (the running statistics of a batch norm) can't be shared: the
    teacher would read numbers of the same run.
    """
    for name in plan.shared:
        reason = _reason(plan, name)
        if reason is not None:
            yield Diagnostic(
                message=f"`{name}` cannot be shared: {reason}",
                where=tuple(_places(plan, name)),
                help=_without(plan, name),
            )


def _reason(plan: MergePlan, name: str) -> str | None:
    teacher, student = plan.teacher_names.get(name), plan.student_names.get(name)
    sides = (("teacher", plan.teacher, teacher), ("student", plan.student, student))
    for role, _, value in sides:
        if value is None or value.origin is not Origin.PARAMETER:
            return f"the {role} has no parameter of that name"
    assert teacher is not None
    assert student is not None
    if teacher.dtype != student.dtype or not shapes_agree(teacher.shape, student.shape):
        return (
            f"it is {spelt(teacher.shape)} {teacher.dtype} in the teacher and "
            f"{spelt(student.shape)} {student.dtype} in the student"
        )
    for role, graph, _ in sides:
        if any(name in statistics_of(operator) for operator in graph.operators.values()):
            return f"it is a running statistic of the {role}, which each run moves"
    return None


def _places(plan: MergePlan, name: str) -> Iterator[Where]:
    yield in_teacher(plan, plan.teacher_names.get(name), name)
    yield in_student(plan, plan.student_names.get(name), name)


def _without(plan: MergePlan, name: str) -> str:
    left = tuple(other for other in plan.shared if other != name)
    return f"merge(..., shared={left})"


@check("GT209")
def teacher_moves_with_student(plan: MergePlan) -> Iterator[Diagnostic]:
    """Shared parameters are the student's: they are trained, and the teacher's answers with them.

    No gradient reaches them by way of the teacher, only by the student's own use of them. The
    teacher's numbers for them, where it has others, are not used. Set `trainable=False` on the
    parameter of the student to keep the teacher as it is.
    """
    ours = (plan.student_names.get(name) for name in plan.shared)
    moving = [value for value in ours if value is not None and value.trainable]
    if moving:
        names = [value.name for value in moving]
        yield Diagnostic(
            message=f"the teacher has {counted(len(moving), 'parameter')} in common with the "
            f"student, and changes as the student is trained: `{names[0]}`",
            severity=Severity.WARNING,
            where=(in_student(plan, moving[0]),),
            notes=also(names),
            help="paddle.ParamAttr(name=..., trainable=False)  # in the student, to stop that",
        )
    held = (name for name in plan.shared if name in plan.teacher_names)
    apart = [name for name in held if name not in plan.same_variables]
    if apart and (plan.brings_weights or plan.teacher_scope is not None):
        yield Diagnostic(
            message=f"{counted(len(apart), 'tensor')} of the teacher's own, in place of which the "
            f"student's is shared, will not be used: `{apart[0]}`",
            severity=Severity.WARNING,
            where=(in_teacher(plan, plan.teacher_names.get(apart[0]), apart[0]),),
            notes=also(apart),
        )
