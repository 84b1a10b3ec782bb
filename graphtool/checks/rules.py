"""Rules about a merge: how they are registered and run, and the places that they point to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import TypeAlias

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import (
    Call,
    Diagnostic,
    Report,
    Severity,
    Where,
    listed,
    register_docs,
    registered_docs,
)
from graphtool.graph import Graph, Operator, Shape, Value

__all__ = [
    "LISTED",
    "about_operators",
    "also",
    "at_operator",
    "check",
    "feed_map_argument",
    "format_shape",
    "in_student",
    "in_teacher",
    "mapped_feeds",
    "not_checked",
    "of_student",
    "of_teacher",
    "run_rules",
]

_Finder: TypeAlias = "Callable[[MergePlan], Iterator[Diagnostic]]"

_FINDERS: dict[str, _Finder] = {}


def check(code: str, *, replaces: Sequence[str] = ()) -> Callable[[_Finder], _Finder]:
    """Register a generator as the rule of a code.

    The slug is the function's name, and its docstring is what `graphtool explain CODE` prints.
    `replaces` are codes of earlier releases that this one covers now. A generator without a
    docstring finds the Diagnostics of a `@rule` that other modules use as well.
    """

    def register(find: _Finder) -> _Finder:
        if find.__doc__:
            register_docs(code, find, replaces)

        @wraps(find)
        def coded(plan: MergePlan) -> Iterator[Diagnostic]:
            slug = registered_docs().get(code, "").partition("\n")[0].removeprefix(f"{code} ")
            for found in find(plan):
                yield replace(found, code=code, slug=slug)

        _FINDERS[code] = coded
        return coded

    return register


def run_rules(plan: MergePlan) -> Report:
    """Return the diagnostics of all rules, in the order of their codes; nothing is changed."""
    return Report.of(found for code in sorted(_FINDERS) for found in _FINDERS[code](plan))


def not_checked(what: str, why: str, help: str | None = None) -> Diagnostic:
    """Report that a rule did not have the facts it needs, which is not a pass."""
    return Diagnostic(
        message=f"not checked: {what}", severity=Severity.NOTE, notes=(why,), help=help
    )


# The number of names that a Diagnostic lists at most.
LISTED = 3


def in_teacher(plan: MergePlan, value: Value | None, name: str | None = None) -> Where:
    """Return the place of a Value of the teacher, by its name in the teacher's program."""
    return _where("teacher", plan.teacher, value, name)


def in_student(plan: MergePlan, value: Value | None, name: str | None = None) -> Where:
    """Return the place of a Value of the student, by its name in the student's program."""
    return _where("student", plan.student, value, name)


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
    message: str,
    role: str,
    graph: Graph,
    operators: Sequence[Operator],
    *,
    severity: Severity = Severity.WARNING,
    help: str | None = None,
) -> Diagnostic:
    """Return a Diagnostic about operators, the first of which it points to."""
    return Diagnostic(
        message=message,
        severity=severity,
        where=(at_operator(role, graph, operators[0]),),
        notes=also([operator.name for operator in operators]),
        help=help,
    )


def _where(role: str, graph: Graph, value: Value | None, name: str | None) -> Where:
    return Where(
        role=role,
        program=graph.source,
        value=name or (value.name if value else None),
        shape=value.shape if value else None,
        source=_source(graph, value) if value else None,
    )


def _source(graph: Graph, value: Value) -> str | None:
    """Return the user's line that produces a Value, or the first known one that reads it."""
    operators = [graph.producer(value.name), *graph.consumers.get(value.name, ())]
    lines = (operator.source for operator in operators if operator and operator.source)
    return next(lines, None)


def mapped_feeds(plan: MergePlan) -> Iterator[tuple[Value, Value]]:
    """Yield the teacher and student feeds that the feed map joins and that both exist."""
    for teacher, student in plan.feed_map:
        if teacher in plan.teacher.feeds and student in plan.student.feeds:
            yield plan.teacher.values[teacher], plan.student.values[student]


def also(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note that lists all names but the first, which the place shows."""
    return (f"also {listed(names[1:], LISTED)}",) if len(names) > 1 else ()


def feed_map_argument(feed_map: Mapping[str, str], comment: str = "") -> Call:
    """Return a feed map as the help of a Diagnostic: `feed_map={"x": "image"}`."""
    return Call(None, comment, feed_map=feed_map)


def format_shape(shape: Shape | None) -> str:
    """Format a shape for diagnostics: `[-1, 3, 224, 224]`, `?` if it is unknown."""
    return "?" if shape is None else f"[{', '.join(map(str, shape))}]"
