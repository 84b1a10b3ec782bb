"""Draw a network as tables: its header, and a card for each of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphtool.rendering._labels import cell, filled, gap, row, table, text
from graphtool.rendering._palette import (
    INK,
    MUTED,
    PAIR,
    PAPER,
    Scheme,
    scheme_of,
    scheme_of_severity,
)
from graphtool.rendering._text import amount, percent, width_of
from graphtool.rendering.board import Board, Card, Level, Panel, Row

__all__ = ["BORDER", "LINE", "OVERVIEW", "TITLE", "Columns", "card_label", "header_label", "widest"]

# Heights in points; a card's border adds one above and one below.
LINE, TITLE = 20, 27
OVERVIEW, BORDER = 30, 1
# Above the text of a row: capitals then stand in the middle of it.
_DROP = 3
_INDENT, _TITLE_INDENT, _GAP, _BAR, _BAR_LONGEST, _BAR_HEIGHT = 14, 9, 9, 45, 38, 7
_NAME_LEAST, _NAME_MOST, _PAD, _SPACE, _MARGIN = 104, 230, 6, 4, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The widths of a card's columns in points, the same for all cards of a Board."""

    title: int
    name: int
    times: int
    size: int
    parameters: int
    multiply_adds: int
    overview: bool

    @classmethod
    def of(cls, board: Board) -> Columns:
        """Measure what the columns have to hold."""
        cards = [card for panel in board.panels for card in panel.cards]
        rows = [row for card in cards for row in card.rows]
        overview = board.level is Level.STAGE
        return cls(
            title=widest([card.title for card in cards], 12, 70, 200) if overview else 0,
            name=widest([f"{row.name} {row.factor}" for row in rows], 10, *_NAME_LIMITS),
            times=widest([_times(row) for row in rows], 10, 30, 60),
            size=widest([_size(card.size) for card in (*cards, *rows)], 10, 34, 60),
            parameters=widest([amount(card.parameters) for card in cards], 10, 52, 60),
            multiply_adds=widest([amount(card.multiply_adds) for card in cards], 10, 54, 60),
            overview=overview,
        )

    @property
    def numbers(self) -> int:
        """The width of the columns right of the name's."""
        return self.size + self.parameters + self.multiply_adds + _GAP + _BAR

    @property
    def whole(self) -> int:
        """The width inside of the border."""
        lead = _TITLE_INDENT + self.title if self.overview else _INDENT
        return lead + self.name + self.times + self.numbers


_NAME_LIMITS = (_NAME_LEAST, _NAME_MOST)


def widest(texts: Sequence[str], size: float, least: int, most: int) -> int:
    """Return the width that the widest text needs in bold, within limits, in points."""
    # Longer text is cut, and takes time to measure.
    widest = max((width_of(content[:most], size, bold=True) for content in texts), default=0)
    return min(most, max(least, int(widest) + _PAD))


def _size(size: int | None) -> str:
    return "–" if size is None else str(size)


def _times(row: Row) -> str:
    return f"× {row.times}" if row.times > 1 else ""


def header_label(panel: Panel, columns: Columns) -> str:
    """Draw what a network is: role, input, name, sums, and the titles of the columns."""
    scheme = scheme_of(panel.role)
    width = columns.whole + 2 * BORDER
    role = (panel.role or "network").upper()
    said = "  ·  ".join(filter(None, (role, panel.state, panel.inputs)))
    parameters = f"{amount(panel.parameters)} parameters"
    spent = f"{'' if panel.exact else '≈ '}{amount(panel.multiply_adds)} MACs"
    sides = _sides(width, parameters, 10), _sides(width, spent, 11)
    room = sides[0][0]
    size = _largest(said, room, (9, 8))
    lines = (
        _header_line(
            (22, *sides[0]),
            text(said, room=room, size=size, color=scheme.on_full, bold=True),
            text(parameters, room=sides[0][1], color=scheme.on_full, align="RIGHT"),
        ),
        _header_line(
            (26, *sides[1]),
            _name(panel.name, sides[1][0]),
            text(spent, room=sides[1][1], size=11, color=PAPER, bold=True, align="RIGHT"),
        ),
        _column_titles(panel, columns, scheme),
    )
    return table((row(filled(line)) for line in lines), fill=scheme.full)


def _sides(width: int, right: str, size: float) -> tuple[int, int]:
    """Share the width of a header out to what stands left and right in a line."""
    room = int(width_of(right, size, bold=True)) + 2 * _PAD
    return width - _TITLE_INDENT - _MARGIN - room, room


def _name(name: str, room: int) -> str:
    """Write a network's name, smaller where it is long."""
    size = _largest(name, room, (17, 14, 12))
    return text(name, room=room, size=size, color=PAPER, bold=True)


def _largest(said: str, room: int, sizes: Sequence[int]) -> int:
    """Return the first size, from the largest on, in which a bold text fits, else the last."""
    return next((size for size in sizes if _fits(said, room, size)), sizes[-1])


def _fits(name: str, room: int, size: int) -> bool:
    return len(name) < room and width_of(name, size, bold=True) <= room


def _header_line(sizes: tuple[int, int, int], left: str, right: str) -> str:
    """Draw two texts at the ends of a line; `sizes` are its height and the widths of both."""
    height, *widths = sizes
    cells = (
        cell(_TITLE_INDENT, height),
        cell(widths[0], height, left),
        cell(widths[1], height, right, align="RIGHT"),
        cell(_MARGIN, height),
    )
    return table((row(*cells),))


