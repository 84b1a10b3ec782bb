"""Findings of a Report at the Rows that they speak of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from graphtool.diagnostics import Diagnostic, Report, Severity, Where
from graphtool.graph import Graph, Operator
from graphtool.rendering._links import outermost, spots_of
from graphtool.rendering.board import Mark, Panel, Spot

__all__ = ["findings_of", "marked", "marks_of"]

_SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def marks_of(report: Report, graphs: Sequence[Graph], panels: Sequence[Panel]) -> tuple[Mark, ...]:
    """Return the findings, the worst first, each with the Row that it speaks of in each Panel.

    Without Panels they have no Rows.
    """
    rows = [spots_of(panel) for panel in panels]
    return tuple(
        Mark(
            code=found.code,
            slug=found.slug,
            severity=found.severity,
            message=found.message,
            count=found.count,
            spots=tuple(
                _spot(found, graph, panel.role, spots)
                for graph, panel, spots in zip(graphs, panels, rows, strict=False)
            ),
        )
        for found in _worst_first(report)
    )


def _worst_first(report: Report) -> list[Diagnostic]:
    return sorted(report, key=lambda found: _SEVERITIES.index(found.severity))


def findings_of(report: Report, graph: Graph, role: str) -> Mapping[str, Sequence[Diagnostic]]:
    """Return the findings at each Operator of a network, by its name, the worst first."""
    found: dict[str, list[Diagnostic]] = {}
    for finding in _worst_first(report):
        for where in finding.where:
            for operator in islice(_operators(graph, role, where), 1):
                found.setdefault(operator.name, []).append(finding)
    return found


def _spot(
    found: Diagnostic, graph: Graph, role: str | None, spots: Mapping[str, Spot]
) -> Spot | None:
    for where in found.where:
        for operator in _operators(graph, role, where):
            spot = spots.get(outermost(graph, operator).name)
            if spot is not None:
                return spot
    return None


def _operators(graph: Graph, role: str | None, where: Where) -> Iterator[Operator]:
    """Yield the Operators that a place in this network means: what makes a Value, what reads it."""
    if where.value is None or where.role != role:
        return
    if where.value in graph.operators:
        yield graph.operators[where.value]
    if where.value in graph.values:
        producer = graph.producer(where.value)
        if producer is not None and any(name is not None for name in producer.operands):
            yield producer
        yield from graph.consumers.get(where.value, ())


def marked(panel: Panel, place: int, marks: Sequence[Mark]) -> Panel:
    """Note at each Row of a Panel how bad the worst finding there is."""
    worst: dict[Spot, Severity] = {}
    for mark in marks:
        spot = mark.spots[place]
        if spot is not None:
            worst.setdefault(spot, mark.severity)
    cards = (
        replace(
            card,
            rows=tuple(
                replace(row, severity=worst.get(Spot(c, r))) for r, row in enumerate(card.rows)
            ),
        )
        for c, card in enumerate(panel.cards)
    )
    return replace(panel, cards=tuple(cards))
