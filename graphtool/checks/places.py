"""Where a Diagnostic about a merge points, and how it lists many names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import Where, listed
from graphtool.graph import Graph, Operator, Shape, Value
from graphtool.text import literal

__all__ = [
    "LISTED",
    "also",
    "at_operator",
    "feed_map_argument",
    "in_student",
    "in_teacher",
    "mapped_feeds",
    "of_student",
    "of_teacher",
    "spelt",
]

# How many names of many a Diagnostic lists.
LISTED = 3


def in_teacher(plan: MergePlan, value: Value | None, name: str | None = None) -> Where:
    """Point at a Value of the teacher, under the name that its program has for it."""
    return _at("teacher", plan.teacher, value, name)


def in_student(plan: MergePlan, value: Value | None, name: str | None = None) -> Where:
    """Point at a Value of the student, under the name that its program has for it."""
    return _at("student", plan.student, value, name)


def of_teacher(plan: MergePlan) -> Where:
    """Point at the teacher as a whole."""
    return Where(role="teacher", program=plan.teacher.source)


def of_student(plan: MergePlan) -> Where:
    """Point at the student as a whole."""
    return Where(role="student", program=plan.student.source)


def at_operator(role: str, graph: Graph, operator: Operator) -> Where:
    """Point at an Operator, with the shape of its first result."""
    result = graph.values[operator.results[0]] if operator.results else None
    return Where(
        role=role,
        program=graph.source,
        value=operator.name,
        shape=result.shape if result else None,
        source=operator.source,
    )


def _at(role: str, graph: Graph, value: Value | None, name: str | None) -> Where:
    return Where(
        role=role,
        program=graph.source,
        value=name or (value.name if value else None),
        shape=value.shape if value else None,
        source=_source(graph, value) if value else None,
    )


def _source(graph: Graph, value: Value) -> str | None:
    """Return the user's line that made a Value or, where none is known, that reads it first."""
    return next(_lines(graph, value), None)


def _lines(graph: Graph, value: Value) -> Iterator[str]:
    operators = [graph.producer(value.name), *graph.consumers.get(value.name, ())]
    yield from (operator.source for operator in operators if operator and operator.source)


def mapped_feeds(plan: MergePlan) -> Iterator[tuple[Value, Value]]:
    """Yield teacher and student feeds that go together, where both are there."""
    for teacher, student in plan.feed_map:
        if teacher in plan.teacher.feeds and student in plan.student.feeds:
            yield plan.teacher.values[teacher], plan.student.values[student]


def also(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note that lists the names after the first, which the place shows."""
    return (f"also {listed(names[1:], LISTED)}",) if len(names) > 1 else ()


def feed_map_argument(feed_map: Mapping[str, str]) -> str:
    """Spell a feed map as the argument that can be typed: `feed_map={"x": "image"}`."""
    entries = (f"{literal(old)}: {literal(new)}" for old, new in feed_map.items())
    return f"feed_map={{{', '.join(entries)}}}"


def spelt(shape: Shape | None) -> str:
    """Spell a shape as diagnostics do: `[-1, 3, 224, 224]`, `?` where it is not known."""
    return "?" if shape is None else f"[{', '.join(map(str, shape))}]"
