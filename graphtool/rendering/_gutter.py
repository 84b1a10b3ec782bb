"""Draw what stands between two networks: what joins them in short, and a pill for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from graphtool.rendering._cards import BORDER, LINE, OVERVIEW, TITLE, widest
from graphtool.rendering._labels import cell, filled, gap, row, table, text
from graphtool.rendering._palette import INK, MUTED, PAIR, PAPER, Scheme, scheme_of_severity
from graphtool.rendering._text import width_of
from graphtool.rendering.board import Board, Line, Link, Mark, Spot, Tag

__all__ = ["Gutter", "Pill", "gutter_header", "gutter_label", "pills_on"]

_PILL, _HEADER, _EDGE, _SMALL, _PAD = 16, 104, 2, 8, 6
_LEAD_LEAST, _TEXT_LEAST, _MARGIN = 20, 72, 6
_LEAD_MOST, _TEXT_MOST, _HEADER_MOST = 90, 220, 200


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a pill: what it is known by, what it says, and what it adds in small type."""

    lead: str
    body: str
    extra: str
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class Pill:
    """What stands on a line and is joined to the Rows at `spots`, the teacher's first.

    Lines come in at the port `p<key>`, and leave at `q<key>`.
    """

    key: str
    parts: tuple[_Part, ...]
    spots: tuple[Spot | None, ...]

    @property
    def scheme(self) -> Scheme:
        """Its colours."""
        return self.parts[0].scheme

    def shares(self, other: Pill) -> bool:
        """Tell whether two pills are joined to the same Row."""
        return any(
            one is not None and one == its for one, its in zip(self.spots, other.spots, strict=True)
        )


def pills_on(board: Board, line: Line) -> tuple[Pill, ...]:
    """Return the pills of a line: the teacher's alone, those of both, the student's alone."""
    links = [board.links[i] for i in line.links]
    tagged = [
        Pill(str(i), _tagged(link), (link.teacher, link.student))
        for i, link in zip(line.links, links, strict=True)
    ]
    alone = len(line.marks) == 1
    found = [
        Pill(f"m{i}", (_found(board.marks[i], alone=alone),), board.marks[i].spots)
        for i in line.marks
    ]
    return tuple(sorted((*tagged, *found), key=_side))


def _side(pill: Pill) -> int:
    teacher, student = pill.spots
    return 0 if student is None else 2 if teacher is None else 1


def _tagged(link: Link) -> tuple[_Part, ...]:
    return tuple(_Part(_ranks(tag), tag.text, tag.adapter, PAIR) for tag in link.tags)


