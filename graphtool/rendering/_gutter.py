"""Draw what stands between two networks: the number of pairs, and a pill for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphtool.rendering._cards import BORDER, LINE, OVERVIEW, TITLE, widest
from graphtool.rendering._labels import cell, filled, gap, row, table, text
from graphtool.rendering._palette import INK, MUTED, PAIR, PAPER
from graphtool.rendering._text import width_of
from graphtool.rendering.board import Board, Link, Tag

__all__ = ["Gutter", "gutter_header", "gutter_label"]

_PILL, _HEADER, _EDGE, _SMALL, _PAD = 16, 104, 2, 8, 6
_RANK_LEAST, _TEXT_LEAST, _MARGIN = 20, 72, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Gutter:
    """The widths of what stands between two networks, in points."""

    rank: int
    text: int
    whole: int

    @classmethod
    def of(cls, board: Board) -> Gutter:
        """Measure what the pills have to hold."""
        tags = [tag for link in board.links for tag in link.tags]
        rank = widest([_ranks(tag) for tag in tags], 10, _RANK_LEAST, 90)
        body = widest([tag.text for tag in tags], 10, _TEXT_LEAST, 220)
        adapters = [tag for tag in tags if tag.adapter]
        both = (width_of(x.text, 10) + width_of(x.adapter, _SMALL) + 3 * _PAD for x in adapters)
        body = max(body, int(max(both, default=0)))
        lines = (line.links for band in board.bands for line in band.lines)
        most = max((sum(len(board.links[i].tags) for i in held) for held in lines), default=1)
        return cls(
            rank=rank, text=body, whole=max(_HEADER, (rank + body + 2 + _MARGIN) * max(1, most))
        )


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
    """Say how many pairs there are, and which way their pills read."""
    count = f"{board.pairs} pair{'' if board.pairs == 1 else 's'}"

    def line(content: str, height: int, size: float, *, bold: bool) -> str:
        shown = text(content, room=_HEADER, size=size, color=PAIR.on_full, bold=bold)
        return row(cell(_HEADER, height, shown, align="CENTER"))

    box = table(
        (
            gap(_HEADER, 3),
            line(count, 22, 12, bold=True),
            line("teacher ← student", 16, 9, bold=False),
            gap(_HEADER, 3),
        ),
        fill=PAIR.full,
    )
    return table((gap(gutter.whole, 18), _centred(box, _HEADER, 44, gutter), gap(gutter.whole, 6)))


def _centred(content: str, width: int, height: int, gutter: Gutter) -> str:
    """Return a row with content in the middle; Graphviz would stretch it to fill a cell."""
    left = (gutter.whole - width) // 2
    right = gutter.whole - width - left
    sides = [cell(side, height) if side else "" for side in (left, right)]
    return row(filled(table((row(sides[0], filled(content), sides[1]),))))


def gutter_label(
    lines: Sequence[Sequence[tuple[int, Link]]], gutter: Gutter, *, overview: bool
) -> str:
    """Draw the pills of a band, each in its line."""
    top = 0 if overview else TITLE
    height = OVERVIEW if overview else LINE
    drawn = (_pills(held, gutter, height) for held in lines)
    return table((gap(gutter.whole, top + BORDER), *drawn, gap(gutter.whole, BORDER)))


def _pills(held: Sequence[tuple[int, Link]], gutter: Gutter, height: int) -> str:
    if not held:
        return gap(gutter.whole, height)
    pad = (height - _PILL) // 2
    cells: list[str] = []
    for index, link in held:
        cells += [cell(_MARGIN, _PILL)] if cells else []
        cells.append(filled(_pill(index, link, gutter)))
    widths = (_pill_width(link, gutter) + _MARGIN for _, link in held)
    pills = table((row(*cells),))
    return "".join(
        (
            gap(gutter.whole, pad),
            _centred(pills, sum(widths) - _MARGIN, _PILL, gutter),
            gap(gutter.whole, height - _PILL - pad),
        )
    )


def _pill_width(link: Link, gutter: Gutter) -> int:
    return len(link.tags) * (gutter.rank + gutter.text + 2)


def _pill(index: int, link: Link, gutter: Gutter) -> str:
    """Draw a pill; lines come in at the port `p0`, and leave at `q0`."""
    parts: list[str] = []
    for tag in link.tags:
        port = "" if parts else f"p{index}"
        parts.append(_number(tag, gutter, port))
        parts.append(_said(tag, gutter, f"q{index}" if tag is link.tags[-1] else ""))
    return table((row(*parts),), fill=PAIR.full)


def _number(tag: Tag, gutter: Gutter, port: str) -> str:
    """Draw the ranks. dot 2.42 ends lines a point before a port: this one lies further in."""
    width = gutter.rank - _EDGE
    ranks = text(_ranks(tag), room=gutter.rank, color=PAIR.on_full, bold=True, align="CENTER")
    inner = table((gap(width, 3), row(cell(width, _PILL - 3, ranks, align="CENTER"))))
    return filled(table((row(cell(_EDGE, _PILL), cell(width, _PILL, inner, port=port)),)))


def _said(tag: Tag, gutter: Gutter, port: str) -> str:
    """Draw what a pill says, framed."""
    height = _PILL - 2
    adapter = int(width_of(tag.adapter, _SMALL)) + _PAD if tag.adapter else 0
    room = gutter.text - adapter
    body = text(tag.text, room=room, color=INK, align="CENTER")
    cells = [cell(room, height - 3, body, align="CENTER")]
    if adapter:
        said = text(tag.adapter, room=adapter, size=_SMALL, color=MUTED)
        cells.append(cell(adapter, height - 3, said))
    inner = table((gap(gutter.text, 3), row(filled(table((row(*cells),))))))
    return filled(table((row(cell(gutter.text, height, inner, fill=PAPER, port=port)),), spacing=1))
