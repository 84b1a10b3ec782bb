"""Write the DOT of a Board: a table for each card, and pills between two networks.

Rows have the ids `teacher-<card>-<row>`, pills `pair-<link>` and `mark-<mark>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

from graphtool.diagnostics import counted
from graphtool.rendering._labels import (
    FLOW,
    FONT,
    INK,
    MUTED,
    PAIR,
    PAPER,
    SEVERITIES,
    Scheme,
    amount,
    cell,
    filled,
    gap,
    percent,
    row,
    scheme_of,
    table,
    text,
    width_of,
)
from graphtool.rendering.board import (
    Band,
    BlockRow,
    Board,
    Card,
    Level,
    Line,
    Mark,
    Panel,
    RowIndex,
    Tag,
)

__all__ = ["Dot", "board_dot", "findings_label"]

# A Digraph of the package graphviz, which has no types.
Dot: TypeAlias = Any

# Heights in points; a card's border adds one point on each side.
_LINE_HEIGHT, _TITLE_HEIGHT, _OVERVIEW_HEIGHT, _BORDER = 20, 27, 30, 1
# The space above the text of a row, which centres capital letters.
_TEXT_DROP = 3
_INDENT, _TITLE_INDENT, _GAP, _BAR_WIDTH, _MAX_BAR, _BAR_HEIGHT = 14, 9, 9, 45, 38, 7
_PADDING, _SPACE, _MARGIN = 6, 4, 10
# Pills: heights, widths and the space between two.
_PILL_HEIGHT, _EDGE, _SMALL_TYPE, _PILL_MARGIN = 16, 2, 8, 6
_MIN_LABEL, _MIN_BODY, _MIN_HEADER = 20, 72, 104
_MAX_LABEL, _MAX_BODY, _MAX_HEADER = 90, 220, 200
# The table of findings: widths of its columns, and how many it shows.
_CODE, _SEVERITY, _SLUG, _FINDING_INDENT, _MAX_FINDINGS = 46, 56, 150, 10, 12
# The space between a network and the pair column, in points.
_COLUMN_SPACE = 21.6
_GRAPH = {
    "bgcolor": "transparent",
    "rankdir": "TB",
    "newrank": "true",
    "nodesep": f"{_COLUMN_SPACE / 72:g}",
    "ranksep": "0.25",
    "splines": "spline",
    "pad": "0.25",
    "fontname": FONT,
}
_NODE = {"shape": "plain", "fontname": FONT, "fontsize": "10"}
# dot 2.42 mixes up the attributes of flat edges between ports without the defaults for `dir` and
# `arrowhead`, and `constraint=false` on the edges of pairs.
_EDGES = {
    "color": FLOW,
    "penwidth": "1.5",
    "arrowsize": "0.65",
    "dir": "none",
    "arrowhead": "none",
}
_FLOW_EDGE = {"weight": "50", "dir": "forward", "arrowhead": "normal"}
_PAIR_EDGE = {"penwidth": "2.2", "dir": "none", "constraint": "false"}
# Branches: a point in a lane, and edges that are straight but never pull cards out of their column.
_POINT = {
    "label": "",
    "shape": "box",
    "fixedsize": "true",
    "width": "0.0167",
    "height": "0.08",
    "style": "filled",
    "fillcolor": FLOW,
    "penwidth": "0",
}
_LANE_EDGE = {"headclip": "false", "penwidth": "1.2"}
_LANE_STRAIGHT = {"tailclip": "false", "weight": "3"}
_UP = {"dir": "back", "arrowtail": "normal"}
_DOWN = {"dir": "forward", "arrowhead": "normal"}
# Node names: prefixes for the cards of each Panel and for the pair column, and one whole name.
_PANEL_NODES, _PAIRS_NODE, _FINDINGS_NODE = ("left", "right"), "pairs", "findings"


def board_dot(board: Board) -> str:
    """Return the DOT of a Board."""
    from graphviz import Digraph

    dot: Dot = Digraph("graphtool", graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGES)
    columns = _Columns.of(board)
    pair_column = _PairColumn.of(board) if len(board.panels) > 1 else None
    lanes = _lanes_of(board)
    headers = [
        (_PANEL_NODES[index], _header_label(panel, columns))
        for index, panel in enumerate(board.panels)
    ]
    if pair_column is not None:
        headers.insert(1, (_PAIRS_NODE, _pair_column_header(board, pair_column)))
    _draw_rank(dot, "head", headers)
    for index, band in enumerate(board.bands):
        west, east = (
            [
                f"{lane.name}_{index}"
                for lane in lanes
                if lane.side == side and index in lane.between
            ]
            for side in ("w", "e")
        )
        nodes = _cells(board, band, columns, pair_column)
        _draw_rank(dot, str(index), nodes, west, east[::-1])
    nodes = [_draw_flows(dot, board, index) for index in range(len(board.panels))]
    for lane in lanes:
        _draw_lane(dot, lane, nodes[lane.panel])
    if pair_column is not None:
        column = [f"{_PAIRS_NODE}_{index}" for index in ("head", *range(len(board.bands)))]
        for above, below in pairwise(column):
            dot.edge(above, below, style="invis", weight="80")
        for node, band in zip(column[1:], board.bands, strict=True):
            for line in band.lines:
                _draw_pair_edges(dot, nodes, node, _pills_on(board, line))
        if board.marks:
            width = 2 * (columns.inner_width + _BORDER) + pair_column.width + int(2 * _COLUMN_SPACE)
            dot.node(_FINDINGS_NODE, f"<{findings_label(board.marks, width)}>")
            dot.edge(column[-1], _FINDINGS_NODE, style="invis")
    return dot.source


def _cells(
    board: Board, band: Band, columns: _Columns, pair_column: _PairColumn | None
) -> Iterator[tuple[str, str]]:
    """Yield the node name and label of each card of a band, and of its pills."""
    for index, card in enumerate(band.cards):
        if card is not None:
            lines = [line.rows[index] for line in band.lines]
            yield _PANEL_NODES[index], _card_label(board.panels[index], card, columns, lines)
        if pair_column is not None and index == 0:
            top, height = (
                (0, _OVERVIEW_HEIGHT) if columns.overview else (_TITLE_HEIGHT, _LINE_HEIGHT)
            )
            rows = (_pill_rows(_pills_on(board, line), pair_column, height) for line in band.lines)
            edges = [gap(pair_column.width, size) for size in (top + _BORDER, _BORDER)]
            yield _PAIRS_NODE, table((edges[0], *rows, edges[1]))


def _draw_rank(
    dot: Dot,
    index: str,
    nodes: Iterable[tuple[str, str]],
    west: Sequence[str] = (),
    east: Sequence[str] = (),
) -> None:
    """Put nodes side by side, in order, between the points of the lanes on both sides."""
    with dot.subgraph() as rank:
        rank.attr(rank="same")
        names = [*west]
        for name, label in nodes:
            names.append(f"{name}_{index}")
            rank.node(names[-1], f"<{label}>")
        names += east
        for point in (*west, *east):
            rank.node(point, **_POINT)
        for tail, head in pairwise(names):
            rank.edge(tail, head, style="invis")


def _draw_flows(dot: Dot, board: Board, index: int) -> list[str]:
    """Draw the edges from card to card of a network; return the names of their nodes.

    An edge is invisible if the lower card doesn't read the upper one.
    """
    bands = {band.cards[index]: number for number, band in enumerate(board.bands)}
    panel, prefix = board.panels[index], _PANEL_NODES[index]
    nodes = [f"{prefix}_{bands[card]}" for card in range(len(panel.cards))]
    for first in nodes[:1]:
        dot.edge(f"{prefix}_head:s", f"{first}:c:n", **_FLOW_EDGE)
    for card, (upper, lower) in enumerate(pairwise(nodes)):
        style = {} if (card, card + 1) in panel.flows else {"style": "invis"}
        dot.edge(f"{upper}:c:s", f"{lower}:c:n", **_FLOW_EDGE, **style)
    return nodes


def _draw_pair_edges(
    dot: Dot, cards: Sequence[Sequence[str]], node: str, pills: Sequence[_Pill]
) -> None:
    """Draw edges from pills to their rows, one for all the pills of the same row."""
    for index, pill in enumerate(pills):
        teacher, student = pill.spots
        earlier, later = pills[:index], pills[index + 1 :]
        attributes = {"color": pill.parts[0].scheme.full, "class": pill.name, **_PAIR_EDGE}
        if teacher is not None and all(other.spots[0] != teacher for other in earlier):
            dot.edge(f"{_row_port(cards[0], teacher)}:e", f"{node}:p{pill.key}:w", **attributes)
        if student is not None and all(other.spots[1] != student for other in later):
            dot.edge(f"{node}:q{pill.key}:e", f"{_row_port(cards[1], student)}:w", **attributes)


def _row_port(cards: Sequence[str], spot: RowIndex) -> str:
    return f"{cards[spot.card]}:r{spot.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lane:
    """The way of branches from one Row past the bands in between, to one Row or several.

    `panel` is the index of its Panel, `side` the one on which it lies: `w` or `e`. `ends` are
    Rows below `start` with their bands, except that a branch which comes back up has a lane of its
    own from the Row that it ends at, `is_up`.
    """

    name: str
    panel: int
    side: str
    start: RowIndex
    ends: tuple[tuple[int, RowIndex], ...]
    between: range
    is_up: bool


def _lanes_of(board: Board) -> tuple[_Lane, ...]:
    """Return the lanes of all branches, the longest first."""
    lanes: list[_Lane] = []
    for index, panel in enumerate(board.panels):
        bands = {band.cards[index]: number for number, band in enumerate(board.bands)}
        ways: dict[tuple[RowIndex, RowIndex | None], list[RowIndex]] = {}
        for source, target in panel.jumps:
            is_up = target < source
            upper, lower = (target, source) if is_up else (source, target)
            ways.setdefault((upper, lower if is_up else None), []).append(lower)
        for number, ((start, up), ends) in enumerate(ways.items()):
            placed = tuple((bands[end.card], end) for end in ends)
            lane = _Lane(
                name=f"lane{index}_{number}",
                panel=index,
                side="w" if index == 0 and len(board.panels) > 1 else "e",
                start=start,
                ends=placed,
                between=range(bands[start.card] + 1, max(placed)[0]),
                is_up=up is not None,
            )
            lanes.append(lane)
    return tuple(sorted(lanes, key=lambda lane: -len(lane.between)))


def _draw_lane(dot: Dot, lane: _Lane, cards: Sequence[str]) -> None:
    """Draw a lane through its points, and from them to its rows."""
    start = f"{_row_port(cards, lane.start)}:{lane.side}"
    points = [f"{lane.name}_{band}" for band in lane.between]
    for index, (tail, head) in enumerate(pairwise([start, *points])):
        shown = _LANE_STRAIGHT if index else _UP if lane.is_up else {}
        dot.edge(tail, head, **_LANE_EDGE, **shown)
    for band, end in lane.ends:
        is_beside = band - 1 in lane.between
        tail, clip = (
            (f"{lane.name}_{band - 1}", {"tailclip": "false"}) if is_beside else (start, {})
        )
        shown = _DOWN if not lane.is_up else {} if is_beside else _UP
        target = f"{_row_port(cards, end)}:{lane.side}"
        dot.edge(tail, target, penwidth=_LANE_EDGE["penwidth"], **clip, **shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The widths of a card's columns in points, equal for all cards of a Board."""

    title: int
    name: int
    times: int
    size: int
    parameters: int
    multiply_adds: int
    overview: bool

    @classmethod
    def of(cls, board: Board) -> _Columns:
        """Measure the contents of all columns of a Board."""
        cards = [card for panel in board.panels for card in panel.cards]
        rows = [row for card in cards for row in card.rows]
        overview = board.level is Level.STAGE
        return cls(
            title=_widest([card.title for card in cards], 12, 70, 200) if overview else 0,
            name=_widest([f"{row.name} {row.factor}" for row in rows], 10, 104, 230),
            times=_widest([_times_text(row) for row in rows], 10, 30, 60),
            size=_widest([_size_text(card.size) for card in (*cards, *rows)], 10, 34, 60),
            parameters=_widest([amount(card.parameters) for card in cards], 10, 52, 60),
            multiply_adds=_widest([amount(card.multiply_adds) for card in cards], 10, 54, 60),
            overview=overview,
        )

    @property
    def number_width(self) -> int:
        """Return the width of the columns of numbers and of the bar."""
        return self.size + self.parameters + self.multiply_adds + _GAP + _BAR_WIDTH

    @property
    def inner_width(self) -> int:
        """Return the width inside the border."""
        lead = _TITLE_INDENT + self.title if self.overview else _INDENT
        return lead + self.name + self.times + self.number_width