def _column_titles(panel: Panel, columns: Columns, scheme: Scheme) -> str:
    def title(content: str, width: int, align: str = "LEFT") -> str:
        shown = text(content, room=width, size=9, color=scheme.on_full, align=align)
        return cell(width, 20, shown, align=align)

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
                title("of MACs", _BAR),
                cell(1, 20),
            ),
        )
    )


def card_label(card: Card, role: str | None, columns: Columns, lines: Sequence[int | None]) -> str:
    """Draw a part of a network; `lines` say which row stands in which line, None for a blank."""
    scheme = scheme_of(role)
    held = [place for place, index in enumerate(lines) if index is not None]
    above, below = held[0], len(lines) - held[-1] - 1
    inner = lines[held[0] : held[-1] + 1]
    if columns.overview:
        body = table((_overview_row(card, scheme, columns),), border=scheme.full, fill=scheme.tint)
    else:
        drawn = (
            gap(columns.whole, LINE)
            if index is None
            else _card_row(card.rows[index], index, scheme, columns)
            for index in inner
        )
        body = table((_title_row(card, scheme, columns), *drawn), border=scheme.full, fill=PAPER)
    width = columns.whole + 2 * BORDER
    pads = [gap(width, LINE * count) if count else "" for count in (above, below)]
    return table((pads[0], row(filled(body, port="c")), pads[1]))


def _dropped(width: int, cells: Sequence[str]) -> str:
    """Return cells a little below the top of their row."""
    return table((gap(width, _DROP), row(filled(table((row(*cells),))))))


def _title_row(card: Card, scheme: Scheme, columns: Columns) -> str:
    height = TITLE - _DROP
    width = columns.name + columns.times + _INDENT - _TITLE_INDENT
    title = text(card.title, room=width, size=12, color=scheme.full, bold=True)
    cells = (
        cell(_TITLE_INDENT, height),
        cell(width, height, title),
        *_sums(card, columns, height, INK, bold=True),
        cell(_GAP, height),
        cell(_BAR, height, text(percent(card.share), room=_BAR, color=scheme.full, bold=True)),
    )
    return row(cell(columns.whole, TITLE, _dropped(columns.whole, cells), fill=scheme.tint))


def _sums(
    held: Card | Row, columns: Columns, height: int, color: str, *, bold: bool
) -> Iterator[str]:
    """Yield the columns of size, parameters and multiply-adds."""
    contents = _size(held.size), amount(held.parameters), amount(held.multiply_adds)
    widths = columns.size, columns.parameters, columns.multiply_adds
    for content, width in zip(contents, widths, strict=True):
        shown = text(content, room=width, color=color, bold=bold, align="RIGHT")
        yield cell(width, height, shown, align="RIGHT")


def _card_row(held: Row, index: int, scheme: Scheme, columns: Columns) -> str:
    height = LINE - _DROP
    ground = _ground(held)
    cells = (
        cell(_INDENT, height),
        *_named(held, scheme, columns, height, bold=ground != PAPER),
        *_sums(held, columns, height, MUTED, bold=False),
        _bar(held, scheme, height),
    )
    content = _dropped(columns.whole, cells)
    return row(cell(columns.whole, LINE, content, fill=ground, port=f"r{index}"))


def _ground(held: Row) -> str:
    """Return the colour behind a row: that of the worst finding, or of a pair."""
    if held.severity is not None:
        return scheme_of_severity(held.severity).tint
    return PAIR.tint if held.ranks else PAPER


def _named(
    held: Row, scheme: Scheme, columns: Columns, height: int, *, bold: bool
) -> tuple[str, str, str]:
    """Draw name, factor and times; each in a cell, as engines measure text differently."""
    factor = int(width_of(held.factor, 10)) + _PAD if held.factor else 0
    room = columns.name - factor
    name = text(held.name, room=room, color=INK, bold=bold)
    taken = min(room, int(width_of(held.name[:room], 10, bold=bold)) + _SPACE)
    times = text(_times(held), room=columns.times, color=scheme.full, bold=True)
    said = text(held.factor, room=factor, color=MUTED)
    return (
        cell(taken if factor else columns.name, height, name),
        cell(columns.name - taken, height, said) if factor else "",
        cell(columns.times, height, times),
    )


def _bar(held: Row, scheme: Scheme, height: int) -> str:
    """Draw a bar as long as the row's share of the longest."""
    length = max(1, round(held.bar * _BAR_LONGEST)) if held.multiply_adds else 0
    if not length:
        return cell(_GAP + _BAR, height)
    rest = _BAR - length
    parts = (
        cell(_GAP - 1, _BAR_HEIGHT),
        cell(length, _BAR_HEIGHT, fill=scheme.full),
        cell(rest + 1, _BAR_HEIGHT),
    )
    above = (height - _BAR_HEIGHT - 1) // 2
    below = height - _BAR_HEIGHT - above
    whole = _GAP + _BAR
    drawn = table((gap(whole, above), row(filled(table((row(*parts),)))), gap(whole, below)))
    return cell(_GAP + _BAR, height, drawn)


def _overview_row(card: Card, scheme: Scheme, columns: Columns) -> str:
    height = OVERVIEW - _DROP
    held = card.rows[0]
    cells = (
        cell(_TITLE_INDENT, height),
        cell(
            columns.title,
            height,
            text(card.title, room=columns.title, size=12, color=scheme.full, bold=True),
        ),
        *_named(held, scheme, columns, height, bold=_ground(held) != PAPER),
        *_sums(card, columns, height, INK, bold=False),
        _bar(held, scheme, height),
    )
    content = _dropped(columns.whole, cells)
    return row(cell(columns.whole, OVERVIEW, content, port="r0"))
