"""Draw a network as tables: a header, and a card for each part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphtool.rendering._html_labels import cell, filled, gap, row, table, text
from graphtool.rendering._palette import (
    INK,
    MUTED,
    PAIR,
    PAPER,
    Scheme,
    scheme_of,
    scheme_of_severity,
)
from graphtool.rendering._text_metrics import amount, percent, width_of
from graphtool.rendering.board import BlockRow, Board, Card, Level, Panel

__all__ = [
    "BORDER",
    "LINE_HEIGHT",
    "OVERVIEW_HEIGHT",
    "TITLE_HEIGHT",
    "Columns",
    "card_label",
    "header_label",
    "widest",
]

# Heights in points; a card's border adds one point on each side.
LINE_HEIGHT, TITLE_HEIGHT = 20, 27
OVERVIEW_HEIGHT, BORDER = 30, 1
# The space above the text of a row, which centres capital letters.
_TEXT_DROP = 3
_INDENT, _TITLE_INDENT, _GAP, _BAR_WIDTH, _MAX_BAR, _BAR_HEIGHT = 14, 9, 9, 45, 38, 7
_PADDING, _SPACE, _MARGIN = 6, 4, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The widths of a card's columns in points, equal for all cards of a Board."""

    title: int
    name: int
    times: int
    size: int
    parameters: int
    multiply_adds: int
    overview: bool

    @classmethod
    def of(cls, board: Board) -> Columns:
        """Measure the contents of all columns of a Board."""
        cards = [card for panel in board.panels for card in panel.cards]
        rows = [row for card in cards for row in card.rows]
        overview = board.level is Level.STAGE
        return cls(
            title=widest([card.title for card in cards], 12, 70, 200) if overview else 0,
            name=widest([f"{row.name} {row.factor}" for row in rows], 10, 104, 230),
            times=widest([_times_text(row) for row in rows], 10, 30, 60),
            size=widest([_size_text(card.size) for card in (*cards, *rows)], 10, 34, 60),
            parameters=widest([amount(card.parameters) for card in cards], 10, 52, 60),
            multiply_adds=widest([amount(card.multiply_adds) for card in cards], 10, 54, 60),
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


def widest(texts: Sequence[str], size: float, minimum: int, maximum: int) -> int:
    """Return the width of the widest text in bold, within limits, in points."""
    # Text is cut to the maximum anyway, and long text takes time to measure.
    widest = max((width_of(content[:maximum], size, bold=True) for content in texts), default=0)
    return min(maximum, max(minimum, int(widest) + _PADDING))


def _size_text(size: int | None) -> str:
    return "–" if size is None else str(size)


def _times_text(row: BlockRow) -> str:
    return f"× {row.times}" if row.times > 1 else ""


def header_label(panel: Panel, columns: Columns) -> str:
    """Draw a network's header: role, inputs, name, totals, and the titles of the columns."""
    scheme = scheme_of(panel.role)
    width = columns.inner_width + 2 * BORDER
    role = (panel.role or "network").upper()
    description = "  ·  ".join(filter(None, (role, panel.state, panel.inputs)))
    parameters = f"{amount(panel.parameters)} parameters"
    macs = f"{'' if panel.exact else '≈ '}{amount(panel.multiply_adds)} MACs"
    left, right = _header_widths(width, parameters, 10)
    size = _largest_fitting(description, left, (9, 8))
    description_line = _header_line(
        (22, left, right),
        text(description, width=left, size=size, color=scheme.on_full, bold=True),
        text(parameters, width=right, color=scheme.on_full, align="RIGHT"),
    )
    left, right = _header_widths(width, macs, 11)
    size = _largest_fitting(panel.name, left, (17, 14, 12))
    name_line = _header_line(
        (26, left, right),
        text(panel.name, width=left, size=size, color=PAPER, bold=True),
        text(macs, width=right, size=11, color=PAPER, bold=True, align="RIGHT"),
    )
    lines = description_line, name_line, _column_titles(panel, columns, scheme)
    return table((row(filled(line)) for line in lines), fill=scheme.full)


def _header_widths(width: int, right_text: str, size: float) -> tuple[int, int]:
    """Split the width of a header line into the space left of a text and that of the text."""
    right = int(width_of(right_text, size, bold=True)) + 2 * _PADDING
    return width - _TITLE_INDENT - _MARGIN - right, right


def _largest_fitting(content: str, width: int, sizes: Sequence[int]) -> int:
    """Return the largest type size in which a bold text fits, else the smallest."""
    fitting = (
        size
        for size in sizes
        if len(content) < width and width_of(content, size, bold=True) <= width
    )
    return next(fitting, sizes[-1])


def _header_line(sizes: tuple[int, int, int], left: str, right: str) -> str:
    """Draw two texts at the ends of a line; `sizes` are its height and their widths."""
    height, left_width, right_width = sizes
    cells = (
        cell(_TITLE_INDENT, height),
        cell(left_width, height, left),
        cell(right_width, height, right, align="RIGHT"),
        cell(_MARGIN, height),
    )
    return table((row(*cells),))


def _column_titles(panel: Panel, columns: Columns, scheme: Scheme) -> str:
    def title(content: str, width: int, align: str = "LEFT") -> str:
        label = text(content, width=width, size=9, color=scheme.on_full, align=align)
        return cell(width, 20, label, align=align)

    lead = (
        (cell(_TITLE_INDENT + 1, 20), title("stage", columns.title))
        if columns.overview
        else (cell(_INDENT + 1, 20),)
    )
    return table(
        (
            row(
                *lead,
                title("block" if not columns.overview else "mostly", columns.name),
                title("×", columns.times),
                title(panel.unit, columns.size, "RIGHT"),
                title("params", columns.parameters, "RIGHT"),
                title("MACs", columns.multiply_adds, "RIGHT"),
                cell(_GAP, 20),
                title("of MACs", _BAR_WIDTH),
                cell(1, 20),
            ),
        )
    )


def card_label(card: Card, role: str | None, columns: Columns, lines: Sequence[int | None]) -> str:
    """Draw a card; `lines` has the index of the row in each line, None for a blank."""
    scheme = scheme_of(role)
    occupied = [line for line, index in enumerate(lines) if index is not None]
    above, below = occupied[0], len(lines) - occupied[-1] - 1
    if columns.overview:
        body = table((_overview_row(card, scheme, columns),), border=scheme.full, fill=scheme.tint)
    else:
        rows = (
            gap(columns.inner_width, LINE_HEIGHT)
            if index is None
            else _card_row(card.rows[index], index, scheme, columns)
            for index in lines[occupied[0] : occupied[-1] + 1]
        )
        body = table((_title_row(card, scheme, columns), *rows), border=scheme.full, fill=PAPER)
    width = columns.inner_width + 2 * BORDER
    blanks = [gap(width, LINE_HEIGHT * count) if count else "" for count in (above, below)]
    return table((blanks[0], row(filled(body, port="c")), blanks[1]))


def _lowered(width: int, cells: Sequence[str]) -> str:
    """Return a table of cells with the space above their text."""
    return table((gap(width, _TEXT_DROP), row(filled(table((row(*cells),))))))


def _title_row(card: Card, scheme: Scheme, columns: Columns) -> str:
    height = TITLE_HEIGHT - _TEXT_DROP
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
            TITLE_HEIGHT,
            _lowered(columns.inner_width, cells),
            fill=scheme.tint,
        )
    )


