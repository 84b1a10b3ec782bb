"""Locate the diagnostics of a Report at Rows and Operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from graphtool.diagnostics import Diagnostic, Report, Severity, Where
from graphtool.graph import Graph, Operator
from graphtool.rendering._links import outermost, spots_of
from graphtool.rendering.board import Mark, Panel, RowIndex

__all__ = ["diagnostics_by_operator", "marks_of", "with_severities"]

_SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def marks_of(report: Report, graphs: Sequence[Graph], panels: Sequence[Panel]) -> tuple[Mark, ...]:
    """Return the diagnostics, the worst first, with the Row that each concerns in each Panel.

    Without Panels, they have no Rows.
    """
    spots_by_panel = [spots_of(panel) for panel in panels]
    return tuple(
        Mark(
            code=diagnostic.code,
            slug=diagnostic.slug,
            severity=diagnostic.severity,
            message=diagnostic.message,
            count=diagnostic.count,
            spots=tuple(
                _spot(diagnostic, graph, panel.role, spots)
                for graph, panel, spots in zip(graphs, panels, spots_by_panel, strict=False)
            ),
        )
        for diagnostic in _worst_first(report)
    )


def _worst_first(report: Report) -> list[Diagnostic]:
    return sorted(report, key=lambda diagnostic: _SEVERITIES.index(diagnostic.severity))


def diagnostics_by_operator(
    report: Report, graph: Graph, role: str
) -> Mapping[str, Sequence[Diagnostic]]:
    """Return the diagnostics at each Operator of a network, by its name, the worst first."""
    result: dict[str, list[Diagnostic]] = {}
    for diagnostic in _worst_first(report):
        for where in diagnostic.where:
            for operator in islice(_operators_at(graph, role, where), 1):
                result.setdefault(operator.name, []).append(diagnostic)
    return result


def _spot(
    diagnostic: Diagnostic, graph: Graph, role: str | None, spots: Mapping[str, RowIndex]
) -> RowIndex | None:
    for where in diagnostic.where:
        for operator in _operators_at(graph, role, where):
            spot = spots.get(outermost(graph, operator).name)
            if spot is not None:
                return spot
    return None


def _operators_at(graph: Graph, role: str | None, where: Where) -> Iterator[Operator]:
    """Yield the Operators at a location: the one named, or a Value's producer and its readers."""
    if where.value is None or where.role != role:
        return
    if where.value in graph.operators:
        yield graph.operators[where.value]
    if where.value in graph.values:
        producer = graph.producer(where.value)
        if producer is not None and any(name is not None for name in producer.operands):
            yield producer
        yield from graph.consumers.get(where.value, ())


def with_severities(panel: Panel, index: int, marks: Sequence[Mark]) -> Panel:
    """Set the severity of each Row to that of its worst diagnostic."""
    worst: dict[RowIndex, Severity] = {}
    for mark in marks:
        spot = mark.spots[index]
        if spot is not None:
            worst.setdefault(spot, mark.severity)
    cards = (
        replace(
            card,
            rows=tuple(
                replace(row, severity=worst.get(RowIndex(c, r))) for r, row in enumerate(card.rows)
            ),
        )
        for c, card in enumerate(panel.cards)
    )
    return replace(panel, cards=tuple(cards))