def _widest(texts: Sequence[str], size: float, minimum: int, maximum: int) -> int:
    """Return the width of the widest text in bold, within limits, in points."""
    # Text is cut to the maximum anyway, and long text takes time to measure.
    widest = max((width_of(content[:maximum], size, bold=True) for content in texts), default=0)
    return min(maximum, max(minimum, int(widest) + _PADDING))


def _size_text(size: int | None) -> str:
    return "–" if size is None else str(size)


def _times_text(row: BlockRow) -> str:
    return f"× {row.times}" if row.times > 1 else ""


def _header_label(panel: Panel, columns: _Columns) -> str:
    """Draw a network's header: role, inputs, name, totals, and the titles of the columns."""
    scheme = scheme_of(panel.role)
    role = (panel.role or "network").upper()
    description = "  ·  ".join(filter(None, (role, panel.state, panel.inputs)))
    parameters = f"{amount(panel.parameters)} parameters"
    macs = f"{'' if panel.exact else '≈ '}{amount(panel.multiply_adds)} MACs"
    lines: list[str] = []
    for height, sizes, left, color, size, right, is_bold in (
        (22, (9, 8), description, scheme.on_full, 10, parameters, False),
        (26, (17, 14, 12), panel.name, PAPER, 11, macs, True),
    ):
        right_width = int(width_of(right, size, bold=True)) + 2 * _PADDING
        width = columns.inner_width + 2 * _BORDER - _TITLE_INDENT - _MARGIN - right_width
        # The largest size in which the text fits, else the smallest.
        fitting = (
            each for each in sizes if len(left) < width and width_of(left, each, bold=True) <= width
        )
        left_text = text(left, width=width, size=next(fitting, sizes[-1]), color=color, bold=True)
        right_text = text(
            right, width=right_width, size=size, color=color, bold=is_bold, align="RIGHT"
        )
        cells = (
            cell(_TITLE_INDENT, height),
            cell(width, height, left_text),
            cell(right_width, height, right_text, align="RIGHT"),
            cell(_MARGIN, height),
        )
        lines.append(table((row(*cells),)))

    def title(content: str, width: int, align: str = "LEFT") -> str:
        label = text(content, width=width, size=9, color=scheme.on_full, align=align)
        return cell(width, 20, label, align=align)

    lead = (
        (cell(_TITLE_INDENT + 1, 20), title("stage", columns.title))
        if columns.overview
        else (cell(_INDENT + 1, 20),)
    )
    titles = (
        *lead,
        title("mostly" if columns.overview else "block", columns.name),
        title("×", columns.times),
        title(panel.unit, columns.size, "RIGHT"),
        title("params", columns.parameters, "RIGHT"),
        title("MACs", columns.multiply_adds, "RIGHT"),
        cell(_GAP, 20),
        title("of MACs", _BAR_WIDTH),
        cell(1, 20),
    )
    lines.append(table((row(*titles),)))
    return table((row(filled(line)) for line in lines), fill=scheme.full)


