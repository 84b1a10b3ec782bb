"""Rules about kinds of Program, and about operators that Paddle or a device does not support."""

from __future__ import annotations

from collections.abc import Iterator
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
from graphtool.diagnostics import Diagnostic, Severity, counted, listed
from graphtool.graph import Graph, Operator, ProgramKind, operator_kind
from graphtool.ops import has_side_effects, unsupported_operators

__all__ = [
    "device_operators",
    "mixed_kinds",
    "outside_operators",
    "quantised_operators",
    "unknown_operators",
]


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
        message="the teacher is PIR and the student a legacy Program: Paddle has no way back",
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


@check("GT242")
def outside_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    """A network has operators that do more than compute when the merged Program is run.

    They read or write files whose names the model gives, run Python, load engines or talk to other
    processes. Merging runs none of them; training would. Of a model from elsewhere, look at what
    they do before you run it, or leave it.
    """
    for role, graph in (("teacher", plan.teacher), ("student", plan.student)):
        found = [operator for operator in graph.operators.values() if has_side_effects(operator)]
        if found:
            types = list(dict.fromkeys(operator.type for operator in found))
            yield Diagnostic(
                message=f"the {role} reaches out of itself when it runs: {listed(types, LISTED)}",
                severity=Severity.WARNING,
                where=(at_operator(role, graph, found[0]),),
                notes=also([operator.name for operator in found]),
            )


@check("GT244")
def unknown_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    """A network has operators that the installed Paddle does not know.

    They are custom operators, whose library has to be loaded first, or ones of another release or
    of an inference engine (fused, quantised).
    """
    networks = (
        ("teacher", plan.teacher, plan.operators),
        ("student", plan.student, plan.student_operators),
    )
    not_known = [role for role, _, known in networks if known is None]
    if not_known:
        yield not_checked(
            f"whether Paddle knows the operators of the {' and the '.join(not_known)}",
            "Paddle was not imported, and files are checked without it",
            "import paddle  # before check_merge",
        )
    for role, graph, known in networks:
        unknown = [] if known is None else unsupported_operators(graph, known)
        if unknown:
            yield _unknown_types(role, graph, unknown)


def _unknown_types(role: str, graph: Graph, unknown: list[Operator]) -> Diagnostic:
    types = list(dict.fromkeys(operator.type for operator in unknown))
    return Diagnostic(
        message=f"Paddle does not know {counted(len(types), 'operator type')} of the {role}: "
        f"{listed(types, LISTED)}",
        where=(at_operator(role, graph, unknown[0]),),
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
        found = [operator for operator in graph.operators.values() if _is_quantised(operator.type)]
        if found:
            yield _quantised_network(role, graph, found)


def _quantised_network(role: str, graph: Graph, found: list[Operator]) -> Diagnostic:
    return Diagnostic(
        message=f"the {role} is quantised: it has {counted(len(found), 'rounding operator')}",
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
    """The place that was asked for has no kernel for operators of the teacher, or not in a dtype.

    A run stops there. Fused and quantised operators are made for one kind of device, and no CPU
    computes float16 throughout. Merge where the device is, or take a teacher that was exported for
    this one. Asked only where a `place` is given.
    """
    if plan.device is None:
        return
    dtypes = plan.device.dtypes
    operators = plan.teacher.operators.values()
    without_kernel = [found for found in operators if dtypes.get(found.type) == frozenset()]
    if without_kernel:
        yield _missing_kernels(plan, without_kernel, "computes no", Severity.ERROR)
    without_dtype = [
        found for found in operators if dtypes.get(found.type) and _lacks_dtypes(plan, found)
    ]
    if without_dtype:
        names = " or ".join(sorted(_dtypes_of(plan.teacher, without_dtype[0])))
        yield _missing_kernels(
            plan, without_dtype, f"does not compute in {names}:", Severity.WARNING
        )
    if plan.device.unsure:
        yield not_checked(
            f"whether the {plan.device.device} computes {listed(plan.device.unsure, LISTED)}",
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