def _found(mark: Mark, *, alone: bool) -> _Part:
    """Write a code, and what it stands for where there is room: all are listed below."""
    times = f"× {mark.count}" if mark.count > 1 else ""
    scheme = scheme_of_severity(mark.severity)
    return _Part(mark.code, mark.slug, times, scheme) if alone else _Part(mark.code, "", "", scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gutter:
    """The widths of what stands between two networks, in points."""

    lead: int
    body: int
    header: int
    whole: int

    @classmethod
    def of(cls, board: Board) -> Gutter:
        """Measure what the pills have to hold."""
        lines = [pills_on(board, line) for band in board.bands for line in band.lines]
        parts = [part for line in lines for pill in line for part in pill.parts]
        lead = widest([part.lead for part in parts], 10, _LEAD_LEAST, _LEAD_MOST)
        body = widest([part.body for part in parts], 10, _TEXT_LEAST, _TEXT_MOST)
        both = (
            width_of(part.body, 10) + width_of(part.extra, _SMALL) + 3 * _PAD
            for part in parts
            if part.extra
        )
        body = min(_TEXT_MOST, max(body, int(max(both, default=0))))
        header = widest(board.headline, 12, _HEADER, _HEADER_MOST)
        gutter = cls(lead=lead, body=body, header=header, whole=header)
        widest_line = max(map(gutter.width_of, lines), default=0)
        return replace(gutter, whole=max(header, widest_line + _MARGIN))

    def width_of(self, pills: Sequence[Pill]) -> int:
        """Return how wide the pills of a line are together, in points."""
        parts = [part for pill in pills for part in pill.parts]
        widths = (self.lead + (self.body + 2 if part.body else 0) for part in parts)
        return sum(widths) + _MARGIN * max(0, len(pills) - 1)


def _ranks(tag: Tag) -> str:
    """Write ranks, those that follow each other as `2–7`."""
    runs: list[list[int]] = []
    for rank in tag.ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    texts = (f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(texts)


def gutter_header(board: Board, gutter: Gutter) -> str:
    """Say in two lines what joins the networks: how many pairs, which way their pills read."""
    scheme = PAIR if board.worst is None else scheme_of_severity(board.worst)

    def line(content: str, height: int, size: float, *, bold: bool) -> str:
        shown = text(content, room=gutter.header, size=size, color=scheme.on_full, bold=bold)
        return row(cell(gutter.header, height, shown, align="CENTER"))

    first, second = board.headline
    box = table(
        (
            gap(gutter.header, 3),
            line(first, 22, 12, bold=True),
            line(second, 16, 9, bold=False),
            gap(gutter.header, 3),
        ),
        fill=scheme.full,
    )
    centred = _centred(box, gutter.header, 44, gutter)
    return table((gap(gutter.whole, 18), centred, gap(gutter.whole, 6)))


def _centred(content: str, width: int, height: int, gutter: Gutter) -> str:
    """Return a row with content in the middle; Graphviz would stretch it to fill a cell."""
    left = (gutter.whole - width) // 2
    right = gutter.whole - width - left
    sides = [cell(side, height) if side else "" for side in (left, right)]
    return row(filled(table((row(sides[0], filled(content), sides[1]),))))


def gutter_label(board: Board, lines: Sequence[Line], gutter: Gutter, *, overview: bool) -> str:
    """Draw the pills of a band, each in its line."""
    top = 0 if overview else TITLE
    height = OVERVIEW if overview else LINE
    drawn = (_on_line(pills_on(board, line), gutter, height) for line in lines)
    return table((gap(gutter.whole, top + BORDER), *drawn, gap(gutter.whole, BORDER)))


def _on_line(pills: Sequence[Pill], gutter: Gutter, height: int) -> str:
    if not pills:
        return gap(gutter.whole, height)
    pad = (height - _PILL) // 2
    cells = [filled(_drawn(pills[0], gutter))]
    for before, pill in pairwise(pills):
        cells += [_between(before, pill), filled(_drawn(pill, gutter))]
    whole = table((row(*cells),))
    return "".join(
        (
            gap(gutter.whole, pad),
            _centred(whole, gutter.width_of(pills), _PILL, gutter),
            gap(gutter.whole, height - _PILL - pad),
        )
    )


def _between(before: Pill, pill: Pill) -> str:
    """Go on with the line where two pills are joined to one Row."""
    if not before.shares(pill):
        return cell(_MARGIN, _PILL)
    line = row(cell(_MARGIN, _EDGE, fill=pill.scheme.full))
    beside = (_PILL - _EDGE) // 2
    return filled(table((gap(_MARGIN, beside), line, gap(_MARGIN, beside))))


def _drawn(pill: Pill, gutter: Gutter) -> str:
    cells: list[str] = []
    for part in pill.parts:
        first = "" if cells else f"p{pill.key}"
        last = f"q{pill.key}" if part is pill.parts[-1] else ""
        cells.append(_lead(part, gutter, first, "" if part.body else last))
        cells.append(_body(part, gutter, last) if part.body else "")
    return table((row(*cells),), fill=pill.scheme.full)


def _lead(part: _Part, gutter: Gutter, port: str, last: str) -> str:
    """Draw ranks, or a code; the port lies further in: dot 2.42 ends lines a point before one."""
    width = gutter.lead - _EDGE
    said = text(part.lead, room=width, color=part.scheme.on_full, bold=True, align="CENTER")
    inner = table((gap(width, 3), row(cell(width, _PILL - 3, said, align="CENTER"))))
    cells = cell(_EDGE, _PILL), cell(width, _PILL, inner, port=port)
    return filled(table((row(*cells),)), port=last)


def _body(part: _Part, gutter: Gutter, port: str) -> str:
    """Draw what a pill says, framed."""
    height = _PILL - 2
    extra = min(int(width_of(part.extra, _SMALL)) + _PAD, gutter.body // 2) if part.extra else 0
    room = gutter.body - extra
    said = text(part.body, room=room, color=INK, align="CENTER")
    cells = [cell(room, height - 3, said, align="CENTER")]
    if extra:
        small = text(part.extra, room=extra, size=_SMALL, color=MUTED)
        cells.append(cell(extra, height - 3, small))
    inner = table((gap(gutter.body, 3), row(filled(table((row(*cells),))))))
    return filled(table((row(cell(gutter.body, height, inner, fill=PAPER, port=port)),), spacing=1))
