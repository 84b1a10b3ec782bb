"""Write the DOT of a Board: a table for each card, and pills between two networks.

Rows have the ids `teacher-<card>-<row>`, pills those of their names: `pair-0`, `mark-0`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from graphtool.diagnostics import Diagnostic, Severity, counted
from graphtool.rendering._labels import (
    FLOW,
    INK,
    MUTED,
    PAIR,
    PAPER,
    SEVERITIES,
    Cell,
    Dot,
    Scheme,
    amount,
    cell,
    gap,
    line,
    new_dot,
    row,
    scheme_of,
    table,
    width_of,
)
from graphtool.rendering.board import (
    BlockRow,
    Board,
    Card,
    Level,
    Line,
    Panel,
    Pill,
    RowIndex,
    Tag,
)

__all__ = ["board_dot", "findings_label"]

# Heights in points; a card's border adds one point on each side.
_LINE, _TITLE, _OVERVIEW, _BORDER = 20, 27, 30, 1
_INDENT, _TITLE_INDENT, _GAP, _BAR, _MAX_BAR, _BAR_HEIGHT, _MARGIN = 14, 9, 9, 45, 38, 7, 10
_PADDING, _SPACE = 6, 4
# Pills: heights, widths and the space between two.
_PILL_HEIGHT, _EDGE, _SMALL_TYPE, _PILL_MARGIN = 16, 2, 8, 6
# The table of findings: widths of its columns, and how many it shows.
_CODE, _SEVERITY, _SLUG, _FINDING_INDENT, _MAX_FINDINGS = 46, 56, 150, 10, 12
# The space between a network and the pair column, in points.
_COLUMN_SPACE = 21.6
_GRAPH = {
    "newrank": "true",
    "nodesep": f"{_COLUMN_SPACE / 72:g}",
    "ranksep": "0.25",
    "splines": "spline",
}
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
_HIDDEN = {"style": "invis"}
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
_LANE_EDGE = {"penwidth": "1.2"}
_FROM_POINT = {"tailclip": "false"}
_UP = {"dir": "back", "arrowtail": "normal"}
_DOWN = {"dir": "forward", "arrowhead": "normal"}
# Node names: prefixes for the cards of each Panel and for the pair column, and one whole name.
_PANELS, _PAIRS, _FINDINGS = ("left", "right"), "pairs", "findings"


def board_dot(board: Board) -> str:
    """Return the DOT of a Board."""
    dot = new_dot(_GRAPH, _EDGES)
    cards, lanes = _CardColumn(board), _lanes_of(board)
    pairs = _PairColumn(board) if len(board.panels) > 1 else None
    heads = [
        (f"{_PANELS[index]}_head", cards.header(panel)) for index, panel in enumerate(board.panels)
    ]
    if pairs is not None:
        heads.insert(1, (f"{_PAIRS}_head", pairs.header()))
    _draw_rank(dot, heads)
    for number, band in enumerate(board.bands):
        nodes = [
            (f"{prefix}_{card}", cards.card(index, card, [line.rows[index] for line in band.lines]))
            for index, (prefix, card) in enumerate(zip(_PANELS, band.cards, strict=False))
            if card is not None
        ]
        if pairs is not None:
            place = 0 if band.cards[0] is None else 1
            nodes.insert(place, (f"{_PAIRS}_{number}", pairs.label(band.lines)))
        passing = [lane for lane in lanes if number in lane.between]
        west, east = ([x.point(number) for x in passing if x.side == side] for side in "we")
        _draw_rank(dot, nodes, west, east[::-1])
    for prefix, panel in zip(_PANELS, board.panels, strict=False):
        _draw_flows(dot, prefix, panel)
    for lane in lanes:
        lane.draw(dot)
    if pairs is not None:
        _draw_pairs(dot, board)
    if pairs is not None and board.findings:
        width = 2 * (cards.width + _BORDER) + pairs.width + int(2 * _COLUMN_SPACE)
        dot.node(_FINDINGS, f"<{findings_label(board.findings, width)}>")
        dot.edge(f"{_PAIRS}_{len(board.bands) - 1}", _FINDINGS, **_HIDDEN)
    return dot.source


def _draw_flows(dot: Dot, prefix: str, panel: Panel) -> None:
    """Draw edges from card to card, invisible if the lower one doesn't read the upper one."""
    if panel.cards:
        dot.edge(f"{prefix}_head:s", f"{prefix}_0:c:n", **_FLOW_EDGE)
    for upper, lower in pairwise(range(len(panel.cards))):
        style = {} if (upper, lower) in panel.flows else _HIDDEN
        dot.edge(f"{prefix}_{upper}:c:s", f"{prefix}_{lower}:c:n", **_FLOW_EDGE, **style)


