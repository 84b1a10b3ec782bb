"""Rules about parameters that teacher and student share."""

from __future__ import annotations

from collections.abc import Iterator

from graphtool.checks.locations import also, format_shape, in_student, in_teacher
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity, counted
from graphtool.graph import Origin, shapes_agree
from graphtool.ops import statistics_of

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
        reason = _why_not_shareable(plan, name)
        if reason is not None:
            yield Diagnostic(
                message=f"`{name}` cannot be shared: {reason}",
                where=(
                    in_teacher(plan, plan.teacher_names.get(name), name),
                    in_student(plan, plan.student_names.get(name), name),
                ),
                help=f"merge(..., shared={tuple(other for other in plan.shared if other != name)})",
            )


def _why_not_shareable(plan: MergePlan, name: str) -> str | None:
    teacher, student = plan.teacher_names.get(name), plan.student_names.get(name)
    networks = (("teacher", plan.teacher, teacher), ("student", plan.student, student))
    for role, _, value in networks:
        if value is None or value.origin is not Origin.PARAMETER:
            return f"the {role} has no parameter of that name"
    assert teacher is not None
    assert student is not None
    if teacher.dtype != student.dtype or not shapes_agree(teacher.shape, student.shape):
        return (
            f"it is {format_shape(teacher.shape)} {teacher.dtype} in the teacher and "
            f"{format_shape(student.shape)} {student.dtype} in the student"
        )
    for role, graph, _ in networks:
        if any(name in statistics_of(operator) for operator in graph.operators.values()):
            return f"it is a running statistic of the {role}, which each run moves"
    return None


@check("GT209")
def teacher_moves_with_student(plan: MergePlan) -> Iterator[Diagnostic]:
    """Shared parameters are the student's: they are trained, and the teacher's answers with them.

    No gradient reaches them by way of the teacher, only by the student's own use of them. The
    teacher's numbers for them, where it has others, are not used. Set `trainable=False` on the
    parameter of the student to keep the teacher as it is.
    """
    shared = (plan.student_names.get(name) for name in plan.shared)
    trainable = [value for value in shared if value is not None and value.trainable]
    if trainable:
        names = [value.name for value in trainable]
        yield Diagnostic(
            message=f"the teacher has {counted(len(trainable), 'parameter')} in common with the "
            f"student, and changes as the student is trained: `{names[0]}`",
            severity=Severity.WARNING,
            where=(in_student(plan, trainable[0]),),
            notes=also(names),
            help="paddle.ParamAttr(name=..., trainable=False)  # in the student, to stop that",
        )
    in_both = (name for name in plan.shared if name in plan.teacher_names)
    unused = [name for name in in_both if name not in plan.same_variables]
    if unused and (plan.brings_weights or plan.teacher_scope is not None):
        yield Diagnostic(
            message=f"{counted(len(unused), 'tensor')} of the teacher's own, in place of which the "
            f"student's is shared, will not be used: `{unused[0]}`",
            severity=Severity.WARNING,
            where=(in_teacher(plan, plan.teacher_names.get(unused[0]), unused[0]),),
            notes=also(unused),
        )