def _card_label(panel: Panel, index: int, columns: _Columns, lines: Sequence[int | None]) -> str:
    """Draw a card; `lines` has the index of the row in each line, None for a blank."""
    card, scheme = panel.cards[index], scheme_of(panel.role)
    name = f"{panel.role or 'network'}-{index}"
    occupied = [line for line, at in enumerate(lines) if at is not None]
    above, below = occupied[0], len(lines) - occupied[-1] - 1
    if columns.overview:
        overview = _overview_row(card, scheme, columns, f"{name}-0")
        body = table((overview,), border=scheme.full, fill=scheme.tint)
    else:
        rows = (
            gap(columns.inner_width, _LINE_HEIGHT)
            if at is None
            else _card_row(card.rows[at], f"r{at}", scheme, columns, f"{name}-{at}")
            for at in lines[occupied[0] : occupied[-1] + 1]
        )
        body = table((_title_row(card, scheme, columns), *rows), border=scheme.full, fill=PAPER)
    width = columns.inner_width + 2 * _BORDER
    blanks = [gap(width, _LINE_HEIGHT * count) if count else "" for count in (above, below)]
    return table((blanks[0], row(filled(body, port="c")), blanks[1]))


def _lowered(width: int, cells: Sequence[str]) -> str:
    """Return a table of cells with the space above their text."""
    return table((gap(width, _TEXT_DROP), row(filled(table((row(*cells),))))))


