"""Write the DOT of a Board: a node per card, and edges from row to row across the pair column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

from graphtool.rendering._cards import BORDER, Columns, card_label, header_label
from graphtool.rendering._document import Document
from graphtool.rendering._findings import findings_label
from graphtool.rendering._lanes import draw_lane, lanes_of, lanes_on
from graphtool.rendering._pair_column import (
    PairColumn,
    Pill,
    pair_column_header,
    pair_column_label,
    pills_on,
)
from graphtool.rendering._palette import FLOW, FONT
from graphtool.rendering.board import Band, Board, Level, RowIndex

__all__ = ["board_dot"]

# The space between a network and the pair column, in points.
_SPACE = 21.6
_GRAPH_ATTRIBUTES = {
    "bgcolor": "transparent",
    "rankdir": "TB",
    "newrank": "true",
    "nodesep": f"{_SPACE / 72:g}",
    "ranksep": "0.25",
    "splines": "spline",
    "pad": "0.25",
    "fontname": FONT,
}
_NODE_DEFAULTS = {"shape": "plain", "fontname": FONT, "fontsize": "10"}
# dot 2.42 mixes up the attributes of flat edges between ports without the defaults for `dir` and
# `arrowhead`, and `constraint=false` on the edges of pairs.
_EDGE_DEFAULTS = {
    "color": FLOW,
    "penwidth": "1.5",
    "arrowsize": "0.65",
    "dir": "none",
    "arrowhead": "none",
}
_FLOW_EDGE = {"weight": "50", "dir": "forward", "arrowhead": "normal"}
_PAIR_EDGE = {"penwidth": "2.2", "dir": "none", "constraint": "false"}
# Node names: prefixes for the cards of each Panel and for the pair column, and one whole name.
_PANEL_NODES, _PAIRS_NODE, _FINDINGS_NODE = ("left", "right"), "pairs", "findings"


def board_dot(board: Board) -> str:
    """Return the DOT of a Board."""
    dot = Document.new(graph=_GRAPH_ATTRIBUTES, node=_NODE_DEFAULTS, edge=_EDGE_DEFAULTS)
    columns = Columns.of(board)
    pair_column = PairColumn.of(board) if len(board.panels) > 1 else None
    _draw_rank(dot, "head", _headers(board, columns, pair_column))
    lanes = lanes_of(board)
    for index, band in enumerate(board.bands):
        left, right = (tuple(lanes_on(lanes, index, side)) for side in ("w", "e"))
        _draw_rank(dot, str(index), _cells(board, band, columns, pair_column), left, right)
    _draw_flows(dot, board)
    nodes = [_card_nodes(board, panel) for panel in range(len(board.panels))]
    for lane in lanes:
        draw_lane(dot, lane, partial(_row_port, nodes[lane.place]))
    if pair_column is not None:
        _align_pair_column(dot, board)
        for index, band in enumerate(board.bands):
            for line in band.lines:
                _draw_pair_edges(dot, nodes, f"{_PAIRS_NODE}_{index}", pills_on(board, line))
        if board.marks:
            width = 2 * (columns.inner_width + BORDER) + pair_column.width + int(2 * _SPACE)
            dot.node(_FINDINGS_NODE, findings_label(board.marks, width))
            last = len(board.bands) - 1 if board.bands else "head"
            dot.edge(f"{_PAIRS_NODE}_{last}", _FINDINGS_NODE, style="invis")
    return dot.source


def _headers(
    board: Board, columns: Columns, pair_column: PairColumn | None
) -> Iterator[tuple[str, str]]:
    """Yield the node name and label of each header, from left to right."""
    for panel, node in zip(board.panels, _PANEL_NODES, strict=False):
        yield node, header_label(panel, columns)
        if pair_column is not None and node == _PANEL_NODES[0]:
            yield _PAIRS_NODE, pair_column_header(board, pair_column)


def _cells(
    board: Board, band: Band, columns: Columns, pair_column: PairColumn | None
) -> Iterator[tuple[str, str]]:
    """Yield the node name and label of each card of a band, and of its pills."""
    for index, (panel, card) in enumerate(zip(board.panels, band.cards, strict=True)):
        if card is not None:
            lines = [line.rows[index] for line in band.lines]
            yield _PANEL_NODES[index], card_label(panel.cards[card], panel.role, columns, lines)
        if pair_column is not None and index == 0:
            overview = board.level is Level.STAGE
            yield _PAIRS_NODE, pair_column_label(board, band.lines, pair_column, overview=overview)


def _draw_rank(
    dot: Document,
    index: str,
    nodes: Iterator[tuple[str, str]],
    left: Sequence[str] = (),
    right: Sequence[str] = (),
) -> None:
    """Put nodes side by side, in order, between the points of the lanes left and right of them."""
    with dot.subgraph(rank="same") as rank:
        names = [*left]
        for name, label in nodes:
            names.append(f"{name}_{index}")
            rank.node(names[-1], label)
        names += right
        for point in (*left, *right):
            rank.line_segment(point, FLOW)
        for tail, head in pairwise(names):
            rank.edge(tail, head, style="invis")


def _draw_flows(dot: Document, board: Board) -> None:
    """Draw the edges between consecutive cards, invisible if the lower doesn't read the upper."""
    for p, panel in enumerate(board.panels):
        nodes = _card_nodes(board, p)
        if not nodes:
            continue
        dot.edge(f"{_PANEL_NODES[p]}_head:s", f"{nodes[0]}:c:n", **_FLOW_EDGE)
        for index in range(len(nodes) - 1):
            style = {} if (index, index + 1) in panel.flows else {"style": "invis"}
            dot.edge(f"{nodes[index]}:c:s", f"{nodes[index + 1]}:c:n", **_FLOW_EDGE, **style)


def _card_nodes(board: Board, panel: int) -> list[str]:
    """Return the node names of a network's cards."""
    bands = {band.cards[panel]: str(index) for index, band in enumerate(board.bands)}
    return [
        f"{_PANEL_NODES[panel]}_{bands[card]}" for card in range(len(board.panels[panel].cards))
    ]


def _align_pair_column(dot: Document, board: Board) -> None:
    names = [f"{_PAIRS_NODE}_{index}" for index in ("head", *range(len(board.bands)))]
    for above, below in pairwise(names):
        dot.edge(above, below, style="invis", weight="80")


def _draw_pair_edges(
    dot: Document, cards: Sequence[Sequence[str]], node: str, pills: Sequence[Pill]
) -> None:
    """Draw edges from pills to their rows, one for all the pills of the same row."""
    for index, pill in enumerate(pills):
        teacher, student = pill.spots
        earlier, later = pills[:index], pills[index + 1 :]
        attributes = {"color": pill.scheme.full, **_PAIR_EDGE}
        if teacher is not None and all(other.spots[0] != teacher for other in earlier):
            dot.edge(f"{_row_port(cards[0], teacher)}:e", f"{node}:p{pill.key}:w", **attributes)
        if student is not None and all(other.spots[1] != student for other in later):
            dot.edge(f"{node}:q{pill.key}:e", f"{_row_port(cards[1], student)}:w", **attributes)


def _row_port(cards: Sequence[str], spot: RowIndex) -> str:
    return f"{cards[spot.card]}:r{spot.row}"
