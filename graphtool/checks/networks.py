"""Rules about how the two networks were built, and about operators that Paddle may not support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphtool.checks.fits import probabilities
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import (
    LISTED,
    about_operators,
    also,
    at,
    at_operator,
    check,
    finds,
)
from graphtool.diagnostics import Diagnostic, Severity, counted, listed
from graphtool.graph import Graph, Operator, ProgramKind
from graphtool.ops import (
    METRICS,
    PROBABILITIES,
    RANDOM,
    depends_on_mode,
    has_side_effects,
    is_loss_or_metric,
    is_training,
    kind_of,
    unknown_operators,
    unsupported_operators,
)
from graphtool.text import string_literal

__all__ = [
    "SAVE_FOR_INFERENCE",
    "already_minimized",
    "modal_operators",
    "random_in_test_mode",
    "side_effects_of",
]

SAVE_FOR_INFERENCE = (
    "paddle.static.save_inference_model(path, feeds, [logits], exe)  # then merge it"
)


@check("GT222")
def teacher_trains(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher has gradient or optimizer operators: each run would train it.

    Merge the Program from before `minimize`, or save the teacher as an inference model and merge
    that.
    """
    training = _training_operators(plan.teacher)
    if training:
        yield teacher_trains(
            f"the teacher is a training program: it has "
            f"{counted(len(training), 'gradient or optimizer operator')}",
            at_operator("teacher", plan.teacher, training[0]),
            notes=also(_types(training)),
            help=SAVE_FOR_INFERENCE,
        )


def _training_operators(graph: Graph) -> list[Operator]:
    """Return the gradient and optimizer operators, those with a known line of user code first."""
    found = [operator for operator in graph.operators.values() if is_training(operator)]
    return sorted(found, key=lambda operator: operator.source is None)


def _types(operators: Sequence[Operator]) -> list[str]:
    return list(dict.fromkeys(operator.type for operator in operators))