def _title_row(card: Card, scheme: Scheme, columns: _Columns) -> str:
    height = _TITLE_HEIGHT - _TEXT_DROP
    width = columns.name + columns.times + _INDENT - _TITLE_INDENT
    title = text(card.title, width=width, size=12, color=scheme.full, bold=True)
    share = text(percent(card.share), width=_BAR_WIDTH, color=scheme.full, bold=True)
    cells = (
        cell(_TITLE_INDENT, height),
        cell(width, height, title),
        *_cost_cells(card, columns, height, INK, bold=True),
        cell(_GAP, height),
        cell(_BAR_WIDTH, height, share),
    )
    return row(
        cell(
            columns.inner_width,
            _TITLE_HEIGHT,
            _lowered(columns.inner_width, cells),
            fill=scheme.tint,
        )
    )


def _cost_cells(
    costs: Card | BlockRow, columns: _Columns, height: int, color: str, *, bold: bool
) -> Iterator[str]:
    """Yield the cells of size, parameters and multiply-adds."""
    contents = _size_text(costs.size), amount(costs.parameters), amount(costs.multiply_adds)
    widths = columns.size, columns.parameters, columns.multiply_adds
    for content, width in zip(contents, widths, strict=True):
        label = text(content, width=width, color=color, bold=bold, align="RIGHT")
        yield cell(width, height, label, align="RIGHT")


