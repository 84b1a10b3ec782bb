"""The rule about a teacher that was built for one batch size or one image size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphtool.checks.locations import (
    also,
    at_operator,
    feed_map_argument,
    format_shape,
    in_student,
    in_teacher,
    mapped_feeds,
)
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity, counted
from graphtool.graph import UNKNOWN_DIM, Graph, Operator, Shape
from graphtool.ops import kind_of
from graphtool.text import string_literal

__all__ = ["fixed_size"]


@check("GT220", replaces=("GT221", "GT234"))
def fixed_size(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher was built for one batch size or image size, and the student takes others.

    Most operators take any size, but a reshape to the fixed batch, a linear layer on a flattened
    map, or position embeddings stop the run or mix samples. Build the teacher with dims of -1, or
    feed the student that size only. Listed teacher shapes are those of the build.

    To feed the teacher its own image size, map its feed to its name with the prefix.
    """
    batches: dict[int, int] = {}
    for teacher, student in mapped_feeds(plan):
        if not teacher.shape or not student.shape:
            continue
        where = (in_teacher(plan, teacher), in_student(plan, student))
        batch, student_batch = teacher.shape[0], student.shape[0]
        if len(teacher.shape) > 1:
            batches[batch] = student_batch
            if batch not in (UNKNOWN_DIM, student_batch):
                yield Diagnostic(
                    message=f"teacher feed `{teacher.name}` has a fixed batch of {batch}, student "
                    f"feed `{student.name}` "
                    f"{'any' if student_batch == UNKNOWN_DIM else student_batch}",
                    severity=Severity.WARNING,
                    where=where,
                    help=f"paddle.static.data({string_literal(teacher.name)}, [-1, ...])"
                    "  # where it is built",
                )
        if _is_fixed(teacher.shape, student.shape):
            separate = {**dict(plan.feed_map), teacher.name: plan.prefix + teacher.name}
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` is {format_shape(teacher.shape)}, "
                f"student feed `{student.name}` {format_shape(student.shape)}, which takes any "
                "size",
                severity=Severity.WARNING,
                where=where,
                help=feed_map_argument(separate, "  # to feed the teacher its own size"),
            )
    baked = [
        operator
        for operator in plan.teacher.operators.values()
        if kind_of(operator) == "reshape" and _fixes_batch(plan.teacher, operator, batches)
    ]
    if baked:
        target = _target_shape(plan.teacher, baked[0])
        yield Diagnostic(
            message=f"the teacher has {counted(len(baked), 'reshape')} to a fixed batch: "
            f"`{baked[0].name}` to {format_shape(target)}",
            severity=Severity.WARNING,
            where=(at_operator("teacher", plan.teacher, baked[0]),),
            notes=also([operator.name for operator in baked]),
            help="x.reshape([-1, ...])  # or [0, ...] to keep the batch, where it is built",
        )


def _is_fixed(teacher: Shape, student: Shape) -> bool:
    """Return whether a dim other than the batch is known in the teacher's feed only."""
    if len(teacher) != len(student):
        return False
    dims = zip(teacher[1:], student[1:], strict=True)
    return any(student_dim == UNKNOWN_DIM != teacher_dim for teacher_dim, student_dim in dims)


def _fixes_batch(graph: Graph, operator: Operator, batches: Mapping[int, int]) -> bool:
    """Return whether a reshape keeps the fixed batch of its operand as a number."""
    target, source = _target_shape(graph, operator), next(iter(operator.operands), None)
    shape = None if source is None else graph.values[source].shape
    if not target or not shape:
        return False
    batch = target[0]
    return batch > 0 and batches.get(batch, batch) != batch and shape[0] == batch


def _target_shape(graph: Graph, operator: Operator) -> Shape | None:
    """Return the target shape of a reshape: an attribute, or in PIR a constant operand."""
    given = operator.attributes.get("shape")
    if given is None and len(operator.operands) > 1 and operator.operands[1] is not None:
        constant = graph.producer(operator.operands[1])
        given = constant.attributes.get("value") if constant else None
    if not isinstance(given, tuple):
        return None
    dims = tuple(dim for dim in given if isinstance(dim, int))
    return dims if len(dims) == len(given) else None
