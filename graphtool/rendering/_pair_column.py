"""Draw the column between two networks: a headline, and pills for pairs and diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from graphtool.rendering._cards import BORDER, LINE_HEIGHT, OVERVIEW_HEIGHT, TITLE_HEIGHT, widest
from graphtool.rendering._html_labels import cell, filled, gap, row, table, text
from graphtool.rendering._palette import INK, MUTED, PAIR, PAPER, Scheme, scheme_of_severity
from graphtool.rendering._text_metrics import width_of
from graphtool.rendering.board import Board, Line, Link, Mark, RowIndex, Tag

__all__ = ["PairColumn", "Pill", "pair_column_header", "pair_column_label", "pills_on"]

_PILL_HEIGHT, _EDGE, _SMALL_TYPE, _PADDING, _MARGIN = 16, 2, 8, 6, 6
_MIN_LABEL, _MIN_BODY, _MIN_HEADER = 20, 72, 104
_MAX_LABEL, _MAX_BODY, _MAX_HEADER = 90, 220, 200


@dataclass(frozen=True, slots=True)
class _PillPart:
    """A piece of a pill: ranks or a code, a text, and a second text in small type."""

    label: str
    body: str
    extra: str
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class Pill:
    """A box on a line, connected to the Rows at `spots`, the teacher's first.

    Edges enter at the port `p<key>` and leave at `q<key>`.
    """

    key: str
    parts: tuple[_PillPart, ...]
    spots: tuple[RowIndex | None, ...]

    @property
    def scheme(self) -> Scheme:
        """Return its colours."""
        return self.parts[0].scheme

    def shares_row(self, other: Pill) -> bool:
        """Return whether two pills are connected to the same Row."""
        return any(
            spot is not None and spot == other_spot
            for spot, other_spot in zip(self.spots, other.spots, strict=True)
        )


def pills_on(board: Board, line: Line) -> tuple[Pill, ...]:
    """Return the pills of a line: those of the teacher, of both networks, of the student."""
    links = [(i, board.links[i]) for i in line.links]
    marks = [(i, board.marks[i]) for i in line.marks]
    is_only_mark = len(marks) == 1
    pills = [
        *(Pill(str(i), _link_parts(link), (link.teacher, link.student)) for i, link in links),
        *(
            Pill(f"m{i}", (_mark_part(mark, show_slug=is_only_mark),), mark.spots)
            for i, mark in marks
        ),
    ]
    return tuple(sorted(pills, key=_position))


def _position(pill: Pill) -> int:
    teacher, student = pill.spots
    return 0 if student is None else 2 if teacher is None else 1


def _link_parts(link: Link) -> tuple[_PillPart, ...]:
    return tuple(_PillPart(_ranks(tag), tag.text, tag.adapter, PAIR) for tag in link.tags)


def _mark_part(mark: Mark, *, show_slug: bool) -> _PillPart:
    scheme = scheme_of_severity(mark.severity)
    if not show_slug:
        return _PillPart(mark.code, "", "", scheme)
    return _PillPart(mark.code, mark.slug, f"× {mark.count}" if mark.count > 1 else "", scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairColumn:
    """The widths of a pill's label and body, of the headline and of the column, in points."""

    label_width: int
    body_width: int
    header_width: int
    width: int

    @classmethod
    def of(cls, board: Board) -> PairColumn:
        """Measure the pills of a Board and its headline."""
        lines = [pills_on(board, line) for band in board.bands for line in band.lines]
        parts = [part for line in lines for pill in line for part in pill.parts]
        label = widest([part.label for part in parts], 10, _MIN_LABEL, _MAX_LABEL)
        body = widest([part.body for part in parts], 10, _MIN_BODY, _MAX_BODY)
        with_extra = (
            width_of(part.body, 10) + width_of(part.extra, _SMALL_TYPE) + 3 * _PADDING
            for part in parts
            if part.extra
        )
        body = min(_MAX_BODY, max(body, int(max(with_extra, default=0))))
        header_width = widest(board.headline, 12, _MIN_HEADER, _MAX_HEADER)
        column = cls(
            label_width=label, body_width=body, header_width=header_width, width=header_width
        )
        widest_line = max(map(column.line_width, lines), default=0)
        return replace(column, width=max(header_width, widest_line + _MARGIN))

    def line_width(self, pills: Sequence[Pill]) -> int:
        """Return the total width of the pills of a line, in points."""
        parts = [part for pill in pills for part in pill.parts]
        widths = (self.label_width + (self.body_width + 2 if part.body else 0) for part in parts)
        return sum(widths) + _MARGIN * max(0, len(pills) - 1)


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