def _card_row(block: BlockRow, port: str, scheme: Scheme, columns: _Columns, name: str) -> str:
    height = _LINE_HEIGHT - _TEXT_DROP
    fill = _row_fill(block)
    cells = (
        cell(_INDENT, height),
        *_name_cells(block, scheme, columns, height, bold=fill != PAPER),
        *_cost_cells(block, columns, height, MUTED, bold=False),
        _bar_cell(block, scheme, height),
    )
    content = _lowered(columns.inner_width, cells)
    return row(cell(columns.inner_width, _LINE_HEIGHT, content, fill=fill, port=port, id=name))


def _row_fill(block: BlockRow) -> str:
    """Return the background of a row: that of its worst diagnostic, or of a pair."""
    if block.severity is not None:
        return SEVERITIES[block.severity].tint
    return PAIR.tint if block.ranks else PAPER


def _name_cells(
    block: BlockRow, scheme: Scheme, columns: _Columns, height: int, *, bold: bool
) -> tuple[str, str, str]:
    """Return name, factor and times in a cell each, as engines measure text differently."""
    factor_width = int(width_of(block.factor, 10)) + _PADDING if block.factor else 0
    available = columns.name - factor_width
    name = text(block.name, width=available, color=INK, bold=bold)
    name_width = min(available, int(width_of(block.name[:available], 10, bold=bold)) + _SPACE)
    times = text(_times_text(block), width=columns.times, color=scheme.full, bold=True)
    factor = text(block.factor, width=factor_width, color=MUTED)
    return (
        cell(name_width if factor_width else columns.name, height, name),
        cell(columns.name - name_width, height, factor) if factor_width else "",
        cell(columns.times, height, times),
    )