@check("GT223", Severity.NOTE, replaces=("GT224",))
def teacher_in_training_mode(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher was built in training mode; `merge` puts it into test mode.

    There is nothing to do. Nested Blocks are included: dropout passes everything through, and batch
    norms use their running statistics, which no longer change. The teacher's own Program is not
    changed.
    """
    training = _in_training_mode(plan.teacher)
    norms = [operator for operator in training if kind_of(operator) == "batch_norm"]
    others = [operator for operator in training if kind_of(operator) != "batch_norm"]
    types = listed(_types(others), LISTED)
    for found, noun, effect in (
        (others, "teacher operator", f"which merge puts into test mode: {types}"),
        (norms, "teacher batch norm", "whose running statistics merge freezes"),
    ):
        if found:
            message = f"{counted(len(found), noun)} in training mode, {effect}"
            yield about_operators(teacher_in_training_mode, message, "teacher", plan.teacher, found)


def modal_operators(graph: Graph) -> list[Operator]:
    """Return the operators that behave differently in training, quantisation observers included."""
    return graph.once(_find_modal_operators)


def _find_modal_operators(graph: Graph) -> list[Operator]:
    return [found for found in graph.operators.values() if depends_on_mode(found)]


def _in_training_mode(graph: Graph) -> list[Operator]:
    return [
        operator
        for operator in modal_operators(graph)
        if not (operator.attributes["is_test"] or operator.attributes.get("use_global_stats"))
    ]


def _random_operators(graph: Graph) -> list[Operator]:
    return [found for found in graph.operators.values() if found.kind in RANDOM]


@check("GT226", Severity.WARNING, replaces=("GT544",))
def random_in_test_mode(plan: MergePlan) -> Iterator[Diagnostic]:
    """Operators draw random numbers in test mode too.

    Test mode stops plain dropout only. `Dropout2D`, `AlphaDropout`, dropout along an `axis` and
    stochastic depth use other operators unless they are built in eval mode. A random teacher is
    no fixed target for the student; it is a warning if each random operator has a fixed seed.
    `for_test` warns that an evaluation is partly random.
    """
    found = plan.teacher.once(_random_operators)
    if found:
        unseeded = [operator for operator in found if not _has_fixed_seed(operator)]
        shown = unseeded or found
        yield about_operators(
            random_in_test_mode,
            f"the teacher draws random numbers in {counted(len(shown), 'operator')}",
            "teacher",
            plan.teacher,
            shown,
            severity=Severity.ERROR if unseeded else Severity.WARNING,
            help="build the teacher in eval mode: layer.eval()",
        )


@check("GT227", Severity.WARNING, replaces=("GT229",))
def random_seeds(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student share a random generator, or operators have fixed seeds.

    An operator without a seed draws from the generator of its device. If the teacher does too,
    the student gets other dropout masks than without it, even with the same `paddle.seed`. With
    a fixed seed, as in legacy programs whose `random_seed` is set, a dropout drops the same
    elements in each run.
    """
    drawing = plan.teacher.once(_random_operators)
    teacher = [operator for operator in drawing if _uses_shared_generator(operator)]
    drawing = [*plan.student.once(_random_operators), *_in_training_mode(plan.student)]
    student = [operator for operator in drawing if _uses_shared_generator(operator)]
    if teacher and student:
        yield random_seeds(
            "teacher and student share a random generator: the student's dropout and samples "
            "differ from a run without the teacher",
            (
                at_operator("teacher", plan.teacher, teacher[0]),
                at_operator("student", plan.student, student[0]),
            ),
            help="give each random operator of the teacher a seed: seed=1",
        )
    for role, graph in plan.networks:
        drawing = [*graph.once(_random_operators), *_in_training_mode(graph)]
        found = [operator for operator in drawing if _has_fixed_seed(operator)]
        if found:
            message = f"{counted(len(found), 'random operator')} of the {role} with a fixed seed"
            yield about_operators(random_seeds, message, role, graph, found, severity=Severity.NOTE)


def _uses_shared_generator(operator: Operator) -> bool:
    """Return whether an operator draws from the shared generator: its seed is 0 and not fixed."""
    return operator.attributes.get("seed") == 0 and not operator.attributes.get("fix_seed")


def _has_fixed_seed(operator: Operator) -> bool:
    seed = operator.attributes.get("seed")
    return isinstance(seed, int) and (seed != 0 or bool(operator.attributes.get("fix_seed")))


_TOP_K = frozenset({"top_k", "topk"})
# Operators that pass on the probabilities.
_PASS_THROUGH = frozenset({"assign", "cast", "scale"})
_TERMINAL = _TOP_K | {"argmax", "arg_max", "fetch", "shadow_output"}


@finds("GT228")
def _probabilities(plan: MergePlan) -> Iterator[Diagnostic]:
    # With an earlier teacher, the student has its outputs too.
    for role, graph in plan.networks[: 1 if plan.prefixes else 2]:
        for operator in graph.operators.values():
            kind, logits = kind_of(operator), next(iter(operator.operands), None)
            if logits is None or kind not in PROBABILITIES or not _is_output(graph, operator):
                continue
            loss = "l2" if kind == "sigmoid" else "soft_label"
            ends = f"..., {string_literal(logits)}"
            if role == "teacher":
                ends = f"{string_literal(plan.prefix + logits)}, ..."
            yield probabilities(
                f"the {role}'s output `{operator.results[0]}` holds probabilities, after {kind}: "
                f"losses that take logits want `{logits}`",
                at_operator(role, graph, operator),
                severity=Severity.WARNING,
                help=f"{loss}({ends})",
            )


def _is_output(graph: Graph, operator: Operator) -> bool:
    """Return whether only outputs, metrics and losses read an operator's result."""
    if is_training(operator) or operator.block or not operator.results:
        return False
    consumers = graph.consumers.get(operator.results[0], ())
    if consumers and all(_is_metric(graph, consumer) for consumer in consumers):
        return False
    pending, seen = list(consumers), {consumer.name for consumer in consumers}
    for consumer in pending:
        kind = kind_of(consumer)
        if kind in _PASS_THROUGH:
            others = _consumers(graph, consumer)
            pending += [other for other in others if other.name not in seen]
            seen.update(other.name for other in others)
        elif not (kind in _TERMINAL or is_loss_or_metric(kind) or is_training(consumer)):
            return False
    return True


def _is_metric(graph: Graph, operator: Operator) -> bool:
    """Return whether an operator is a metric, or a top-k that only metrics read."""
    if kind_of(operator) not in _TOP_K:
        return kind_of(operator) in METRICS
    consumers = _consumers(graph, operator)
    return bool(consumers) and all(_is_metric(graph, consumer) for consumer in consumers)


def _consumers(graph: Graph, operator: Operator) -> list[Operator]:
    return [consumer for result in operator.results for consumer in graph.consumers.get(result, ())]


@check("GT230", Severity.WARNING)
def student_in_test_mode(plan: MergePlan) -> Iterator[Diagnostic]:
    """The student is in test mode, like every saved inference model.

    It can be minimized, but its batch norms keep their statistics and its dropout does nothing.
    `gt.for_training` puts it into training mode.
    """
    modal = modal_operators(plan.student)
    if modal and not plan.restored and not _in_training_mode(plan.student):
        yield student_in_test_mode(
            f"the student is in test mode: {counted(len(modal), 'operator')} of "
            f"{listed(_types(modal), LISTED)}",
            at_operator("student", plan.student, modal[0]),
            help="graphtool.for_training(student_program)",
        )


@check("GT231", replaces=("GT342", "GT517", "GT536", "GT611"))
def already_minimized(plan: MergePlan) -> Iterator[Diagnostic]:
    """The Program already has gradient or optimizer operators.

    A loss that is added now is computed, but never trained. Merge first, build all losses, and
    minimize their sum once. A second optimizer would update parameters twice per step: name
    with `parameters=` what each one updates.

    Save a merged Program before `minimize`, too: Paddle ends the process when it saves a PIR
    program that trains and has control flow. `for_training` takes the Program from before
    `minimize`.
    """
    training = _training_operators(plan.student)
    if training:
        yield already_minimized(
            "the student is already minimized: it has "
            f"{counted(len(training), 'gradient or optimizer operator')}",
            at_operator("student", plan.student, training[0]),
            notes=("a loss added now is computed, but never trained", *also(_types(training))),
            help="merge(...)  # before optimizer.minimize(loss)",
        )


@check("GT232", Severity.NOTE)
def same_program(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student are the same Program object: the network teaches itself.

    A clone with the current weights, which stay fixed, is merged into it.
    """
    if plan.one_program:
        yield same_program(
            f"teacher and student are one Program: a clone is merged into it, with copies of "
            f"{counted(len(plan.teacher_persistables), 'tensor')}",
            at(plan, "student"),
        )


@check("GT243")
def mixed_kinds(plan: MergePlan) -> Iterator[Diagnostic]:
    """One of teacher and student is a PIR Program, the other a legacy Program.

    Paddle 3 translates a legacy teacher to PIR, except for the gradient of a while loop, and
    `for_training` a saved legacy student. It cannot translate PIR to legacy: build the student
    as PIR, or the teacher as legacy.
    """
    if plan.teacher.kind is plan.student.kind:
        return
    places = at(plan, "teacher"), at(plan, "student")
    is_pir = plan.teacher.kind is ProgramKind.PIR
    while_grads = [found for found in plan.teacher.operators.values() if found.type == "while_grad"]
    if is_pir and not plan.restored:
        yield mixed_kinds(
            "the teacher is PIR and the student legacy: Paddle cannot translate the teacher",
            places,
            help="paddle.base.set_flags({'FLAGS_enable_pir_api': True})"
            "  # before the student is built",
        )
    elif while_grads and not is_pir:
        yield mixed_kinds(
            "the teacher is legacy and cannot be translated to PIR: it has the gradient of a while "
            "loop",
            (at_operator("teacher", plan.teacher, while_grads[0]), at(plan, "student")),
            help=SAVE_FOR_INFERENCE,
        )
    else:
        yield mixed_kinds(
            "the teacher is PIR and the student legacy: the student is translated"
            if is_pir
            else "the teacher is legacy and the student PIR: the teacher is translated",
            places,
            severity=Severity.NOTE,
            notes=("its Values are found by their legacy names as well",),
        )


@check("GT242", Severity.WARNING, replaces=("GT385",))
def side_effects(plan: MergePlan) -> Iterator[Diagnostic]:
    """A network has operators with side effects.

    They access files that the model names, run Python, load engines or talk to other processes,
    as soon as the Program runs. Do not run a model from an untrusted source before you know
    what they do.

    Evidence from data runs both networks, so it refuses a saved model that has them. If you
    trust the code of the network, name it as `module:callable`: then it runs.
    """
    for role, graph in plan.networks:
        yield from side_effects_of(role, graph)


def side_effects_of(
    role: str, graph: Graph, *, severity: Severity | None = None, help: str | None = None
) -> Iterator[Diagnostic]:
    """Yield the operators of a network that have side effects, as one Diagnostic."""
    found = [operator for operator in graph.operators.values() if has_side_effects(operator)]
    if found:
        message = f"operators of the {role} have side effects: {listed(_types(found), LISTED)}"
        yield about_operators(
            side_effects, message, role, graph, found, severity=severity, help=help
        )


@finds("GT244")
def _unknown_operators(plan: MergePlan) -> Iterator[Diagnostic]:
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
            types = _types(unknown)
            count = counted(len(types), "operator type")
            yield unknown_operators(
                f"Paddle does not know {count} of the {role}: {listed(types, LISTED)}",
                where=(at_operator(role, graph, unknown[0]),),
                notes=also([operator.name for operator in unknown]),
            )


@check("GT246")
def device_operators(plan: MergePlan) -> Iterator[Diagnostic]:
    """The given `place` lacks kernels for operators of the teacher, or for their dtype.

    A run stops there. Fused and quantised operators support one kind of device, and CPUs lack
    many float16 kernels. Merge on a device that has them, or export the teacher for this one.
    """
    if plan.device is None:
        return
    device, graph = plan.device.device, plan.teacher
    without_kernel: list[Operator] = []
    without_dtype: list[Operator] = []
    for operator in graph.operators.values():
        known, used = plan.device.dtypes.get(operator.type), _dtypes_of(graph, operator)
        if known is not None and not known:
            without_kernel.append(operator)
        # Any of an operator's dtypes may count.
        elif known and used and used.isdisjoint(known):
            without_dtype.append(operator)
    for found, severity in (
        (without_kernel, Severity.ERROR),
        (without_dtype, Severity.WARNING),
    ):
        if found:
            names = ""
            if severity is Severity.WARNING:
                names = f"{' or '.join(sorted(_dtypes_of(graph, found[0])))} "
            yield about_operators(
                device_operators,
                f"the {device} has no {names}kernel for {listed(_types(found), LISTED)}",
                "teacher",
                graph,
                found,
                severity=severity,
                help="merge(..., place=None)  # to merge here and run elsewhere",
            )
    if plan.device.unsure:
        types = listed(plan.device.unsure, LISTED)
        yield device_operators(
            f"not checked: whether the {device} has kernels for {types}",
            severity=Severity.NOTE,
            notes=("Paddle does not list their kernels",),
        )


def _dtypes_of(graph: Graph, operator: Operator) -> set[str]:
    names = (name for name in (*operator.operands, *operator.results) if name is not None)
    return {dtype for name in names if (dtype := graph.values[name].dtype) is not None}
