"""Rules about how the two networks were built: mode, gradients, statistics, randomness, outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphtool.checks.locations import LISTED, also, at_operator, of_student
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.checks.softmax_inputs import probabilities
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph, Operator
from graphtool.ops import (
    METRICS,
    PROBABILITIES,
    RANDOM,
    depends_on_mode,
    is_loss_or_metric,
    is_training,
    kind_of,
)
from graphtool.text import string_literal

__all__ = [
    "already_minimized",
    "modal_operators",
    "random_in_test_mode",
    "random_seeds",
    "same_program",
    "student_in_test_mode",
    "teacher_in_training_mode",
    "teacher_trains",
]


@check("GT222")
def teacher_trains(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher has gradient or optimizer operators: each run would train it.

    Merge the Program from before `minimize`, or save the teacher as an inference model and merge
    that.
    """
    training = [found for found in plan.teacher.operators.values() if is_training(found)]
    if training:
        yield Diagnostic(
            message=f"the teacher is a training program: it has "
            f"{counted(len(training), 'gradient or optimizer operator')}",
            where=(at_operator("teacher", plan.teacher, _with_source(training)),),
            notes=also(_types(training)),
            help="paddle.static.save_inference_model(path, feeds, [logits], exe)  # then merge it",
        )


def _types(operators: Sequence[Operator]) -> list[str]:
    return list(dict.fromkeys(operator.type for operator in operators))


def _with_source(operators: Sequence[Operator]) -> Operator:
    """Return the first operator with a known line of user code, else the first."""
    return next((operator for operator in operators if operator.source), operators[0])