def pair_column_header(board: Board, column: PairColumn) -> str:
    """Draw the headline of a Board."""
    scheme = PAIR if board.worst is None else scheme_of_severity(board.worst)
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


def _centred(content: str, width: int, height: int, column: PairColumn) -> str:
    """Return a row with content centred between blank cells; Graphviz stretches it otherwise."""
    left = (column.width - width) // 2
    right = column.width - width - left
    blanks = [cell(blank, height) if blank else "" for blank in (left, right)]
    return row(filled(table((row(blanks[0], filled(content), blanks[1]),))))


def pair_column_label(
    board: Board, lines: Sequence[Line], column: PairColumn, *, overview: bool
) -> str:
    """Draw the pills of a band, each in its line."""
    top = 0 if overview else TITLE_HEIGHT
    height = OVERVIEW_HEIGHT if overview else LINE_HEIGHT
    rows = (_line_rows(pills_on(board, line), column, height) for line in lines)
    return table((gap(column.width, top + BORDER), *rows, gap(column.width, BORDER)))


def _line_rows(pills: Sequence[Pill], column: PairColumn, height: int) -> str:
    """Return the rows of a line: its pills, with blanks above and below."""
    if not pills:
        return gap(column.width, height)
    above = (height - _PILL_HEIGHT) // 2
    cells = [filled(_pill_table(pills[0], column))]
    for previous, pill in pairwise(pills):
        cells += [_connection(previous, pill), filled(_pill_table(pill, column))]
    content = table((row(*cells),))
    return "".join(
        (
            gap(column.width, above),
            _centred(content, column.line_width(pills), _PILL_HEIGHT, column),
            gap(column.width, height - _PILL_HEIGHT - above),
        )
    )


def _connection(previous: Pill, pill: Pill) -> str:
    """Return the space between two pills, with a line if they are connected to the same Row."""
    if not previous.shares_row(pill):
        return cell(_MARGIN, _PILL_HEIGHT)
    line = row(cell(_MARGIN, _EDGE, fill=pill.scheme.full))
    space = (_PILL_HEIGHT - _EDGE) // 2
    return filled(table((gap(_MARGIN, space), line, gap(_MARGIN, space))))


def _pill_table(pill: Pill, column: PairColumn) -> str:
    cells: list[str] = []
    for part in pill.parts:
        in_port = "" if cells else f"p{pill.key}"
        out_port = f"q{pill.key}" if part is pill.parts[-1] else ""
        cells.append(_label_cell(part, column, in_port, "" if part.body else out_port))
        cells.append(_body_cell(part, column, out_port) if part.body else "")
    return table((row(*cells),), fill=pill.scheme.full)


def _label_cell(part: _PillPart, column: PairColumn, in_port: str, out_port: str) -> str:
    """Draw ranks or a code; `in_port` is inset as dot 2.42 ends edges a point before a port."""
    width = column.label_width - _EDGE
    label = text(part.label, width=width, color=part.scheme.on_full, bold=True, align="CENTER")
    inner = table((gap(width, 3), row(cell(width, _PILL_HEIGHT - 3, label, align="CENTER"))))
    cells = cell(_EDGE, _PILL_HEIGHT), cell(width, _PILL_HEIGHT, inner, port=in_port)
    return filled(table((row(*cells),)), port=out_port)


def _body_cell(part: _PillPart, column: PairColumn, port: str) -> str:
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