def _bar_cell(block: BlockRow, scheme: Scheme, height: int) -> str:
    """Draw a bar of length proportional to the row's multiply-adds."""
    width = _GAP + _BAR_WIDTH
    length = max(1, round(block.bar * _MAX_BAR)) if block.multiply_adds else 0
    if not length:
        return cell(width, height)
    parts = (
        cell(_GAP - 1, _BAR_HEIGHT),
        cell(length, _BAR_HEIGHT, fill=scheme.full),
        cell(_BAR_WIDTH - length + 1, _BAR_HEIGHT),
    )
    above = (height - _BAR_HEIGHT - 1) // 2
    below = height - _BAR_HEIGHT - above
    bar = row(filled(table((row(*parts),))))
    return cell(width, height, table((gap(width, above), bar, gap(width, below))))


def _overview_row(card: Card, scheme: Scheme, columns: _Columns, name: str) -> str:
    height = _OVERVIEW_HEIGHT - _TEXT_DROP
    block = card.rows[0]
    cells = (
        cell(_TITLE_INDENT, height),
        cell(
            columns.title,
            height,
            text(card.title, width=columns.title, size=12, color=scheme.full, bold=True),
        ),
        *_name_cells(block, scheme, columns, height, bold=_row_fill(block) != PAPER),
        *_cost_cells(card, columns, height, INK, bold=False),
        _bar_cell(block, scheme, height),
    )
    content = _lowered(columns.inner_width, cells)
    return row(
        cell(columns.inner_width, _OVERVIEW_HEIGHT, content, fill=scheme.tint, port="r0", id=name)
    )


@dataclass(frozen=True, slots=True)
class _PillPart:
    """A piece of a pill: ranks or a code, a text, and a second text in small type."""

    label: str
    body: str
    extra: str
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class _Pill:
    """A box on a line, connected to the Rows at `spots`, the teacher's first.

    Edges enter at the port `p<key>` and leave at `q<key>`; `name` is its id.
    """

    key: str
    name: str
    parts: tuple[_PillPart, ...]
    spots: tuple[RowIndex | None, ...]

    def shares_row(self, other: _Pill) -> bool:
        """Return whether two pills are connected to the same Row."""
        return any(
            spot is not None and spot == other_spot
            for spot, other_spot in zip(self.spots, other.spots, strict=True)
        )


def _pills_on(board: Board, line: Line) -> tuple[_Pill, ...]:
    """Return the pills of a line: those of the teacher, of both networks, of the student."""
    pills: list[_Pill] = []
    for i in line.links:
        link = board.links[i]
        parts = tuple(_PillPart(_ranks(tag), tag.text, tag.adapter, PAIR) for tag in link.tags)
        pills.append(_Pill(str(i), f"pair-{i}", parts, (link.teacher, link.student)))
    for i in line.marks:
        mark = board.marks[i]
        slug, times = mark.slug, f"× {mark.count}" if mark.count > 1 else ""
        if len(line.marks) > 1:
            slug = times = ""
        part = _PillPart(mark.code, slug, times, SEVERITIES[mark.severity])
        pills.append(_Pill(f"m{i}", f"mark-{i}", (part,), mark.spots))

    def position(pill: _Pill) -> int:
        teacher, student = pill.spots
        return 0 if student is None else 2 if teacher is None else 1

    return tuple(sorted(pills, key=position))


