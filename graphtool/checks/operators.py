"""Rules about the kinds of Program, and operators that the Paddle at hand may not know."""

from __future__ import annotations

from collections.abc import Iterator

from graphtool.checks.places import (
    also,
    at_operator,
    counted,
    listed,
    of_student,
    of_teacher,
)
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check, not_checked
from graphtool.diagnostics import Diagnostic, Severity
from graphtool.graph import Graph, Operator, ProgramKind

__all__ = ["mixed_kinds", "quantised_operators", "unknown_operators"]


@check("GT243")
def mixed_kinds(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student are of two kinds: one is PIR, the other a legacy Program.

    Paddle 3 translates a legacy teacher to PIR, the gradient of a while loop excepted. A PIR
    teacher cannot be made legacy: build the student as PIR, or the teacher as legacy. A saved
    student that `for_training` makes trainable is translated there.
    """
    if plan.teacher.kind is plan.student.kind:
        return
    places = (of_teacher(plan), of_student(plan))
    if plan.teacher.kind is ProgramKind.LEGACY:
        yield _translated(plan)
        return
    if plan.restored:
        yield Diagnostic(
            message="the teacher is PIR and the student legacy: the student is translated",
            severity=Severity.NOTE,
            where=places,
            notes=("its Values are found by their legacy names as well",),
        )
        return
    yield Diagnostic(
        message="the teacher is PIR and the student a legacy Program: Paddle has no way back",
        where=places,
        help="paddle.base.set_flags({'FLAGS_enable_pir_api': True})  # before the student is built",
    )


def _translated(plan: MergePlan) -> Diagnostic:
    stuck = [found for found in plan.teacher.operators.values() if found.type == "while_grad"]
    if stuck:
        return Diagnostic(
            message="the teacher is legacy and cannot be translated to PIR: it has the gradient of "
            "a while loop",
            where=(at_operator("teacher", plan.teacher, stuck[0]), of_student(plan)),
            help="paddle.static.save_inference_model(path, feeds, [logits], exe)  # then merge it",
        )
    return Diagnostic(
        message="the teacher is legacy and the student PIR: the teacher is translated",
        severity=Severity.NOTE,
        where=(of_teacher(plan), of_student(plan)),
        notes=("its Values are found by their legacy names as well",),
    )


# The dialects that are part of PIR itself.
_BUILT_IN = ("builtin.", "cf.")


@check("GT244")
def unknown_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher has operators that the installed Paddle does not know.

    They are custom operators, whose library has to be loaded first, or ones of another release or
    of an inference engine (fused, quantised).
    """
    if plan.operators is None:
        yield not_checked(
            "whether Paddle knows the teacher's operators",
            "Paddle was not imported, and files are checked without it",
            "python -c 'import paddle, graphtool; print(graphtool.check_merge(...))'",
        )
        return
    unknown = [
        operator
        for operator in plan.teacher.operators.values()
        if operator.type not in plan.operators and not operator.type.startswith(_BUILT_IN)
    ]
    if unknown:
        types = list(dict.fromkeys(operator.type for operator in unknown))
        yield Diagnostic(
            message=f"Paddle does not know {counted(len(types), 'operator type')} of the teacher: "
            f"{listed(types)}",
            where=(at_operator("teacher", plan.teacher, unknown[0]),),
            notes=also([operator.name for operator in unknown]),
            help='paddle.utils.cpp_extension.load(name="my_ops", sources=[...])  # first',
        )


@check("GT245")
def quantised_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    """A network has operators that round to few bits.

    A quantised teacher is merged as it is, with its rounding. A student that quantises in training
    keeps its observers in training mode.
    """
    for role, graph in (("teacher", plan.teacher), ("student", plan.student)):
        found = [operator for operator in graph.operators.values() if _quantises(operator)]
        if found:
            yield _quantised(role, graph, found)


def _quantised(role: str, graph: Graph, found: list[Operator]) -> Diagnostic:
    return Diagnostic(
        message=f"the {role} is quantised: it has {counted(len(found), 'rounding operator')}",
        severity=Severity.WARNING,
        where=(at_operator(role, graph, found[0]),),
        notes=also([operator.name for operator in found]),
    )


def _quantises(operator: Operator) -> bool:
    return "quantize" in operator.kind or operator.kind.startswith("weight_only")
