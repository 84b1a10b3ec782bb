"""DOT of Operators: a box each, frames around networks and the Blocks of conditions and loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from graphtool.rendering._document import Document
from graphtool.rendering._labels import cell, gap, row, table, text
from graphtool.rendering._operators import Box, BoxKind, Diagram, Group
from graphtool.rendering._palette import FLOW, FONT, INK, MUTED, PAIR, PAPER, Scheme, scheme_of
from graphtool.rendering._text import fitted, width_of

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
_MOST_LINES = 3
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


def diagrams_dot(sides: Sequence[Side], pairs: Sequence[tuple[str, str]]) -> str:
    """Return the DOT of one network or two; `pairs` are the keys of the boxes that they join."""
    dot = Document.new(graph=_GRAPH, node=_NODE, edge=_EDGE)
    for side in sides:
        _network(dot, side)
    for teacher, student in pairs:
        dot.edge(sides[0].nodes[teacher], sides[1].nodes[student], **_PAIR)
    return dot.source


def _network(dot: Document, side: Side) -> None:
    role = "" if side.role is None else f"{side.role.upper()} · "
    title = escape(fitted(f"{role}{side.name}", _CLUSTER_ROOM, 13, bold=True))
    with dot.part(
        f"cluster_{side.role or 'network'}",
        label=f'<<FONT POINT-SIZE="13" COLOR="{side.scheme.full}"><B>{title}</B></FONT>>',
        labeljust="l",
        style="rounded,filled",
        fillcolor=PAPER,
        color=side.scheme.full,
        penwidth="1.5",
        margin="14",
    ) as cluster:
        _group(cluster, side, side.diagram.top)
        for edge in side.diagram.edges:
            label = escape(fitted(edge.label, _EDGE_ROOM, 8))
            cluster.edge(
                side.nodes[edge.source], side.nodes[edge.target], label=f"<&#160;{label}&#160;>"
            )


def _group(dot: Document, side: Side, group: Group) -> None:
    for box in group.boxes:
        dot.node(side.nodes[box.key], _box_label(box, side.scheme))
    for inner in group.groups:
        first = next(_all_boxes(inner), None)
        if first is None:
            continue
        title = escape(fitted(inner.title, _CLUSTER_ROOM, 10, bold=True))
        with dot.part(
            f"cluster_{side.nodes[first.key]}_{len(inner.key)}",
            label=f'<<FONT POINT-SIZE="10" COLOR="{INK}"><B>{title}</B></FONT>>',
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
    ranks = ", ".join(map(str, box.ranks))
    width = _width(box.title, name, lines, ranks)
    plain = scheme.tint if box.centre else PAPER
    ground = scheme.full if is_input else PAIR.tint if ranks else plain
    ink, muted = (PAPER, scheme.on_full) if is_input else (INK, MUTED)
    rows = [
        _title(box.title, name, ranks, width, (ink, muted)),
        *(_line(line, width, muted) for line in lines),
        gap(width, 3),
    ]
    return table(rows, border=scheme.full, fill=ground)


def _width(title: str, name: str, lines: Sequence[str], ranks: str) -> int:
    first = width_of(title[:_WIDEST], 10, bold=True) + width_of(name[:_WIDEST], _SMALL) + 8
    first += width_of(ranks, _SMALL, bold=True) + 12 if ranks else 0
    others = (width_of(line[:_WIDEST], _SMALL) for line in lines)
    widest = max(first, *others, 0) + 2 * _PAD
    return min(_WIDEST, max(_NARROWEST, int(widest) + _STRUT))


def _title(title: str, name: str, ranks: str, width: int, inks: tuple[str, str]) -> str:
    badge = int(width_of(ranks, _SMALL, bold=True)) + 12 if ranks else 0
    room = width - 2 * _PAD - badge
    said = text(title, room=room - _STRUT, color=inks[0], bold=True)
    left = room - width_of(title[:_WIDEST], 10, bold=True) - _STRUT - 6
    if name and left > 16:
        said += "  " + text(name, room=left, size=_SMALL, color=inks[1])
    cells = [cell(_PAD, _TITLE), cell(room, _TITLE, said)]
    if badge:
        rank = text(ranks, room=badge, size=_SMALL, color=PAIR.on_full, bold=True, align="CENTER")
        cells.append(cell(badge, _TITLE, rank, align="CENTER", fill=PAIR.full))
    return gap(width, 3) + row(f"<TD>{table((row(*cells, cell(_PAD, _TITLE)),))}</TD>")


def _line(line: str, width: int, muted: str) -> str:
    said = text(line, room=width - 2 * _PAD - 3, size=_SMALL, color=muted)
    cells = cell(_PAD, _LINE), cell(width - 2 * _PAD, _LINE, said), cell(_PAD, _LINE)
    return row(f"<TD>{table((row(*cells),))}</TD>")