def _draw_rank(
    dot: Dot,
    nodes: Sequence[tuple[str, str]],
    west: Sequence[str] = (),
    east: Sequence[str] = (),
) -> None:
    """Put nodes side by side, in order, between the points of the lanes on both sides."""
    with dot.subgraph() as rank:
        rank.attr(rank="same")
        for name, label in nodes:
            rank.node(name, f"<{label}>")
        for point in (*west, *east):
            rank.node(point, **_POINT)
        for tail, head in pairwise((*west, *(name for name, _ in nodes), *east)):
            rank.edge(tail, head, **_HIDDEN)


def _draw_pairs(dot: Dot, board: Board) -> None:
    """Draw edges from pills to their rows, one for all the pills of a line on the same row."""
    column = [f"{_PAIRS}_{index}" for index in ("head", *range(len(board.bands)))]
    for above, below in pairwise(column):
        dot.edge(above, below, weight="80", **_HIDDEN)
    lines = [
        (node, [board.pills[index] for index in line.pills])
        for node, band in zip(column[1:], board.bands, strict=True)
        for line in band.lines
    ]
    for node, pills in lines:
        for index, pill in enumerate(pills):
            teacher, student = pill.spots
            style = {"color": _scheme(pill).full, "class": pill.name, **_PAIR_EDGE}
            if teacher is not None and all(x.spots[0] != teacher for x in pills[:index]):
                dot.edge(f"{_port(0, teacher)}:e", f"{node}:in-{pill.name}:w", **style)
            if student is not None and all(x.spots[1] != student for x in pills[index + 1 :]):
                dot.edge(f"{node}:out-{pill.name}:e", f"{_port(1, student)}:w", **style)


def _port(panel: int, spot: RowIndex) -> str:
    return f"{_PANELS[panel]}_{spot.card}:r{spot.row}"


def _scheme(pill: Pill) -> Scheme:
    return PAIR if pill.severity is None else SEVERITIES[pill.severity]


@dataclass(frozen=True, slots=True)
class _Lane:
    """The way of branches from one Row past the bands `between`, to Rows below in their bands.

    A branch that comes back up has a lane of its own, from the Row that it ends at.
    """

    name: str
    side: str
    start: str
    ends: Sequence[tuple[int, str]]
    between: range
    is_up: bool

    def point(self, band: int) -> str:
        """Return the node of the lane in a band."""
        return f"{self.name}_{band}"

    def draw(self, dot: Dot) -> None:
        """Draw edges through the points of the lane, and from them to its ends."""
        points = [self.start, *map(self.point, self.between)]
        for index, (tail, head) in enumerate(pairwise(points)):
            style = {**_FROM_POINT, "weight": "3"} if index else _UP if self.is_up else {}
            dot.edge(tail, head, headclip="false", **_LANE_EDGE, **style)
        for band, end in self.ends:
            index = band - self.between.start
            style = _DOWN if not self.is_up else {} if index else _UP
            clip = _FROM_POINT if index else {}
            dot.edge(points[index], end, **_LANE_EDGE, **clip, **style)


def _lanes_of(board: Board) -> Sequence[_Lane]:
    """Return the lanes of all branches, the longest first."""
    lanes: list[_Lane] = []
    for index, panel in enumerate(board.panels):
        bands = {band.cards[index]: number for number, band in enumerate(board.bands)}
        side = "w" if index == 0 and len(board.panels) > 1 else "e"
        ways: dict[tuple[RowIndex, RowIndex | None], list[tuple[int, str]]] = {}
        for source, target in panel.jumps:
            upper, lower = sorted((source, target))
            way = (upper, lower if target < source else None)
            end = (bands[lower.card], f"{_port(index, lower)}:{side}")
            ways.setdefault(way, []).append(end)
        for number, ((upper, up), ends) in enumerate(ways.items()):
            name, start = f"lane{index}_{number}", f"{_port(index, upper)}:{side}"
            between = range(bands[upper.card] + 1, max(ends)[0])
            lanes.append(_Lane(name, side, start, ends, between, up is not None))
    return sorted(lanes, key=lambda lane: -len(lane.between))


