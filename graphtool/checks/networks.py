"""Rules about how the two networks were built: mode, gradients, statistics, randomness, outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphtool.checks.locations import LISTED, also, at_operator, of_student
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity, counted, listed
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
    "fixed_seeds",
    "modal_operators",
    "probabilities",
    "random_state_shared",
    "same_program",
    "student_in_test_mode",
    "student_minimized",
    "teacher_in_training_mode",
    "teacher_is_random",
    "teacher_statistics",
    "teacher_trains",
]


@check("GT222")
def teacher_trains(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher has gradient or optimizer operators: each run would train it.

    Merge the Program as it was before `minimize`, or save the teacher as an inference model and
    merge that.
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


@check("GT223")
def teacher_in_training_mode(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher operators that act otherwise in training were built for training.

    `merge` puts them into test mode, in nested Blocks too: dropout passes all through. Nothing is
    to be done; the teacher's own Program stays as it is.
    """
    found = [
        operator for operator in _in_training_mode(plan.teacher) if not _is_batch_norm(operator)
    ]
    if found:
        yield Diagnostic(
            message=f"{counted(len(found), 'teacher operator')} in training mode, which merge puts "
            f"into test mode: {listed(_types(found), LISTED)}",
            severity=Severity.NOTE,
            where=(at_operator("teacher", plan.teacher, found[0]),),
            notes=also([operator.name for operator in found]),
        )


@check("GT224")
def teacher_statistics(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher batch norms would take the statistics of each batch, and move the running ones.

    `merge` puts them into test mode, in nested Blocks too: they use the running statistics, which
    no longer change. Nothing is to be done, but the teacher answers as it does in evaluation.
    """
    found = [operator for operator in _in_training_mode(plan.teacher) if _is_batch_norm(operator)]
    if found:
        yield Diagnostic(
            message=f"{counted(len(found), 'teacher batch norm')} in training mode: merge freezes "
            "the running statistics",
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


def _is_batch_norm(operator: Operator) -> bool:
    return kind_of(operator) == "batch_norm"


def _random_operators(graph: Graph) -> list[Operator]:
    return graph.once(_find_random_operators)


def _find_random_operators(graph: Graph) -> list[Operator]:
    return [found for found in graph.operators.values() if found.kind in RANDOM]


@check("GT226")
def teacher_is_random(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher draws random numbers, and test mode does not stop that.

    Its answers differ from run to run, so a student has no fixed target. Test mode stops plain
    dropout alone: `Dropout2D`, `AlphaDropout` and dropout along an `axis` are made of such
    operators where they were built for training. With a seed of its own each, which gives the same
    numbers in each run, it is a warning.
    """
    found = _random_operators(plan.teacher)
    if found:
        unseeded = [operator for operator in found if not _has_fixed_seed(operator)]
        shown = unseeded or found
        yield Diagnostic(
            message=f"the teacher draws random numbers in {counted(len(shown), 'operator')}",
            severity=Severity.ERROR if unseeded else Severity.WARNING,
            where=(at_operator("teacher", plan.teacher, shown[0]),),
            notes=also([operator.name for operator in shown]),
            help="build the teacher in eval mode: layer.eval()",
        )


@check("GT227")
def random_state_shared(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student draw from one random generator: the student's numbers become others.

    An operator without a seed of its own draws from the generator of its device. What the teacher
    draws is missing for the student, so a run with the same `paddle.seed` has other dropout masks
    than it had without the teacher.
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
            message="teacher and student draw from one random generator: the student's dropout "
            "and samples differ from a run without the teacher",
            severity=Severity.WARNING,
            where=(
                at_operator("teacher", plan.teacher, teacher[0]),
                at_operator("student", plan.student, student[0]),
            ),
            help="give each random operator of the teacher a seed of its own: seed=1",
        )


def _uses_shared_generator(operator: Operator) -> bool:
    """Return whether an operator draws from the shared generator: its seed is 0 and not fixed."""
    return operator.attributes.get("seed") == 0 and not operator.attributes.get("fix_seed")


@check("GT229")
def fixed_seeds(plan: MergePlan) -> Iterator[Diagnostic]:
    """Random operators have a seed of their own, which stays as it is.

    They give the same numbers in each run: a dropout always drops the same elements. A legacy
    Program whose `random_seed` is set when layers are built has such operators.
    """
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


def _has_fixed_seed(operator: Operator) -> bool:
    seed = operator.attributes.get("seed")
    return isinstance(seed, int) and (seed != 0 or bool(operator.attributes.get("fix_seed")))


_TOP_K = frozenset({"top_k", "topk"})
# Operators that pass on the probabilities.
_PASS_THROUGH = frozenset({"assign", "cast", "scale"})
_TERMINAL = _TOP_K | {"argmax", "arg_max", "fetch", "shadow_output"}


@check("GT228")
def probabilities(plan: MergePlan) -> Iterator[Diagnostic]:
    """A network's answer went through softmax or sigmoid already.

    The losses `soft_label`, `dkd` and `skd` take logits and normalise them themselves; given
    probabilities, they compute something else. Pair the Value before. Scores that a sigmoid judges
    one by one, as a text map, are compared by `l2`. Probabilities that only an accuracy reads are
    no answer.
    """
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
                yield Diagnostic(
                    message=f"the {role} answers with `{operator.results[0]}`, which has gone "
                    f"through {kind}: losses that take logits want `{logits}`",
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
    """All operators of the student that act otherwise in training are in test mode.

    Every saved inference model is like that. It loads and it minimizes, but its batch norms use
    statistics that never move, and its dropout does nothing.
    """
    modal = list(modal_operators(plan.student))
    if modal and not plan.restored and not any(_in_training_mode(plan.student)):
        yield Diagnostic(
            message=f"the student is in test mode: {counted(len(modal), 'operator')} of "
            f"{listed(_types(modal), LISTED)} would never learn or drop",
            severity=Severity.WARNING,
            where=(at_operator("student", plan.student, modal[0]),),
            help="graphtool.for_training(student_program)",
        )


@check("GT231")
def student_minimized(plan: MergePlan) -> Iterator[Diagnostic]:
    """The student has gradient or optimizer operators already.

    A loss that is added after them is computed and never trained. Merge first, add the losses, then
    minimize.
    """
    training = [found for found in plan.student.operators.values() if is_training(found)]
    if training:
        yield Diagnostic(
            message=f"the student was minimized already: it has "
            f"{counted(len(training), 'gradient or optimizer operator')}",
            where=(at_operator("student", plan.student, _with_source(training)),),
            notes=("a loss added now is computed, but never trained", *also(_types(training))),
            help="merge(...)  # before optimizer.minimize(loss)",
        )


@check("GT232")
def same_program(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student are one Program object: the network teaches itself.

    A clone of it is merged in, with the weights as they are now, which stay so.
    """
    if plan.one_program:
        yield Diagnostic(
            message=f"teacher and student are one Program: a clone is merged into it, and "
            f"{counted(len(plan.teacher_persistables), 'tensor')} are kept twice",
            severity=Severity.NOTE,
            where=(of_student(plan),),
        )
