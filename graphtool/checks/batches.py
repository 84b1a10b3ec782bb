"""Rules about the batch: a teacher that was built for one batch size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphtool.checks.locations import (
    also,
    at_operator,
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

__all__ = ["baked_reshape", "fixed_batch"]


@check("GT220")
def fixed_batch(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher was built for one batch size, and the student is fed any, or another.

    Most operators take what comes: Paddle does not hold them to the shapes of the build. A reshape
    to that batch does not: see GT221. Shapes that are listed for the teacher stay those of the
    build. Only the teacher's fixed batch is judged: a student with one is fed that, and the teacher
    takes it.
    """
    for teacher, student in mapped_feeds(plan):
        if not teacher.shape or not student.shape or len(teacher.shape) < 2:
            continue
        batch, student_batch = teacher.shape[0], student.shape[0]
        if batch not in (UNKNOWN_DIM, student_batch):
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` has a fixed batch of {batch}, student feed "
                f"`{student.name}` {'any' if student_batch == UNKNOWN_DIM else student_batch}",
                severity=Severity.WARNING,
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                help=f"paddle.static.data({string_literal(teacher.name)}, [-1, ...])"
                "  # where it is built",
            )


@check("GT221")
def baked_reshape(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher reshapes to the batch size that it was built for.

    With another batch the run fails there, or, worse, mixes samples. Build the teacher with a batch
    of unknown size, or feed the student batches of that size alone.
    """
    batches = {
        teacher.shape[0]: student.shape[0]
        for teacher, student in mapped_feeds(plan)
        if teacher.shape and student.shape and len(teacher.shape) > 1
    }
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