def _widest(texts: Iterable[str], minimum: int, maximum: int, size: float = 10) -> int:
    """Return the width of the widest text in bold, within limits, in points."""
    # Text is cut to the maximum anyway, and long text takes time to measure.
    widest = max((width_of(content[:maximum], size, bold=True) for content in texts), default=0)
    return min(maximum, max(minimum, int(widest) + _PADDING))


class _CardColumn:
    """Draws cards; widths of their columns in points are equal for all cards of a Board."""

    def __init__(self, board: Board) -> None:
        cards = [card for panel in board.panels for card in panel.cards]
        rows = [row for card in cards for row in card.rows]
        is_overview = board.level is Level.STAGE
        self.board = board
        # 0 but at level STAGE.
        self.title = _widest((card.title for card in cards), 70, 200, 12) if is_overview else 0
        self.name = _widest((f"{row.name} {row.factor}" for row in rows), 104, 230)
        self.times = _widest(map(_times, rows), 30, 60)
        self.numbers = [
            _widest((_numbers(each)[place] for each in (*cards, *rows)), minimum, 60)
            for place, minimum in enumerate((34, 52, 54))
        ]
        self.indent = _TITLE_INDENT if is_overview else _INDENT
        lead = self.indent + self.title + self.name + self.times
        self.width = lead + sum(self.numbers) + _GAP + _BAR
        # The backgrounds of rows with pills.
        self.fills: dict[tuple[int, RowIndex], str] = {}
        for pill in board.pills:
            for index, spot in enumerate(pill.spots):
                if spot is not None:
                    self.fills.setdefault((index, spot), _scheme(pill).tint)

    def header(self, panel: Panel) -> str:
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
            width = self.width + 2 * _BORDER - _TITLE_INDENT - _MARGIN - right_width
            # The largest size in which the text fits, else the smallest.
            fitting = (
                each
                for each in sizes
                if len(left) < width and width_of(left, each, bold=True) <= width
            )
            cells = (
                Cell(_TITLE_INDENT),
                Cell(width, left, next(fitting, sizes[-1]), color, bold=True),
                Cell(right_width, right, size, color, is_bold, align="RIGHT"),
                Cell(_MARGIN),
            )
            lines.append(row(line(height, *cells)))
        titles = (
            *([("stage", self.title, "LEFT")] if self.title else ()),
            ("mostly" if self.title else "block", self.name, "LEFT"),
            ("×", self.times, "LEFT"),
            *zip((panel.unit, "params", "MACs"), self.numbers, ("RIGHT",) * 3, strict=True),
            ("", _GAP, "LEFT"),
            ("of MACs", _BAR, "LEFT"),
        )
        indent = Cell(self.indent + _BORDER)
        cells = (Cell(width, text, 9, scheme.on_full, align=side) for text, width, side in titles)
        lines.append(row(line(20, indent, *cells, Cell(_BORDER))))
        return table(*lines, bgcolor=scheme.full)

    def card(self, panel: int, index: int, lines: Sequence[int | None]) -> str:
        """Draw a card; `lines` has the index of the row in each line, None for a blank."""
        network = self.board.panels[panel]
        card, scheme = network.cards[index], scheme_of(network.role)
        prefix = f"{network.role or 'network'}-{index}"

        def block(at: int) -> str:
            fill = self.fills.get((panel, RowIndex(index, at)), PAPER)
            cells = self._cells(card, card.rows[at], scheme, is_bold=fill != PAPER)
            height, fill = (_OVERVIEW, scheme.tint) if self.title else (_LINE, fill)
            return row(line(height, *cells, bgcolor=fill, port=f"r{at}", id=f"{prefix}-{at}"))

        first, *_ = occupied = [number for number, at in enumerate(lines) if at is not None]
        shown = lines[first : occupied[-1] + 1]
        rows = [gap(self.width, _LINE) if at is None else block(at) for at in shown]
        if not self.title:
            rows.insert(0, row(line(_TITLE, *self._title_cells(card, scheme), bgcolor=scheme.tint)))
        body = table(*rows, border=1, color=scheme.full, bgcolor=PAPER)
        above, below = (
            gap(self.width + 2 * _BORDER, _LINE * count) if count else ""
            for count in (first, len(lines) - occupied[-1] - 1)
        )
        return table(above, row(cell(body, port="c")), below)

    def _title_cells(self, card: Card, scheme: Scheme) -> Sequence[Cell]:
        share = "< 1 %" if 0 < card.share < 0.005 else f"{card.share:.0%}".replace("%", " %")
        width = self.name + self.times + _INDENT - _TITLE_INDENT
        return (
            Cell(_TITLE_INDENT),
            Cell(width, card.title, 12, scheme.full, bold=True),
            *self._number_cells(card, INK, is_bold=True),
            Cell(_GAP),
            Cell(_BAR, share if card.share > 0 else "", color=scheme.full, bold=True),
        )

    def _cells(
        self, card: Card, block: BlockRow, scheme: Scheme, *, is_bold: bool
    ) -> Sequence[Cell]:
        """Return the cells of a row; name and factor have one each, as engines measure text."""
        factor = int(width_of(block.factor, 10)) + _PADDING if block.factor else 0
        name = int(width_of(block.name[: self.name], 10, bold=is_bold)) + _SPACE
        name = min(self.name - factor, name) if factor else self.name
        length = max(1, round(block.bar * _MAX_BAR)) if block.multiply_adds else 0
        # The space below the bar centres it on the row.
        bar = cell(width=length, height=_BAR_HEIGHT, bgcolor=scheme.full)
        bar = table(row(bar), gap(length, 2), width=length, height=_BAR_HEIGHT + 2)
        return (
            Cell(self.indent),
            Cell(self.title, card.title, 12, scheme.full, bold=True),
            Cell(name, block.name, bold=is_bold),
            Cell(self.name - name, block.factor, color=MUTED),
            Cell(self.times, _times(block), color=scheme.full, bold=True),
            *self._number_cells(*((card, INK) if self.title else (block, MUTED)), is_bold=False),
            Cell(_GAP - 1),
            Cell(length, html=bar if length else ""),
            Cell(_BAR + 1 - length),
        )

    def _number_cells(self, costs: Card | BlockRow, color: str, *, is_bold: bool) -> Sequence[Cell]:
        return [
            Cell(width, text, color=color, bold=is_bold, align="RIGHT")
            for text, width in zip(_numbers(costs), self.numbers, strict=True)
        ]


