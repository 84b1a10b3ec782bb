"""Rules about a merge: how they are registered and run, and the places that they point to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import Diagnostic, Report, Rule, Severity, Where, documented, listed
from graphtool.graph import Graph, Operator, Shape, Value

__all__ = [
    "LISTED",
    "about_operators",
    "also",
    "at_operator",
    "check",
    "finds",
    "format_shape",
    "in_both",
    "in_student",
    "in_teacher",
    "of_student",
    "of_teacher",
    "run_rules",
]

_Finder: TypeAlias = "Callable[[MergePlan], Iterator[Diagnostic]]"

_FINDERS: dict[str, _Finder] = {}
# The number of names that a Diagnostic lists at most.
LISTED = 3


def check(
    code: str, severity: Severity = Severity.ERROR, *, replaces: Sequence[str] = ()
) -> Callable[[_Finder], Rule]:
    """Make the Rule of a code from the generator that finds its Diagnostics: see `documented`."""
    return lambda find: documented(code, severity, replaces=replaces)(finds(code)(find))


def finds(code: str) -> Callable[[_Finder], _Finder]:
    """Register a generator that finds the Diagnostics of a code whose Rule is made elsewhere."""

    def register(find: _Finder) -> _Finder:
        _FINDERS[code] = find
        return find

    return register


def run_rules(plan: MergePlan) -> Report:
    """Return the diagnostics of all rules, in the order of their codes; nothing is changed."""
    return Report.of(found for code in sorted(_FINDERS) for found in _FINDERS[code](plan))


def in_teacher(plan: MergePlan, name: str) -> Where:
    """Return the place of a Value of the teacher, by its name in the teacher's program."""
    value = plan.teacher_names.get(name) or plan.teacher.values.get(name)
    return _where("teacher", plan.teacher, value, name)


def in_student(plan: MergePlan, name: str) -> Where:
    """Return the place of a Value of the student, by its name in the student's program."""
    value = plan.student_names.get(name) or plan.student.values.get(name)
    return _where("student", plan.student, value, name)


def in_both(plan: MergePlan, teacher: str, student: str) -> tuple[Where, Where]:
    """Return the places of a Value of the teacher and of one of the student."""
    return in_teacher(plan, teacher), in_student(plan, student)


def of_teacher(plan: MergePlan) -> Where:
    """Return the whole teacher as a place."""
    return Where(role="teacher", program=plan.teacher.source)


def of_student(plan: MergePlan) -> Where:
    """Return the whole student as a place."""
    return Where(role="student", program=plan.student.source)


def at_operator(role: str, graph: Graph, operator: Operator) -> Where:
    """Return the place of an Operator, with the shape of its first result."""
    result = graph.values[operator.results[0]] if operator.results else None
    return Where(
        role=role,
        program=graph.source,
        value=operator.name,
        shape=result.shape if result else None,
        source=operator.source,
    )


def about_operators(
    rule: Rule,
    message: str,
    role: str,
    graph: Graph,
    operators: Sequence[Operator],
    *,
    severity: Severity | None = None,
    help: str | None = None,
) -> Diagnostic:
    """Return a Diagnostic about operators, the first of which it points to."""
    notes = also([operator.name for operator in operators])
    where = at_operator(role, graph, operators[0])
    return rule(message, where, severity=severity, notes=notes, help=help)


def _where(role: str, graph: Graph, value: Value | None, name: str) -> Where:
    """Return a place with the user's line that produces the Value, or the first that reads it."""
    source = None
    if value is not None:
        operators = [graph.producer(value.name), *graph.consumers.get(value.name, ())]
        lines = (operator.source for operator in operators if operator and operator.source)
        source = next(lines, None)
    shape = value.shape if value else None
    return Where(role=role, program=graph.source, value=name, shape=shape, source=source)


def also(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note that lists all names but the first, which the place shows."""
    return (f"also {listed(names[1:], LISTED)}",) if len(names) > 1 else ()


def format_shape(shape: Shape | None) -> str:
    """Format a shape for diagnostics: `[-1, 3, 224, 224]`, `?` if it is unknown."""
    return "?" if shape is None else f"[{', '.join(map(str, shape))}]"
