"""Rules about parameters that teacher and student share."""

from __future__ import annotations

from collections.abc import Iterator

from graphtool.checks.locations import also, format_shape, in_student, in_teacher
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity, counted
from graphtool.graph import Origin, shapes_agree
from graphtool.ops import statistics_of

__all__ = ["not_shareable", "teacher_changes"]


@check("GT208")
def not_shareable(plan: MergePlan) -> Iterator[Diagnostic]:
    """A name in `shared` is not a parameter that teacher and student can share.

    A shared parameter, such as the table of an embedding, has the same name, shape and dtype in
    both programs. Running statistics of a batch norm cannot be shared: they change while the
    student trains.
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
            return f"it is a running statistic of the {role}, which each run changes"
    return None


@check("GT209")
def teacher_changes(plan: MergePlan) -> Iterator[Diagnostic]:
    """Shared parameters are trained with the student, so the teacher changes too.

    Gradients reach them only through the student. The teacher's own values for them are not used.
    Set `trainable=False` on the student's parameter to keep the teacher fixed.
    """
    shared = (plan.student_names.get(name) for name in plan.shared)
    trainable = [value for value in shared if value is not None and value.trainable]
    if trainable:
        names = [value.name for value in trainable]
        yield Diagnostic(
            message=f"the teacher shares {counted(len(trainable), 'parameter')} with the student, "
            f"and changes as the student is trained: `{names[0]}`",
            severity=Severity.WARNING,
            where=(in_student(plan, trainable[0]),),
            notes=also(names),
            help="paddle.ParamAttr(name=..., trainable=False)  # in the student, to stop that",
        )
    in_both = (name for name in plan.shared if name in plan.teacher_names)
    unused = [name for name in in_both if name not in plan.same_variables]
    if unused and (plan.brings_weights or plan.teacher_scope is not None):
        yield Diagnostic(
            message=f"{counted(len(unused), 'tensor')} of the teacher will not be used, as the "
            f"student's is shared: `{unused[0]}`",
            severity=Severity.WARNING,
            where=(in_teacher(plan, plan.teacher_names.get(unused[0]), unused[0]),),
            notes=also(unused),
        )
