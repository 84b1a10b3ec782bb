"""Write the DOT of Operators: a box for each, frames around networks and inner Blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphtool.rendering._document import Document
from graphtool.rendering._findings import findings_label
from graphtool.rendering._html_labels import cell, escaped, filled, gap, row, table, text
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
from graphtool.rendering._text_metrics import fitted, width_of
from graphtool.rendering.board import Mark
from graphtool.text import printable

__all__ = ["NamedDiagram", "diagrams_dot"]

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
_MAX_WIDTH, _MIN_WIDTH, _PAD = 240, 70, 8
_TITLE_HEIGHT, _LINE_HEIGHT, _SMALL = 18, 13, 8
_EDGE_LABEL_WIDTH, _FRAME_TITLE_WIDTH = 140, 400
_MAX_LINES, _MAX_CODES = 3, 2
_FINDINGS, _FINDINGS_WIDTH = "findings", 720
# Space for the strut in a line of text, and for rounding.
_STRUT_WIDTH = 6


class NamedDiagram:
    """A network's role, name and Diagram; `nodes` maps the keys of its boxes to DOT names."""

    def __init__(self, role: str | None, name: str, diagram: Diagram) -> None:
        self.role, self.name, self.diagram = role, name, diagram
        self.scheme = scheme_of(role)
        letter = (role or "n")[0]
        self.nodes: Mapping[str, str] = {
            box.key: f"{letter}{index}" for index, box in enumerate(diagram.boxes)
        }


def diagrams_dot(
    diagrams: Sequence[NamedDiagram], pairs: Sequence[tuple[str, str]], marks: Sequence[Mark] = ()
) -> str:
    """Return the DOT of one network or two, with a list of the diagnostics in `marks` below.

    `pairs` are the keys of paired boxes, the teacher's first.
    """
    dot = Document.new(graph=_GRAPH, node=_NODE, edge=_EDGE)
    for network in diagrams:
        _draw_network(dot, network)
    for teacher, student in pairs:
        dot.edge(diagrams[0].nodes[teacher], diagrams[1].nodes[student], **_PAIR)
    if marks:
        dot.node(_FINDINGS, findings_label(marks, _FINDINGS_WIDTH))
        for network in diagrams:
            for last in list(network.nodes.values())[-1:]:
                dot.edge(last, _FINDINGS, style="invis")
    return dot.source


def _draw_network(dot: Document, network: NamedDiagram) -> None:
    role = "" if network.role is None else f"{network.role.upper()} · "
    title = escaped(fitted(f"{role}{network.name}", _FRAME_TITLE_WIDTH, 13, bold=True))
    with dot.subgraph(
        f"cluster_{network.role or 'network'}",
        label=_frame_title(title, 13, network.scheme.full),
        labeljust="l",
        style="rounded,filled",
        fillcolor=PAPER,
        color=network.scheme.full,
        penwidth="1.5",
        margin="14",
    ) as cluster:
        _draw_group(cluster, network, network.diagram.top)
        for edge in network.diagram.edges:
            label = escaped(fitted(edge.label, _EDGE_LABEL_WIDTH, 8))
            cluster.edge(
                network.nodes[edge.source],
                network.nodes[edge.target],
                label=f"<&#160;{label}&#160;>",
            )


def _frame_title(title: str, size: int, color: str) -> str:
    """Return the label of a frame, padded away from its border; the title is already escaped."""
    label = f'<FONT POINT-SIZE="{size}" COLOR="{color}"><B>{title}</B></FONT>'
    return f'<<TABLE BORDER="0" CELLPADDING="5"><TR><TD>{label}</TD></TR></TABLE>>'


def _draw_group(dot: Document, network: NamedDiagram, group: Group) -> None:
    for box in group.boxes:
        dot.node(network.nodes[box.key], _box_label(box, network.scheme))
    for inner in group.groups:
        first = next(_all_boxes(inner), None)
        if first is None:
            continue
        title = escaped(fitted(inner.title, _FRAME_TITLE_WIDTH, 10, bold=True))
        with dot.subgraph(
            f"cluster_{network.nodes[first.key]}_{len(inner.key)}",
            label=_frame_title(title, 10, INK),
            labeljust="l",
            style="rounded,filled",
            fillcolor=network.scheme.tint,
            color=network.scheme.full,
            penwidth="1",
            margin="10",
        ) as cluster:
            _draw_group(cluster, network, inner)