def _cost_cells(
    costs: Card | BlockRow, columns: Columns, height: int, color: str, *, bold: bool
) -> Iterator[str]:
    """Yield the cells of size, parameters and multiply-adds."""
    contents = _size_text(costs.size), amount(costs.parameters), amount(costs.multiply_adds)
    widths = columns.size, columns.parameters, columns.multiply_adds
    for content, width in zip(contents, widths, strict=True):
        label = text(content, width=width, color=color, bold=bold, align="RIGHT")
        yield cell(width, height, label, align="RIGHT")


def _card_row(block: BlockRow, index: int, scheme: Scheme, columns: Columns) -> str:
    height = LINE_HEIGHT - _TEXT_DROP
    fill = _row_fill(block)
    cells = (
        cell(_INDENT, height),
        *_name_cells(block, scheme, columns, height, bold=fill != PAPER),
        *_cost_cells(block, columns, height, MUTED, bold=False),
        _bar_cell(block, scheme, height),
    )
    content = _lowered(columns.inner_width, cells)
    return row(cell(columns.inner_width, LINE_HEIGHT, content, fill=fill, port=f"r{index}"))


def _row_fill(block: BlockRow) -> str:
    """Return the background of a row: that of its worst diagnostic, or of a pair."""
    if block.severity is not None:
        return scheme_of_severity(block.severity).tint
    return PAIR.tint if block.ranks else PAPER


def _name_cells(
    block: BlockRow, scheme: Scheme, columns: Columns, height: int, *, bold: bool
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


def _overview_row(card: Card, scheme: Scheme, columns: Columns) -> str:
    height = OVERVIEW_HEIGHT - _TEXT_DROP
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
    return row(cell(columns.inner_width, OVERVIEW_HEIGHT, content, port="r0"))