@check("GT223", replaces=("GT224",))
def teacher_in_training_mode(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher was built in training mode; `merge` puts it into test mode.

    There is nothing to do. Nested Blocks are included: dropout passes everything through, and batch
    norms use their running statistics, which no longer change. The teacher's own Program is not
    changed.
    """
    training = list(_in_training_mode(plan.teacher))
    norms = [operator for operator in training if kind_of(operator) == "batch_norm"]
    others = [operator for operator in training if kind_of(operator) != "batch_norm"]
    for found, noun, effect in (
        (
            others,
            "teacher operator",
            f"which merge puts into test mode: {listed(_types(others), LISTED)}",
        ),
        (norms, "teacher batch norm", "whose running statistics merge freezes"),
    ):
        if found:
            yield Diagnostic(
                message=f"{counted(len(found), noun)} in training mode, {effect}",
                severity=Severity.NOTE,
                where=(at_operator("teacher", plan.teacher, found[0]),),
                notes=also([operator.name for operator in found]),
            )


def modal_operators(graph: Graph) -> list[Operator]:
    """Return the operators that behave differently in training, quantisation observers included."""
    return graph.once(_find_modal_operators)


def _find_modal_operators(graph: Graph) -> list[Operator]:
    return [found for found in graph.operators.values() if depends_on_mode(found)]


def _in_training_mode(graph: Graph) -> Iterator[Operator]:
    for operator in modal_operators(graph):
        if not (operator.attributes["is_test"] or operator.attributes.get("use_global_stats")):
            yield operator


def _random_operators(graph: Graph) -> list[Operator]:
    return graph.once(_find_random_operators)


def _find_random_operators(graph: Graph) -> list[Operator]:
    return [found for found in graph.operators.values() if found.kind in RANDOM]


@rule("GT226", replaces=("GT544",))
def random_in_test_mode(
    message: str,
    *,
    severity: Severity = Severity.WARNING,
    where: Sequence[Where],
    notes: Sequence[str] = (),
    help: str,
) -> Diagnostic:
    """Operators draw random numbers in test mode too.

    Test mode stops plain dropout only. `Dropout2D`, `AlphaDropout`, dropout along an `axis` and
    stochastic depth use other random operators if they are built in training mode: build the
    network in eval mode.

    A random teacher is no fixed target for the student. It is a warning if each of its random
    operators has a fixed seed, which gives the same numbers in each run. `for_test` warns that an
    evaluation is partly random.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


@check("GT226")
def _find_random_teacher(plan: MergePlan) -> Iterator[Diagnostic]:
    found = _random_operators(plan.teacher)
    if found:
        unseeded = [operator for operator in found if not _has_fixed_seed(operator)]
        shown = unseeded or found
        yield random_in_test_mode(
            f"the teacher draws random numbers in {counted(len(shown), 'operator')}",
            severity=Severity.ERROR if unseeded else Severity.WARNING,
            where=(at_operator("teacher", plan.teacher, shown[0]),),
            notes=also([operator.name for operator in shown]),
            help="build the teacher in eval mode: layer.eval()",
        )


@check("GT227", replaces=("GT229",))
def random_seeds(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student share a random generator, or operators have fixed seeds.

    An operator without a seed draws from the generator of its device. If the teacher draws from it
    too, the student gets other dropout masks than without the teacher, even with the same
    `paddle.seed`. Give each random operator of the teacher a seed.

    An operator with a fixed seed draws the same numbers in each run: a dropout always drops the
    same elements. Legacy programs whose `random_seed` is set have such operators.
    """
    teacher = [
        operator for operator in _random_operators(plan.teacher) if _uses_shared_generator(operator)
    ]
    student = [
        operator
        for operator in (*_random_operators(plan.student), *_in_training_mode(plan.student))
        if _uses_shared_generator(operator)
    ]
    if teacher and student:
        yield Diagnostic(
            message="teacher and student share a random generator: the student's dropout and "
            "samples differ from a run without the teacher",
            severity=Severity.WARNING,
            where=(
                at_operator("teacher", plan.teacher, teacher[0]),
                at_operator("student", plan.student, student[0]),
            ),
            help="give each random operator of the teacher a seed: seed=1",
        )
    for role, graph in (("teacher", plan.teacher), ("student", plan.student)):
        found = [
            operator
            for operator in (*_random_operators(graph), *_in_training_mode(graph))
            if _has_fixed_seed(operator)
        ]
        if found:
            yield Diagnostic(
                message=f"{counted(len(found), 'random operator')} of the {role} with a fixed seed",
                severity=Severity.NOTE,
                where=(at_operator(role, graph, found[0]),),
                notes=also([operator.name for operator in found]),
            )


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


@check("GT228")
def _find_probabilities(plan: MergePlan) -> Iterator[Diagnostic]:
    networks = [("teacher", plan.teacher)]
    if not plan.prefixes:  # otherwise the student has an earlier teacher's outputs too
        networks.append(("student", plan.student))
    for role, graph in networks:
        for operator in graph.operators.values():
            logits = next(iter(operator.operands), None)
            if logits is None or kind_of(operator) not in PROBABILITIES:
                continue
            if _is_output(graph, operator):
                kind = kind_of(operator)
                loss = "l2" if kind == "sigmoid" else "soft_label"
                ends = (
                    f"{string_literal(plan.prefix + logits)}, ..."
                    if role == "teacher"
                    else f"..., {string_literal(logits)}"
                )
                yield probabilities(
                    f"the {role}'s output `{operator.results[0]}` holds probabilities, after "
                    f"{kind}: losses that take logits want `{logits}`",
                    severity=Severity.WARNING,
                    where=(at_operator(role, graph, operator),),
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


@check("GT230")
def student_in_test_mode(plan: MergePlan) -> Iterator[Diagnostic]:
    """The student is in test mode, like every saved inference model.

    It can be minimized, but its batch norms keep their statistics and its dropout does nothing.
    `gt.for_training` puts it into training mode.
    """
    modal = list(modal_operators(plan.student))
    if modal and not plan.restored and not any(_in_training_mode(plan.student)):
        yield Diagnostic(
            message=f"the student is in test mode: {counted(len(modal), 'operator')} of "
            f"{listed(_types(modal), LISTED)}",
            severity=Severity.WARNING,
            where=(at_operator("student", plan.student, modal[0]),),
            help="graphtool.for_training(student_program)",
        )


@rule("GT231", replaces=("GT342", "GT517", "GT536", "GT611"))
def already_minimized(
    message: str, *, where: Sequence[Where] = (), notes: Sequence[str] = (), help: str
) -> Diagnostic:
    """The Program already has gradient or optimizer operators.

    A loss that is added now is computed, but never trained. Merge first, build all losses, and
    minimize their sum once. A second optimizer would update parameters twice per step: with two
    optimizers, name with `parameters=` what each one updates.

    Also save a merged Program before `minimize`: Paddle ends the process when it saves a PIR
    program that trains and has control flow. `for_training` takes the Program from before
    `minimize`, or an inference model.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@check("GT231")
def _find_minimized_student(plan: MergePlan) -> Iterator[Diagnostic]:
    training = [found for found in plan.student.operators.values() if is_training(found)]
    if training:
        yield already_minimized(
            "the student is already minimized: it has "
            f"{counted(len(training), 'gradient or optimizer operator')}",
            where=(at_operator("student", plan.student, _with_source(training)),),
            notes=("a loss added now is computed, but never trained", *also(_types(training))),
            help="merge(...)  # before optimizer.minimize(loss)",
        )


@check("GT232")
def same_program(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student are the same Program object: the network teaches itself.

    A clone with the current weights, which stay fixed, is merged into it.
    """
    if plan.one_program:
        yield Diagnostic(
            message=f"teacher and student are one Program: a clone is merged into it, with copies "
            f"of {counted(len(plan.teacher_persistables), 'tensor')}",
            severity=Severity.NOTE,
            where=(of_student(plan),),
        )
