"""A Board as the plain data of a page: what stands where, and in what words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphtool.matching import End, Pair, PairSet
from graphtool.rendering._text import amount, percent
from graphtool.rendering.board import Board, Card, Link, Mark, Panel, Row
from graphtool.rendering.html._networks import Network

__all__ = ["board_data", "pairs_data"]


def board_data(
    board: Board, networks: Sequence[Network], places: Sequence[Mapping[str, int]]
) -> dict[str, object]:
    """Return what a page draws; `places` are those of each network's Values."""
    return {
        "panels": [
            _panel(panel, network, place)
            for panel, network, place in zip(board.panels, networks, places, strict=True)
        ],
        "bands": [
            {
                "cards": band.cards,
                "lines": [
                    {"rows": line.rows, "links": line.links, "marks": line.marks}
                    for line in band.lines
                ],
            }
            for band in board.bands
        ],
        "links": [_link(link) for link in board.links],
        "marks": [_mark(mark) for mark in board.marks],
        "headline": board.headline,
        "worst": None if board.worst is None else board.worst.value,
        "notes": board.notes,
    }


def _panel(panel: Panel, network: Network, places: Mapping[str, int]) -> dict[str, object]:
    return {
        "role": panel.role or "network",
        "name": panel.name,
        "inputs": panel.inputs,
        "state": panel.state,
        "unit": panel.unit,
        "parameters": amount(panel.parameters),
        "macs": f"{'' if panel.exact else '≈ '}{amount(panel.multiply_adds)}",
        "flows": panel.flows,
        "cards": [
            _card(card, blocks, places)
            for card, blocks in zip(panel.cards, network.blocks, strict=True)
        ],
    }


def _card(
    card: Card, blocks: Sequence[Sequence[int]], places: Mapping[str, int]
) -> dict[str, object]:
    return {
        "title": card.title,
        **_sums(card),
        "share": percent(card.share),
        "rows": [_row(row, held, places) for row, held in zip(card.rows, blocks, strict=True)],
    }


def _row(row: Row, flows: Sequence[int], places: Mapping[str, int]) -> dict[str, object]:
    return {
        "name": row.name,
        "factor": row.factor,
        "times": row.times,
        **_sums(row),
        "bar": round(row.bar, 3) if row.multiply_adds else None,
        "blocks": [
            {"flow": flow, "value": places[name]}
            for flow, name in zip(flows, row.values, strict=True)
        ],
        "severity": None if row.severity is None else row.severity.value,
    }


def _sums(held: Card | Row) -> dict[str, object]:
    return {
        "size": "–" if held.size is None else str(held.size),
        "parameters": amount(held.parameters),
        "macs": amount(held.multiply_adds),
    }


def _link(link: Link) -> dict[str, object]:
    return {
        "tags": [
            {"ranks": tag.ranks, "text": tag.text, "adapter": tag.adapter} for tag in link.tags
        ],
    }


def _mark(mark: Mark) -> dict[str, object]:
    return {
        "code": mark.code,
        "slug": mark.slug,
        "severity": mark.severity.value,
        "message": mark.message,
        "count": mark.count,
        "spots": [None if spot is None else [spot.card, spot.row] for spot in mark.spots],
    }


def pairs_data(pairs: PairSet, places: Sequence[Mapping[str, int]]) -> list[dict[str, object]]:
    """Return pairs as a recipe has them; their ends are places of Values."""
    return [_pair(pair, places) for pair in pairs]


def _pair(pair: Pair, places: Sequence[Mapping[str, int]]) -> dict[str, object]:
    return {
        "rank": pair.rank,
        "kind": pair.kind.value,
        "loss": pair.loss,
        "weight": float(pair.weight),
        "adapter": pair.adapter,
        "relation": pair.relation.value,
        "score": float(pair.score),
        "why": pair.why,
        "warnings": pair.warnings,
        "ends": _ends(pair.teacher, pair.student, places),
        "taps": [
            {"tap": other.tap.value, "ends": _ends(other.teacher, other.student, places)}
            for other in pair.alternatives
        ],
    }


def _ends(teacher: End, student: End, places: Sequence[Mapping[str, int]]) -> list[int]:
    return [places[0][teacher.name], places[1][student.name]]
