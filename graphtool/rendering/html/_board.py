"""Convert a Board and its pairs to the JSON data of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphtool.both import Both
from graphtool.matching import End, Pair, PairSet
from graphtool.rendering._text_metrics import amount, percent
from graphtool.rendering.board import BlockRow, Board, Card, Mark, Panel
from graphtool.rendering.html._networks import Network

__all__ = ["board_data", "pairs_data"]


def board_data(
    board: Board, networks: Sequence[Network], value_indices: Sequence[Mapping[str, int]]
) -> dict[str, object]:
    """Return a Board as plain data; `value_indices` are those of each network's Values."""
    return {
        "panels": [
            _panel_data(panel, network, indices)
            for panel, network, indices in zip(board.panels, networks, value_indices, strict=True)
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
        "links": [
            {
                "tags": [
                    {"ranks": tag.ranks, "text": tag.text, "adapter": tag.adapter}
                    for tag in link.tags
                ],
            }
            for link in board.links
        ],
        "marks": [_mark_data(mark) for mark in board.marks],
        "headline": board.headline,
        "worst": None if board.worst is None else board.worst.value,
        "notes": board.notes,
    }


def _panel_data(
    panel: Panel, network: Network, value_indices: Mapping[str, int]
) -> dict[str, object]:
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
            _card_data(card, blocks, value_indices)
            for card, blocks in zip(panel.cards, network.blocks, strict=True)
        ],
    }


def _card_data(
    card: Card, blocks: Sequence[Sequence[int]], value_indices: Mapping[str, int]
) -> dict[str, object]:
    return {
        "title": card.title,
        **_cost_data(card),
        "share": percent(card.share),
        "rows": [
            _row_data(row, flows, value_indices)
            for row, flows in zip(card.rows, blocks, strict=True)
        ],
    }


def _row_data(
    row: BlockRow, flows: Sequence[int], value_indices: Mapping[str, int]
) -> dict[str, object]:
    return {
        "name": row.name,
        "factor": row.factor,
        "times": row.times,
        **_cost_data(row),
        "bar": round(row.bar, 3) if row.multiply_adds else None,
        "blocks": [
            {"flow": flow, "value": value_indices[name]}
            for flow, name in zip(flows, row.values, strict=True)
        ],
        "severity": None if row.severity is None else row.severity.value,
    }


def _cost_data(costs: Card | BlockRow) -> dict[str, object]:
    return {
        "size": "–" if costs.size is None else str(costs.size),
        "parameters": amount(costs.parameters),
        "macs": amount(costs.multiply_adds),
    }


def _mark_data(mark: Mark) -> dict[str, object]:
    return {
        "code": mark.code,
        "slug": mark.slug,
        "severity": mark.severity.value,
        "message": mark.message,
        "count": mark.count,
        "spots": [None if spot is None else [spot.card, spot.row] for spot in mark.spots],
    }


def pairs_data(pairs: PairSet, value_indices: Both[Mapping[str, int]]) -> list[dict[str, object]]:
    """Return pairs with the fields of a recipe; their ends are indices of Values."""
    return [_pair_data(pair, value_indices) for pair in pairs]


def _pair_data(pair: Pair, value_indices: Both[Mapping[str, int]]) -> dict[str, object]:
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
        "ends": _ends(pair.teacher, pair.student, value_indices),
        "taps": [
            {"tap": tap.tap.value, "ends": _ends(tap.teacher, tap.student, value_indices)}
            for tap in pair.alternatives
        ],
    }


def _ends(teacher: End, student: End, value_indices: Both[Mapping[str, int]]) -> list[int]:
    return [value_indices.teacher[teacher.name], value_indices.student[student.name]]