@dataclass(frozen=True, slots=True, kw_only=True)
class _PairColumn:
    """The widths of a pill's label and body, of the headline and of the column, in points."""

    label_width: int
    body_width: int
    header_width: int
    width: int

    @classmethod
    def of(cls, board: Board) -> _PairColumn:
        """Measure the pills of a Board and its headline."""
        lines = [_pills_on(board, line) for band in board.bands for line in band.lines]
        parts = [part for line in lines for pill in line for part in pill.parts]
        label = _widest([part.label for part in parts], 10, _MIN_LABEL, _MAX_LABEL)
        body = _widest([part.body for part in parts], 10, _MIN_BODY, _MAX_BODY)
        with_extra = (
            width_of(part.body, 10) + width_of(part.extra, _SMALL_TYPE) + 3 * _PADDING
            for part in parts
            if part.extra
        )
        body = min(_MAX_BODY, max(body, int(max(with_extra, default=0))))
        header_width = _widest(board.headline, 12, _MIN_HEADER, _MAX_HEADER)
        column = cls(
            label_width=label, body_width=body, header_width=header_width, width=header_width
        )
        widest_line = max(map(column.line_width, lines), default=0)
        return replace(column, width=max(header_width, widest_line + _PILL_MARGIN))

    def line_width(self, pills: Sequence[_Pill]) -> int:
        """Return the total width of the pills of a line, in points."""
        parts = [part for pill in pills for part in pill.parts]
        widths = (self.label_width + (self.body_width + 2 if part.body else 0) for part in parts)
        return sum(widths) + _PILL_MARGIN * max(0, len(pills) - 1)


