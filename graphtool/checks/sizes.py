"""The rule about the size of inputs: a teacher that was built for one size."""

from __future__ import annotations

from collections.abc import Iterator

from graphtool.checks.locations import (
    feed_map_argument,
    format_shape,
    in_student,
    in_teacher,
    mapped_feeds,
)
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity
from graphtool.graph import UNKNOWN_DIM, Shape

__all__ = ["fixed_size"]


@check("GT234")
def fixed_size(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher was built for inputs of one size, and the student is fed any.

    Fed another size, the teacher's maps have other sizes than those that are listed and paired. It
    stops the run where something was built for that size: a linear layer on a flattened map, or
    position embeddings. Feed the student that size alone, build the teacher with dims of -1, or
    feed the two networks apart: map the teacher's feed onto its own name with the prefix.
    """
    for teacher, student in mapped_feeds(plan):
        if _is_fixed(teacher.shape, student.shape):
            separate = {**dict(plan.feed_map), teacher.name: plan.prefix + teacher.name}
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` is {format_shape(teacher.shape)}, "
                f"student feed `{student.name}` {format_shape(student.shape)}, which takes any "
                "size",
                severity=Severity.WARNING,
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                help=f"{feed_map_argument(separate)}  # to feed the teacher its own size",
            )


def _is_fixed(teacher: Shape | None, student: Shape | None) -> bool:
    """Return whether a dim other than the batch is known in the teacher's feed only."""
    if not teacher or not student or len(teacher) != len(student):
        return False
    dims = zip(teacher[1:], student[1:], strict=True)
    return any(student_dim == UNKNOWN_DIM != teacher_dim for teacher_dim, student_dim in dims)
