"""Rules about kinds of Program, and about operators that Paddle or a device does not support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from graphtool.checks.locations import (
    LISTED,
    also,
    at_operator,
    of_student,
    of_teacher,
)
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check, not_checked
from graphtool.diagnostics import Diagnostic, Severity, counted, listed, rule
from graphtool.graph import Graph, Operator, ProgramKind, operator_kind
from graphtool.ops import has_side_effects, unknown_operators, unsupported_operators

__all__ = [
    "device_operators",
    "mixed_kinds",
    "quantised_operators",
    "side_effects",
    "unknown_operators",
]


@check("GT243")
def mixed_kinds(plan: MergePlan) -> Iterator[Diagnostic]:
    """One of teacher and student is a PIR Program, the other a legacy Program.

    Paddle 3 translates a legacy teacher to PIR, except for the gradient of a while loop. It cannot
    translate PIR to legacy: build the student as PIR, or the teacher as legacy. `for_training`
    translates a saved legacy student.
    """
    if plan.teacher.kind is plan.student.kind:
        return
    places = (of_teacher(plan), of_student(plan))
    if plan.teacher.kind is ProgramKind.LEGACY:
        yield _translated_teacher(plan)
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
        message="the teacher is PIR and the student legacy: Paddle cannot translate the teacher",
        where=places,
        help="paddle.base.set_flags({'FLAGS_enable_pir_api': True})  # before the student is built",
    )


def _translated_teacher(plan: MergePlan) -> Diagnostic:
    while_grads = [found for found in plan.teacher.operators.values() if found.type == "while_grad"]
    if while_grads:
        return Diagnostic(
            message="the teacher is legacy and cannot be translated to PIR: it has the gradient of "
            "a while loop",
            where=(at_operator("teacher", plan.teacher, while_grads[0]), of_student(plan)),
            help="paddle.static.save_inference_model(path, feeds, [logits], exe)  # then merge it",
        )
    return Diagnostic(
        message="the teacher is legacy and the student PIR: the teacher is translated",
        severity=Severity.NOTE,
        where=(of_teacher(plan), of_student(plan)),
        notes=("its Values are found by their legacy names as well",),
    )


@rule("GT242", replaces=("GT385",))
def side_effects(
    role: str,
    graph: Graph,
    found: Sequence[Operator],
    *,
    severity: Severity = Severity.WARNING,
    help: str | None = None,
) -> Diagnostic:
    """A network has operators with side effects.

    They read or write files that the model names, run Python, load engines or talk to other
    processes. Merging does not run them, but training does. Do not run a model from an untrusted
    source before you know what they do.

    Evidence from data runs both networks, so it refuses a saved model that has them. If you trust
    the code of the network, name it as `module:callable`: then it runs.
    """
    types = list(dict.fromkeys(operator.type for operator in found))
    return Diagnostic(
        message=f"operators of the {role} have side effects: {listed(types, LISTED)}",
        severity=severity,
        where=(at_operator(role, graph, found[0]),),
        notes=also([operator.name for operator in found]),
        help=help,
    )


@check("GT242")
def _find_side_effects(plan: MergePlan) -> Iterator[Diagnostic]:
    for role, graph in (("teacher", plan.teacher), ("student", plan.student)):
        found = [operator for operator in graph.operators.values() if has_side_effects(operator)]
        if found:
            yield side_effects(role, graph, found)


@check("GT244")
def _find_unknown_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    networks = (
        ("teacher", plan.teacher, plan.operators),
        ("student", plan.student, plan.student_operators),
    )
    not_known = [role for role, _, known in networks if known is None]
    if not_known:
        roles = " and the ".join(not_known)
        yield unknown_operators(
            f"not checked: whether Paddle knows the operators of the {roles}",
            severity=Severity.NOTE,
            notes=("Paddle was not imported, and files are checked without it",),
            help="import paddle  # before check_merge",
        )
    for role, graph, known in networks:
        unknown = [] if known is None else unsupported_operators(graph, known)
        if unknown:
            types = list(dict.fromkeys(operator.type for operator in unknown))
            count = counted(len(types), "operator type")
            yield unknown_operators(
                f"Paddle does not know {count} of the {role}: {listed(types, LISTED)}",
                where=(at_operator(role, graph, unknown[0]),),
                notes=also([operator.name for operator in unknown]),
            )


@check("GT245")
def quantised_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    """A network has quantisation operators.

    A quantised teacher is merged as it is, with its rounding. Observers of a student that quantises
    during training stay in training mode.
    """
    for role, graph in (("teacher", plan.teacher), ("student", plan.student)):
        found = [operator for operator in graph.operators.values() if _is_quantised(operator.type)]
        if found:
            yield _quantised_network(role, graph, found)


def _quantised_network(role: str, graph: Graph, found: list[Operator]) -> Diagnostic:
    return Diagnostic(
        message=f"the {role} has {counted(len(found), 'quantisation operator')}",
        severity=Severity.WARNING,
        where=(at_operator(role, graph, found[0]),),
        notes=also([operator.name for operator in found]),
    )


@lru_cache(maxsize=4096)
def _is_quantised(type: str) -> bool:
    kind = operator_kind(type)
    return "quantize" in kind or kind.startswith("weight_only")


@check("GT246")
def device_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    """The given `place` lacks kernels for operators of the teacher, or for their dtype.

    A run stops there. Fused and quantised operators support one kind of device, and CPUs lack many
    float16 kernels. Merge on the device that has them, or use a teacher that was exported for this
    one.
    """
    if plan.device is None:
        return
    dtypes = plan.device.dtypes
    operators = plan.teacher.operators.values()
    without_kernel = [found for found in operators if dtypes.get(found.type) == frozenset()]
    if without_kernel:
        yield _missing_kernels(plan, without_kernel, "has no kernel for", Severity.ERROR)
    without_dtype = [
        found for found in operators if dtypes.get(found.type) and _lacks_dtypes(plan, found)
    ]
    if without_dtype:
        names = " or ".join(sorted(_dtypes_of(plan.teacher, without_dtype[0])))
        yield _missing_kernels(plan, without_dtype, f"has no {names} kernel for", Severity.WARNING)
    if plan.device.unsure:
        yield not_checked(
            f"whether the {plan.device.device} has kernels for "
            f"{listed(plan.device.unsure, LISTED)}",
            "Paddle does not list their kernels",
        )


def _lacks_dtypes(plan: MergePlan, operator: Operator) -> bool:
    """Return whether the device computes none of an operator's dtypes; any of them may count."""
    assert plan.device is not None
    used = _dtypes_of(plan.teacher, operator)
    return bool(used) and used.isdisjoint(plan.device.dtypes[operator.type])


def _dtypes_of(graph: Graph, operator: Operator) -> set[str]:
    names = (name for name in (*operator.operands, *operator.results) if name is not None)
    return {dtype for name in names if (dtype := graph.values[name].dtype) is not None}


def _missing_kernels(
    plan: MergePlan, found: list[Operator], problem: str, severity: Severity
) -> Diagnostic:
    assert plan.device is not None
    types = list(dict.fromkeys(operator.type for operator in found))
    return Diagnostic(
        message=f"the {plan.device.device} {problem} {listed(types, LISTED)}",
        severity=severity,
        where=(at_operator("teacher", plan.teacher, found[0]),),
        notes=also([operator.name for operator in found]),
        help="merge(..., place=None)  # to merge here and run elsewhere",
    )
