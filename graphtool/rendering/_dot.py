"""DOT of a Board: a node per card, a gutter between two networks, lines from row to row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

from graphtool.rendering._cards import BORDER, Columns, card_label, header_label
from graphtool.rendering._document import Document
from graphtool.rendering._findings import findings_label
from graphtool.rendering._gutter import Gutter, Pill, gutter_header, gutter_label, pills_on
from graphtool.rendering._lanes import draw_lane, lanes_of, lanes_on
from graphtool.rendering._palette import FLOW, FONT
from graphtool.rendering.board import Band, Board, Level, Spot

__all__ = ["board_dot"]

# Between two networks and what is between them, in points.
_APART = 21.6
_GRAPH = {
    "bgcolor": "transparent",
    "rankdir": "TB",
    "newrank": "true",
    "nodesep": f"{_APART / 72:g}",
    "ranksep": "0.25",
    "splines": "spline",
    "pad": "0.25",
    "fontname": FONT,
}
_NODE = {"shape": "plain", "fontname": FONT, "fontsize": "10"}
# Both defaults, and `constraint=false` on pairs: without them dot 2.42 mixes up the attributes of
# flat edges between ports.
_EDGE = {"color": FLOW, "penwidth": "1.5", "arrowsize": "0.65", "dir": "none", "arrowhead": "none"}
_FLOW = {"weight": "50", "dir": "forward", "arrowhead": "normal"}
_JOIN = {"penwidth": "2.2", "dir": "none", "constraint": "false"}


def board_dot(board: Board) -> str:
    """Return the DOT of a Board, the same text for the same Board."""
    dot = Document.new(graph=_GRAPH, node=_NODE, edge=_EDGE)
    columns = Columns.of(board)
    gutter = Gutter.of(board) if len(board.panels) > 1 else None
    _rank(dot, "head", _headers(board, columns, gutter))
    lanes = lanes_of(board)
    for index, band in enumerate(board.bands):
        beside = (tuple(lanes_on(lanes, index, side)) for side in ("w", "e"))
        _rank(dot, str(index), _cells(board, band, columns, gutter), *beside)
    _flows(dot, board)
    nodes = [_nodes(board, place) for place in range(len(board.panels))]
    for lane in lanes:
        draw_lane(dot, lane, partial(_row, nodes[lane.place]))
    if gutter is not None:
        _keep_gutter_straight(dot, board)
        for index, band in enumerate(board.bands):
            for line in band.lines:
                _join(dot, nodes, f"{_GUTTER}_{index}", pills_on(board, line))
        if board.marks:
            width = 2 * (columns.whole + BORDER) + gutter.whole + int(2 * _APART)
            dot.node(_FOUND, findings_label(board.marks, width))
            last = len(board.bands) - 1
            dot.edge(f"{_GUTTER}_{last if board.bands else 'head'}", _FOUND, style="invis")
    return dot.source


def _headers(board: Board, columns: Columns, gutter: Gutter | None) -> Iterator[tuple[str, str]]:
    for panel, label in zip(board.panels, _SIDES, strict=False):
        yield label, header_label(panel, columns)
        if gutter is not None and label == _SIDES[0]:
            yield _GUTTER, gutter_header(board, gutter)


_SIDES, _GUTTER, _FOUND = ("left", "right"), "pairs", "findings"


def _cells(
    board: Board, band: Band, columns: Columns, gutter: Gutter | None
) -> Iterator[tuple[str, str]]:
    for place, (panel, card) in enumerate(zip(board.panels, band.cards, strict=True)):
        if card is not None:
            lines = [line.rows[place] for line in band.lines]
            yield _SIDES[place], card_label(panel.cards[card], panel.role, columns, lines)
        if gutter is not None and place == 0:
            overview = board.level is Level.STAGE
            yield _GUTTER, gutter_label(board, band.lines, gutter, overview=overview)


def _rank(
    dot: Document,
    index: str,
    nodes: Iterator[tuple[str, str]],
    left: Sequence[str] = (),
    right: Sequence[str] = (),
) -> None:
    """Put nodes side by side, in order, between points of lanes."""
    with dot.part(rank="same") as rank:
        names = [*left]
        for side, label in nodes:
            names.append(f"{side}_{index}")
            rank.node(names[-1], label)
        names += right
        for point in (*left, *right):
            rank.link(point, FLOW)
        for left, right in pairwise(names):
            rank.edge(left, right, style="invis")


def _flows(dot: Document, board: Board) -> None:
    """Draw which card reads from the one above."""
    for place, panel in enumerate(board.panels):
        nodes = _nodes(board, place)
        if not nodes:
            continue
        dot.edge(f"{_SIDES[place]}_head:s", f"{nodes[0]}:c:n", **_FLOW)
        for index in range(len(nodes) - 1):
            shown = _FLOW if (index, index + 1) in panel.flows else {"style": "invis"}
            dot.edge(f"{nodes[index]}:c:s", f"{nodes[index + 1]}:c:n", **{**_FLOW, **shown})


def _nodes(board: Board, place: int) -> list[str]:
    """Return the node of each card of a network."""
    held = {band.cards[place]: str(index) for index, band in enumerate(board.bands)}
    return [f"{_SIDES[place]}_{held[card]}" for card in range(len(board.panels[place].cards))]


def _keep_gutter_straight(dot: Document, board: Board) -> None:
    names = [f"{_GUTTER}_{index}" for index in ("head", *range(len(board.bands)))]
    for above, below in pairwise(names):
        dot.edge(above, below, style="invis", weight="80")


def _join(dot: Document, cards: Sequence[Sequence[str]], node: str, pills: Sequence[Pill]) -> None:
    """Draw lines from pills to their rows: from one where several are joined to the same row."""
    for index, pill in enumerate(pills):
        teacher, student = pill.spots
        before, behind = pills[:index], pills[index + 1 :]
        line = {"color": pill.scheme.full, **_JOIN}
        if teacher is not None and all(other.spots[0] != teacher for other in before):
            dot.edge(f"{_row(cards[0], teacher)}:e", f"{node}:p{pill.key}:w", **line)
        if student is not None and all(other.spots[1] != student for other in behind):
            dot.edge(f"{node}:q{pill.key}:e", f"{_row(cards[1], student)}:w", **line)


def _row(cards: Sequence[str], spot: Spot) -> str:
    return f"{cards[spot.card]}:r{spot.row}"