def _numbers(costs: Card | BlockRow) -> tuple[str, str, str]:
    """Write size, parameters and multiply-adds."""
    size = "–" if costs.size is None else str(costs.size)
    return size, amount(costs.parameters), amount(costs.multiply_adds)


def _times(block: BlockRow) -> str:
    return f"× {block.times}" if block.times > 1 else ""


class _PairColumn:
    """Draws pills; widths of label, body, headline and the column are in points."""

    def __init__(self, board: Board) -> None:
        lines = [_pills_on(board, line) for band in board.bands for line in band.lines]
        tags = [tag for pills in lines for pill in pills for tag in pill.tags]
        with_extra = (
            width_of(tag.text, 10) + width_of(tag.extra, _SMALL_TYPE) + 3 * _PADDING
            for tag in tags
            if tag.extra
        )
        body = max(_widest((tag.text for tag in tags), 72, 220), int(max(with_extra, default=0)))
        self.board = board
        self.label_width = _widest((tag.label for tag in tags), 20, 90)
        self.body_width = min(220, body)
        self.header_width = _widest(board.headline, 104, 200, 12)
        widest = max(map(self._line_width, lines), default=0)
        self.width = max(self.header_width, widest + _PILL_MARGIN)

    def _line_width(self, pills: Sequence[Pill]) -> int:
        tags = [tag for pill in pills for tag in pill.tags]
        widths = (self.label_width + (self.body_width + 2 if tag.text else 0) for tag in tags)
        return sum(widths) + _PILL_MARGIN * max(0, len(pills) - 1)

    def header(self) -> str:
        """Draw the headline of a Board."""
        findings, (headline, subline) = self.board.findings, self.board.headline
        worst = findings[0].severity if findings else Severity.NOTE
        scheme, width = PAIR if findings is None else SEVERITIES[worst], self.header_width
        box = table(
            gap(width, 3),
            row(line(22, Cell(width, headline, 12, scheme.on_full, bold=True, align="CENTER"))),
            row(line(16, Cell(width, subline, 9, scheme.on_full, align="CENTER"))),
            gap(width, 3),
            width=width,
            height=44,
            bgcolor=scheme.full,
        )
        centred = row(cell(box, width=self.width, height=44))
        return table(gap(self.width, 18), centred, gap(self.width, 6))

    def label(self, lines: Sequence[Line]) -> str:
        """Draw the pills of all lines of a band."""
        is_overview = self.board.level is Level.STAGE
        top, height = (0, _OVERVIEW) if is_overview else (_TITLE, _LINE)
        rows = [row(cell(self._line(each), width=self.width, height=height)) for each in lines]
        return table(gap(self.width, top + _BORDER), *rows, gap(self.width, _BORDER))

    def _line(self, line: Line) -> str:
        """Draw the pills of a line, and lines between those that are connected to the same Row."""
        pills, cells = _pills_on(self.board, line), list[str]()
        for index, pill in enumerate(pills):
            fill = _scheme(pill).full
            if index:
                ends = zip(pills[index - 1].spots, pill.spots, strict=True)
                is_joined = any(spot is not None and spot == other for spot, other in ends)
                size = {"width": _PILL_MARGIN, "height": _EDGE}
                joint = table(gap(**size), **size, bgcolor=fill) if is_joined else ""
                cells.append(cell(joint, width=_PILL_MARGIN, height=_PILL_HEIGHT))
            content = table(row(*self._parts(pill)), bgcolor=fill)
            cells.append(cell(content, id=pill.name))
        size = {"width": self._line_width(pills), "height": _PILL_HEIGHT}
        return table(row(*cells), **size) if cells else ""

    def _parts(self, pill: Pill) -> Iterator[str]:
        """Yield the label of each tag, then its text in a frame.

        Edges enter at an inset port, as dot 2.42 ends them a point before it.
        """
        scheme, width = _scheme(pill), self.label_width - _EDGE
        for tag in pill.tags:
            in_port = f"in-{pill.name}" if tag is pill.tags[0] else ""
            out_port = f"out-{pill.name}" if tag is pill.tags[-1] else ""
            label = Cell(width, tag.label, color=scheme.on_full, bold=True, align="CENTER")
            inset = cell(width=_EDGE, height=_PILL_HEIGHT)
            label = table(row(inset, line(_PILL_HEIGHT, label, port=in_port)))
            yield cell(label, port="" if tag.text else out_port)
            if tag.text:
                needed = int(width_of(tag.extra, _SMALL_TYPE)) + _PADDING if tag.extra else 0
                extra = min(needed, self.body_width // 2)
                text = Cell(self.body_width - extra, tag.text, align="CENTER")
                small = [Cell(extra, tag.extra, _SMALL_TYPE, MUTED)] if extra else []
                body = line(_PILL_HEIGHT - 2, text, *small, bgcolor=PAPER, port=out_port)
                yield cell(table(row(body), cellspacing=1))


def _pills_on(board: Board, line: Line) -> Sequence[Pill]:
    """Return the pills of a line; several diagnostics are drawn as their codes alone."""
    pills = [board.pills[index] for index in line.pills]
    if sum(pill.severity is not None for pill in pills) < 2:
        return pills
    return [
        replace(pill, tags=tuple(Tag(tag.label, "", "") for tag in pill.tags)) for pill in pills
    ]


def findings_label(findings: Sequence[Diagnostic], width: int) -> str:
    """Return a table of the first diagnostics and the number of the others; width in points."""
    rows: list[str] = []
    for found in findings[:_MAX_FINDINGS]:
        scheme = SEVERITIES[found.severity]
        times = f" (× {found.count})" if found.count > 1 else ""
        message_width = width - _CODE - 2 * _FINDING_INDENT - _SEVERITY - _SLUG
        cells = (
            Cell(_FINDING_INDENT),
            Cell(_SEVERITY, found.severity.value, color=scheme.full, bold=True),
            Cell(_SLUG, found.slug, bold=True),
            Cell(message_width, f"{found.message}{times}"),
            Cell(_FINDING_INDENT),
        )
        code = Cell(_CODE, found.code, color=scheme.on_full, bold=True, align="CENTER")
        code_cell = line(_LINE, code, bgcolor=scheme.full)
        rows.append(row(cell(table(row(code_cell, line(_LINE, *cells, bgcolor=scheme.tint))))))
    hidden = len(findings) - _MAX_FINDINGS
    if hidden > 0:
        text = f"and {counted(hidden, 'finding')} more"
        rows.append(row(line(_LINE, Cell(width, text, color=MUTED, align="CENTER"))))
    return table(*rows, border=1, color=MUTED, bgcolor=PAPER)