def _ranks(tag: Tag) -> str:
    """Write ranks, with consecutive ones as `2–7`."""
    runs: list[list[int]] = []
    for rank in tag.ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    texts = (f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(texts)


def _pair_column_header(board: Board, column: _PairColumn) -> str:
    """Draw the headline of a Board."""
    scheme = PAIR if board.worst is None else SEVERITIES[board.worst]
    width = column.header_width

    def line(content: str, height: int, size: float, *, bold: bool) -> str:
        label = text(content, width=width, size=size, color=scheme.on_full, bold=bold)
        return row(cell(width, height, label, align="CENTER"))

    headline, subline = board.headline
    box = table(
        (
            gap(width, 3),
            line(headline, 22, 12, bold=True),
            line(subline, 16, 9, bold=False),
            gap(width, 3),
        ),
        fill=scheme.full,
    )
    centred = _centred(box, width, 44, column)
    return table((gap(column.width, 18), centred, gap(column.width, 6)))


def _centred(content: str, width: int, height: int, column: _PairColumn) -> str:
    """Return a row with content centred between blank cells; Graphviz stretches it otherwise."""
    left = (column.width - width) // 2
    right = column.width - width - left
    blanks = [cell(blank, height) if blank else "" for blank in (left, right)]
    return row(filled(table((row(blanks[0], filled(content), blanks[1]),))))


def _pill_rows(pills: Sequence[_Pill], column: _PairColumn, height: int) -> str:
    """Return the rows of a line: its pills, with blanks above and below."""
    if not pills:
        return gap(column.width, height)
    above = (height - _PILL_HEIGHT) // 2
    cells = [filled(_pill_table(pills[0], column), id=pills[0].name)]
    for previous, pill in pairwise(pills):
        cells += [_connection(previous, pill), filled(_pill_table(pill, column), id=pill.name)]
    content = table((row(*cells),))
    return "".join(
        (
            gap(column.width, above),
            _centred(content, column.line_width(pills), _PILL_HEIGHT, column),
            gap(column.width, height - _PILL_HEIGHT - above),
        )
    )


def _connection(previous: _Pill, pill: _Pill) -> str:
    """Return the space between two pills, with a line if they are connected to the same Row."""
    if not previous.shares_row(pill):
        return cell(_PILL_MARGIN, _PILL_HEIGHT)
    line = row(cell(_PILL_MARGIN, _EDGE, fill=pill.parts[0].scheme.full))
    space = (_PILL_HEIGHT - _EDGE) // 2
    return filled(table((gap(_PILL_MARGIN, space), line, gap(_PILL_MARGIN, space))))


def _pill_table(pill: _Pill, column: _PairColumn) -> str:
    cells: list[str] = []
    for part in pill.parts:
        in_port = "" if cells else f"p{pill.key}"
        out_port = f"q{pill.key}" if part is pill.parts[-1] else ""
        cells.append(_label_cell(part, column, in_port, "" if part.body else out_port))
        cells.append(_body_cell(part, column, out_port) if part.body else "")
    return table((row(*cells),), fill=pill.parts[0].scheme.full)


def _label_cell(part: _PillPart, column: _PairColumn, in_port: str, out_port: str) -> str:
    """Draw ranks or a code; `in_port` is inset as dot 2.42 ends edges a point before a port."""
    width = column.label_width - _EDGE
    label = text(part.label, width=width, color=part.scheme.on_full, bold=True, align="CENTER")
    inner = table((gap(width, 3), row(cell(width, _PILL_HEIGHT - 3, label, align="CENTER"))))
    cells = cell(_EDGE, _PILL_HEIGHT), cell(width, _PILL_HEIGHT, inner, port=in_port)
    return filled(table((row(*cells),)), port=out_port)


def _body_cell(part: _PillPart, column: _PairColumn, port: str) -> str:
    """Draw the text of a pill in a frame."""
    height = _PILL_HEIGHT - 2
    extra_width = 0
    if part.extra:
        needed = int(width_of(part.extra, _SMALL_TYPE)) + _PADDING
        extra_width = min(needed, column.body_width // 2)
    body_width = column.body_width - extra_width
    body = text(part.body, width=body_width, color=INK, align="CENTER")
    cells = [cell(body_width, height - 3, body, align="CENTER")]
    if extra_width:
        extra = text(part.extra, width=extra_width, size=_SMALL_TYPE, color=MUTED)
        cells.append(cell(extra_width, height - 3, extra))
    inner = table((gap(column.body_width, 3), row(filled(table((row(*cells),))))))
    return filled(
        table((row(cell(column.body_width, height, inner, fill=PAPER, port=port)),), spacing=1)
    )


def findings_label(marks: Sequence[Mark], width: int) -> str:
    """Return a table of the first diagnostics and the number of the others; width in points."""
    rows = [_diagnostic_row(mark, width) for mark in marks[:_MAX_FINDINGS]]
    hidden = len(marks) - _MAX_FINDINGS
    if hidden > 0:
        label = text(f"and {counted(hidden, 'finding')} more", width=width - _CODE, color=MUTED)
        rows.append(row(cell(width, _LINE_HEIGHT, label, align="CENTER")))
    return table(rows, border=MUTED, fill=PAPER)


def _diagnostic_row(mark: Mark, width: int) -> str:
    scheme = SEVERITIES[mark.severity]
    height = _LINE_HEIGHT - _TEXT_DROP
    times = f" (× {mark.count})" if mark.count > 1 else ""
    message_width = width - _CODE - 2 * _FINDING_INDENT - _SEVERITY - _SLUG
    code = text(mark.code, width=_CODE, color=scheme.on_full, bold=True, align="CENTER")
    code_table = table((gap(_CODE, _TEXT_DROP), row(cell(_CODE, height, code, align="CENTER"))))

    def column(content: str, width: int, color: str, *, bold: bool = False) -> str:
        return cell(width, height, text(content, width=width - 4, color=color, bold=bold))

    cells = (
        cell(_FINDING_INDENT, height),
        column(mark.severity.value, _SEVERITY, scheme.full, bold=True),
        column(mark.slug, _SLUG, INK, bold=True),
        column(f"{mark.message}{times}", message_width, INK),
        cell(_FINDING_INDENT, height),
    )
    rest = width - _CODE
    rest_table = table((gap(rest, _TEXT_DROP), row(filled(table((row(*cells),))))))
    both = row(
        cell(_CODE, _LINE_HEIGHT, code_table, fill=scheme.full),
        cell(rest, _LINE_HEIGHT, rest_table, fill=scheme.tint),
    )
    return row(filled(table((both,))))