def _all_boxes(group: Group) -> Iterator[Box]:
    yield from group.boxes
    for inner in group.groups:
        yield from _all_boxes(inner)


def _box_label(box: Box, scheme: Scheme) -> str:
    """Return the label of a box: its type, Value, lines, and badges of pairs and diagnostics."""
    is_input = box.kind is BoxKind.INPUT
    name = next((name for name in box.values[:1] if name != box.title), "")
    lines = list(box.lines[:_MAX_LINES])
    if box.hidden:
        lines.append(f"+ {box.hidden} not shown")
    badges = _badges(box)
    width = _box_width(
        printable(box.title[:_MAX_WIDTH]), printable(name[:_MAX_WIDTH]), lines, badges
    )
    plain = scheme.tint if box.centre else PAPER
    fill = scheme.full if is_input else badges[-1].scheme.tint if badges else plain
    ink, muted = (PAPER, scheme.on_full) if is_input else (INK, MUTED)
    rows = [
        _title_row(box.title, name, badges, width, (ink, muted)),
        *(_line_row(line, width, muted) for line in lines),
        gap(width, 3),
    ]
    return table(rows, border=scheme.full, fill=fill)


@dataclass(frozen=True, slots=True)
class _Badge:
    """Ranks of pairs or codes of diagnostics, in a corner of a box."""

    label: str
    scheme: Scheme

    @property
    def width(self) -> int:
        return int(width_of(self.label, _SMALL, bold=True)) + 12


def _badges(box: Box) -> tuple[_Badge, ...]:
    badges: list[_Badge] = []
    if box.ranks:
        badges.append(_Badge(", ".join(map(str, box.ranks)), PAIR))
    if box.severity is not None:
        more = " …" if len(box.codes) > _MAX_CODES else ""
        label = ", ".join(box.codes[:_MAX_CODES]) + more
        badges.append(_Badge(label, scheme_of_severity(box.severity)))
    return tuple(badges)


def _box_width(title: str, name: str, lines: Sequence[str], badges: Sequence[_Badge]) -> int:
    title_width = width_of(title, 10, bold=True) + width_of(name, _SMALL) + 8
    title_width += sum(badge.width for badge in badges)
    line_widths = (width_of(printable(line[:_MAX_WIDTH]), _SMALL) for line in lines)
    widest = max(title_width, *line_widths, 0) + 2 * _PAD
    return min(_MAX_WIDTH, max(_MIN_WIDTH, int(widest) + _STRUT_WIDTH))


def _title_row(
    title: str, name: str, badges: Sequence[_Badge], width: int, colors: tuple[str, str]
) -> str:
    """Return the first row of a box; `colors` are those of the title and of the name."""
    available = width - 2 * _PAD - sum(badge.width for badge in badges)
    content = text(title, width=available - _STRUT_WIDTH, color=colors[0], bold=True)
    title_width = width_of(printable(title[:_MAX_WIDTH]), 10, bold=True)
    name_width = available - title_width - _STRUT_WIDTH - 6
    if name and name_width > 16:
        content += "  " + text(name, width=name_width, size=_SMALL, color=colors[1])
    cells = [cell(_PAD, _TITLE_HEIGHT), cell(available, _TITLE_HEIGHT, content)]
    for badge in badges:
        label = text(
            badge.label,
            width=badge.width,
            size=_SMALL,
            color=badge.scheme.on_full,
            bold=True,
            align="CENTER",
        )
        fill = badge.scheme.full
        cells.append(cell(badge.width, _TITLE_HEIGHT, label, align="CENTER", fill=fill))
    cells.append(cell(_PAD, _TITLE_HEIGHT))
    return gap(width, 3) + row(filled(table((row(*cells),))))


def _line_row(line: str, width: int, muted: str) -> str:
    content = text(line, width=width - 2 * _PAD - 3, size=_SMALL, color=muted)
    cells = (
        cell(_PAD, _LINE_HEIGHT),
        cell(width - 2 * _PAD, _LINE_HEIGHT, content),
        cell(_PAD, _LINE_HEIGHT),
    )
    return row(filled(table((row(*cells),))))
