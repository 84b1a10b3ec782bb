"""Rules about a merge: how they are registered and run, and the places that they point to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import (
    Diagnostic,
    Report,
    Rule,
    Severity,
    Where,
    documented,
    listed,
)
from graphtool.graph import Graph, Operator, Shape

__all__ = [
    "LISTED",
    "about_operators",
    "also",
    "at",
    "at_operator",
    "check",
    "finds",
    "format_shape",
    "in_both",
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


def at(plan: MergePlan, role: str, name: str | None = None) -> Where:
    """Return the place of a Value by its name in the program of a network, or the network's.

    Its source is the user's line that produces the Value, or the first that reads it.
    """
    is_teacher = role == "teacher"
    graph = plan.teacher if is_teacher else plan.student
    if name is None:
        return Where(role=role, program=graph.source)
    names = plan.teacher_names if is_teacher else plan.student_names
    value, source = names.get(name) or graph.values.get(name), None
    if value is not None:
        operators = [graph.producer(value.name), *graph.consumers.get(value.name, ())]
        source = next((one.source for one in operators if one and one.source), None)
    shape = value.shape if value else None
    return Where(role=role, program=graph.source, value=name, shape=shape, source=source)


def in_both(plan: MergePlan, teacher: str, student: str) -> tuple[Where, Where]:
    """Return the places of a Value of the teacher and of one of the student."""
    return at(plan, "teacher", teacher), at(plan, "student", student)


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


def also(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note that lists all names but the first, which the place shows."""
    return (f"also {listed(names[1:], LISTED)}",) if len(names) > 1 else ()


def format_shape(shape: Shape | None) -> str:
    """Format a shape for diagnostics: `[-1, 3, 224, 224]`, `?` if it is unknown."""
    return "?" if shape is None else f"[{', '.join(map(str, shape))}]"
