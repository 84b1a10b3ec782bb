"""DOT of Operators: a box each, frames around networks and the Blocks of conditions and loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphtool.rendering._document import Document
from graphtool.rendering._findings import findings_label
from graphtool.rendering._labels import cell, escaped, gap, row, table, text
from graphtool.rendering._operators import Box, BoxKind, Diagram, Group
from graphtool.rendering._palette import (
    FLOW,
    FONT,
    INK,
    MUTED,
    PAIR,
    PAPER,
    Scheme,
    scheme_of,
    scheme_of_severity,
)
from graphtool.rendering._text import fitted, width_of
from graphtool.rendering.board import Mark
from graphtool.text import visible

__all__ = ["Side", "diagrams_dot"]

_GRAPH = {
    "bgcolor": "transparent",
    "rankdir": "TB",
    "nodesep": "0.25",
    "ranksep": "0.3",
    "pad": "0.25",
    "fontname": FONT,
}
_NODE = {"shape": "plain", "fontname": FONT, "fontsize": "10"}
_EDGE = {
    "color": FLOW,
    "penwidth": "1.2",
    "arrowsize": "0.6",
    "fontname": FONT,
    "fontsize": "8",
    "fontcolor": MUTED,
}
_PAIR = {"color": PAIR.full, "penwidth": "2.2", "dir": "none", "constraint": "false"}
_WIDEST, _NARROWEST, _PAD = 240, 70, 8
_TITLE, _LINE, _SMALL = 18, 13, 8
_EDGE_ROOM, _CLUSTER_ROOM = 140, 400
_MOST_LINES, _MOST_CODES = 3, 2
_FOUND, _FOUND_WIDTH = "findings", 720
# Room for the hair space that keeps text on its line, and for rounding.
_STRUT = 6


class Side:
    """One network to draw: its role, name and Diagram, and how its boxes are called in DOT."""

    def __init__(self, role: str | None, name: str, diagram: Diagram) -> None:
        self.role, self.name, self.diagram = role, name, diagram
        self.scheme = scheme_of(role)
        letter = (role or "n")[0]
        self.nodes: Mapping[str, str] = {
            box.key: f"{letter}{index}" for index, box in enumerate(diagram.boxes)
        }


def diagrams_dot(
    sides: Sequence[Side], pairs: Sequence[tuple[str, str]], marks: Sequence[Mark] = ()
) -> str:
    """Return the DOT of one network or two; `pairs` are the keys of the boxes that they join.

    `marks` are findings, which are listed below.
    """
    dot = Document.new(graph=_GRAPH, node=_NODE, edge=_EDGE)
    for side in sides:
        _network(dot, side)
    for teacher, student in pairs:
        dot.edge(sides[0].nodes[teacher], sides[1].nodes[student], **_PAIR)
    if marks:
        dot.node(_FOUND, findings_label(marks, _FOUND_WIDTH))
        for side in sides:
            for last in list(side.nodes.values())[-1:]:
                dot.edge(last, _FOUND, style="invis")
    return dot.source


def _network(dot: Document, side: Side) -> None:
    role = "" if side.role is None else f"{side.role.upper()} · "
    title = escaped(fitted(f"{role}{side.name}", _CLUSTER_ROOM, 13, bold=True))
    with dot.part(
        f"cluster_{side.role or 'network'}",
        label=_frame_title(title, 13, side.scheme.full),
        labeljust="l",
        style="rounded,filled",
        fillcolor=PAPER,
        color=side.scheme.full,
        penwidth="1.5",
        margin="14",
    ) as cluster:
        _group(cluster, side, side.diagram.top)
        for edge in side.diagram.edges:
            label = escaped(fitted(edge.label, _EDGE_ROOM, 8))
            cluster.edge(
                side.nodes[edge.source], side.nodes[edge.target], label=f"<&#160;{label}&#160;>"
            )


def _frame_title(title: str, size: int, color: str) -> str:
    """Return what stands in a corner of a frame, clear of its line; the title is escaped."""
    said = f'<FONT POINT-SIZE="{size}" COLOR="{color}"><B>{title}</B></FONT>'
    return f'<<TABLE BORDER="0" CELLPADDING="5"><TR><TD>{said}</TD></TR></TABLE>>'


def _group(dot: Document, side: Side, group: Group) -> None:
    for box in group.boxes:
        dot.node(side.nodes[box.key], _box_label(box, side.scheme))
    for inner in group.groups:
        first = next(_all_boxes(inner), None)
        if first is None:
            continue
        title = escaped(fitted(inner.title, _CLUSTER_ROOM, 10, bold=True))
        with dot.part(
            f"cluster_{side.nodes[first.key]}_{len(inner.key)}",
            label=_frame_title(title, 10, INK),
            labeljust="l",
            style="rounded,filled",
            fillcolor=side.scheme.tint,
            color=side.scheme.full,
            penwidth="1",
            margin="10",
        ) as cluster:
            _group(cluster, side, inner)


def _all_boxes(group: Group) -> Iterator[Box]:
    yield from group.boxes
    for inner in group.groups:
        yield from _all_boxes(inner)


def _box_label(box: Box, scheme: Scheme) -> str:
    """Draw a box: its type, its Value, its lines, and the ranks of pairs that end here."""
    is_input = box.kind is BoxKind.INPUT
    name = next((name for name in box.values[:1] if name != box.title), "")
    lines = list(box.lines[:_MOST_LINES])
    if box.hidden:
        lines.append(f"+ {box.hidden} not shown")
    badges = _badges(box)
    width = _width(visible(box.title[:_WIDEST]), visible(name[:_WIDEST]), lines, badges)
    plain = scheme.tint if box.centre else PAPER
    ground = scheme.full if is_input else badges[-1].scheme.tint if badges else plain
    ink, muted = (PAPER, scheme.on_full) if is_input else (INK, MUTED)
    rows = [
        _title(box.title, name, badges, width, (ink, muted)),
        *(_line(line, width, muted) for line in lines),
        gap(width, 3),
    ]
    return table(rows, border=scheme.full, fill=ground)


@dataclass(frozen=True, slots=True)
class _Badge:
    """Ranks of pairs or codes of findings, in a corner of a box."""

    said: str
    scheme: Scheme

    @property
    def width(self) -> int:
        return int(width_of(self.said, _SMALL, bold=True)) + 12


def _badges(box: Box) -> tuple[_Badge, ...]:
    found: list[_Badge] = []
    if box.ranks:
        found.append(_Badge(", ".join(map(str, box.ranks)), PAIR))
    if box.severity is not None:
        shown = box.codes[:_MOST_CODES]
        more = " …" if len(box.codes) > _MOST_CODES else ""
        found.append(_Badge(", ".join(shown) + more, scheme_of_severity(box.severity)))
    return tuple(found)


def _width(title: str, name: str, lines: Sequence[str], badges: Sequence[_Badge]) -> int:
    first = width_of(title, 10, bold=True) + width_of(name, _SMALL) + 8
    first += sum(badge.width for badge in badges)
    others = (width_of(visible(line[:_WIDEST]), _SMALL) for line in lines)
    widest = max(first, *others, 0) + 2 * _PAD
    return min(_WIDEST, max(_NARROWEST, int(widest) + _STRUT))


def _title(
    title: str, name: str, badges: Sequence[_Badge], width: int, inks: tuple[str, str]
) -> str:
    room = width - 2 * _PAD - sum(badge.width for badge in badges)
    said = text(title, room=room - _STRUT, color=inks[0], bold=True)
    left = room - width_of(visible(title[:_WIDEST]), 10, bold=True) - _STRUT - 6
    if name and left > 16:
        said += "  " + text(name, room=left, size=_SMALL, color=inks[1])
    cells = [cell(_PAD, _TITLE), cell(room, _TITLE, said)]
    for badge in badges:
        ink = badge.scheme.on_full
        mark = text(badge.said, room=badge.width, size=_SMALL, color=ink, bold=True, align="CENTER")
        cells.append(cell(badge.width, _TITLE, mark, align="CENTER", fill=badge.scheme.full))
    return gap(width, 3) + row(f"<TD>{table((row(*cells, cell(_PAD, _TITLE)),))}</TD>")


def _line(line: str, width: int, muted: str) -> str:
    said = text(line, room=width - 2 * _PAD - 3, size=_SMALL, color=muted)
    cells = cell(_PAD, _LINE), cell(width - 2 * _PAD, _LINE, said), cell(_PAD, _LINE)
    return row(f"<TD>{table((row(*cells),))}</TD>")
