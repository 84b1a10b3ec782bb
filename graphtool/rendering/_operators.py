"""Draw Operators: a box for each, frames around networks and inner Blocks, edges with shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from types import MappingProxyType

from graphtool.diagnostics import Diagnostic, Severity
from graphtool.graph import Graph, Operator, Origin, Value
from graphtool.ops import is_training, kind_of, statistics_of
from graphtool.rendering._cards import Dot, findings_label
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
    dims,
    escaped,
    filled,
    fitted,
    gap,
    row,
    scheme_of,
    table,
    text,
    width_of,
)
from graphtool.rendering.board import Mark
from graphtool.text import printable

__all__ = [
    "NAME_SLOT",
    "Box",
    "BoxKind",
    "Diagram",
    "Edge",
    "Frame",
    "block_dot",
    "box_key",
    "diagram_of",
    "diagrams_dot",
    "neighbourhood",
]

# Attributes that a box shows: their names in Paddle, the label, and the default, which is omitted.
_SHOWN_ATTRIBUTES: tuple[tuple[tuple[str, ...], str, object], ...] = (
    (("ksize", "kernel_size"), "kernel", None),
    (("strides",), "stride", 1),
    (("paddings",), "pad", 0),
    (("dilations",), "dilation", 1),
    (("groups",), "groups", 1),
    (("axis", "perm", "dim"), "axis", -1),
    (("start_axis",), "from axis", None),
    (("transpose_x", "trans_x"), "left transposed", False),
    (("transpose_y", "trans_y"), "right transposed", False),
    (("num", "sections"), "into", None),
    (("shape",), "to", None),
)
_NEVER_DRAWN = frozenset(
    {"feed", "fetch", "yield", "combine", "data", "parameter", "shadow_output"}
)
_INPUT_ORIGINS = frozenset({Origin.FEED, Origin.ARGUMENT})
_MAX_ATTRIBUTES = 4
# Attributes of height and width.
_SPATIAL_ATTRIBUTES = frozenset({"kernel", "stride", "pad", "dilation"})
# Deeper Blocks share one frame.
_MAX_DEPTH = 12
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
# Drawings of equal blocks are shared: a page writes the name of a Value in place of this letter,
# which is printed as `\ue000`, in a cell of this width.
NAME_SLOT, _NAME_WIDTH = "\ue000", 100


class BoxKind(Enum):
    """What a Box shows."""

    INPUT = "input"
    OPERATOR = "operator"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An Operator, a feed or a Block's argument; `lines` are its key attributes and parameters.

    `block` is the path of the Block that it is in. `values` are its results, the main one first.
    `codes` are those of its diagnostics, `severity` is that of the worst. `hidden` counts the
    neighbours that a focus leaves out; `centre` is True if the focus is on this box.
    """

    key: str
    block: str
    title: str
    values: tuple[str, ...]
    lines: tuple[str, ...]
    kind: BoxKind = BoxKind.OPERATOR
    ranks: tuple[int, ...] = ()
    codes: tuple[str, ...] = ()
    severity: Severity | None = None
    hidden: int = 0
    centre: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """A Value between two Boxes; `label` is its shape, and its dtype unless float32."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, slots=True)
class Frame:
    """An inner Block, the one that its frame lies in, and its title."""

    block: str
    around: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """One network's Operators in program order; `frames` are its inner Blocks, outer ones first."""

    role: str | None
    name: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    frames: tuple[Frame, ...]

    def node(self, index: int) -> str:
        """Return the node name and id of a box: `t12`, `s0`, `n3`."""
        return f"{(self.role or 'n')[0]}{index}"


def diagram_of(
    graph: Graph,
    role: str | None = None,
    name: str = "",
    *,
    ranks: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    diagnostics: Mapping[str, Sequence[Diagnostic]] = MappingProxyType({}),
) -> Diagram:
    """Build the Diagram of a network's forward Operators; `ranks` of pairs are by Value name.

    `diagnostics` are by Operator name, the worst first. Constants, parameters and Operators that
    only pack operands get no box.
    """
    boxes: list[Box] = []
    frames: list[Frame] = []
    # A Block, the frame it is drawn in, and its depth. A legacy program may hold Blocks that no
    # Operator runs: they are not drawn.
    pending = [("", "", 0)]
    while pending:
        path, frame, depth = pending.pop()
        block = graph.blocks[path]
        operators = [graph.operators[each] for each in block.operators]
        operators = [operator for operator in operators if _is_drawn(operator)]
        boxes += (
            _input_box(graph.values[value], frame, ranks.get(value, ()))
            for value in (block.arguments if path else graph.feeds)
        )
        boxes += (
            _operator_box(graph, operator, frame, ranks, diagnostics.get(operator.name, ()))
            for operator in operators
        )
        # A Block is drawn with its owner alone.
        inner = [
            (each, operator)
            for operator in operators
            for each in operator.blocks
            if graph.blocks[each].owner == operator.name
        ]
        is_framed = depth < _MAX_DEPTH
        pending += ((each, each if is_framed else frame, depth + 1) for each, _ in inner[::-1])
        if is_framed:
            frames += (Frame(each, frame, _block_title(operator, each)) for each, operator in inner)
    drawn = {box.key for box in boxes}
    edges = (edge for edge in _edges(graph) if edge.source in drawn and edge.target in drawn)
    return Diagram(
        role=role,
        name=name,
        boxes=tuple(boxes),
        edges=tuple(dict.fromkeys(edges)),
        frames=tuple(frames),
    )


def _input_box(value: Value, block: str, ranks: tuple[int, ...]) -> Box:
    return Box(
        key=_input_key(value.name),
        block=block,
        title=value.name,
        values=(value.name,),
        lines=(_type_text(value),),
        kind=BoxKind.INPUT,
        ranks=ranks,
    )


def _operator_box(
    graph: Graph,
    operator: Operator,
    block: str,
    ranks: Mapping[str, tuple[int, ...]],
    diagnostics: Sequence[Diagnostic],
) -> Box:
    fetched = any(name in graph.fetches for name in operator.results)
    return Box(
        key=operator.name,
        block=block,
        title=operator.kind,
        values=operator.results,
        lines=tuple(_box_lines(graph, operator)),
        kind=BoxKind.OUTPUT if fetched else BoxKind.OPERATOR,
        ranks=tuple(sorted({rank for name in operator.results for rank in ranks.get(name, ())})),
        codes=tuple(dict.fromkeys(diagnostic.code for diagnostic in diagnostics)),
        severity=diagnostics[0].severity if diagnostics else None,
    )


def _edges(graph: Graph) -> Iterator[Edge]:
    """Yield the edges into each drawn Operator, and into the arguments of its Blocks."""
    for operator in graph.operators.values():
        if not _is_drawn(operator):
            continue
        operands = [name for name in operator.operands if name is not None]
        # The arguments of Blocks are the last operands, in order.
        passed = [
            pair
            for path in operator.blocks
            for pair in zip(
                reversed(graph.blocks[path].arguments), reversed(operands), strict=False
            )
        ]
        for argument, name in passed:
            yield from _edges_of(graph, name, _input_key(argument))
        names = {name for _, name in passed}
        results = [name for path in operator.blocks for name in graph.blocks[path].results]
        for name in (*(name for name in operands if name not in names), *results):
            yield from _edges_of(graph, name, operator.name)


def _edges_of(graph: Graph, name: str, target: str) -> Iterator[Edge]:
    """Yield the edges of a Value: from several boxes if it packs several Values."""
    label = _type_text(graph.values[name])
    pending = [name]
    while pending:
        value = graph.values[pending.pop()]
        producer = graph.producer(value.name)
        source = None
        if value.origin in _INPUT_ORIGINS:
            source = _input_key(value.name)
        elif producer is not None and _is_drawn(producer):
            source = producer.name
        elif producer is not None and producer.kind == "combine":
            pending.extend(operand for operand in reversed(producer.operands) if operand)
        if source not in (None, target):
            yield Edge(source, target, label)


def _is_drawn(operator: Operator) -> bool:
    computes = bool(operator.blocks) or any(name is not None for name in operator.operands)
    return computes and operator.kind not in _NEVER_DRAWN and not is_training(operator)


def box_key(graph: Graph, value: str) -> str:
    """Return the key of the box that a Value comes from, whether or not it is drawn."""
    producer = graph.producer(value)
    if producer is None or graph.values[value].origin in _INPUT_ORIGINS:
        return _input_key(value)
    return producer.name


def _input_key(name: str) -> str:
    return f"input {name}"


def _block_title(owner: Operator, path: str) -> str:
    if kind_of(owner) == "while":
        return f"{owner.name} · body"
    index = owner.blocks.index(path)
    return f"{owner.name} · {('true', 'false')[index] if len(owner.blocks) == 2 else 'branch'}"


def _type_text(value: Value) -> str:
    """Write a shape, and the dtype unless it is float32."""
    dtype = "" if value.dtype in ("float32", None) else f" {value.dtype}"
    return f"{dims(value.shape) or 'scalar'}{dtype}"


def _box_lines(graph: Graph, operator: Operator) -> Iterator[str]:
    """Yield a line with an Operator's attributes, and one with its parameters."""
    attributes = [
        text
        for spellings, label, default in _SHOWN_ATTRIBUTES
        if (text := _attribute_text(operator, spellings, label, default))
    ]
    if attributes:
        yield ", ".join(attributes[:_MAX_ATTRIBUTES])
    statistics = set(statistics_of(operator))
    weights = [
        graph.values[name]
        for name in operator.operands
        if name is not None and name not in statistics
        if graph.values[name].origin is Origin.PARAMETER
    ]
    total = sum(prod(value.shape or (0,)) for value in weights)
    matrix = next((value.shape for value in weights if len(value.shape or ()) > 1), None)
    if total:
        yield (
            f"{dims(matrix)} · {amount(total)} parameters"
            if matrix
            else f"{amount(total)} parameters"
        )


def _attribute_text(
    operator: Operator, spellings: tuple[str, ...], label: str, default: object
) -> str:
    name = next((name for name in spellings if name in operator.attributes), None)
    value = None if name is None else operator.attributes[name]
    if value is None or value == () or value == default or isinstance(value, bytes):
        return ""
    if isinstance(value, tuple):
        if all(item == default for item in value):
            return ""
        value = "×".join(map(str, value)) if label in _SPATIAL_ATTRIBUTES else list(value)
    return label if value is True else f"{label} {value}"


def neighbourhood(diagram: Diagram, values: AbstractSet[str], radius: int) -> Diagram:
    """Return the part of a Diagram within `radius` edges of the boxes of some Values."""
    centres = {box.key for box in diagram.boxes if not values.isdisjoint(box.values)}
    neighbours: dict[str, list[str]] = {}
    for edge in diagram.edges:
        neighbours.setdefault(edge.source, []).append(edge.target)
        neighbours.setdefault(edge.target, []).append(edge.source)
    near = frontier = set(centres)
    for _ in range(radius):
        frontier = {other for key in frontier for other in neighbours.get(key, ())} - near
        near = near | frontier
    hidden = Counter(key for key in near for other in neighbours.get(key, ()) if other not in near)
    boxes = (
        replace(box, hidden=hidden[box.key], centre=box.key in centres)
        for box in diagram.boxes
        if box.key in near
    )
    edges = (edge for edge in diagram.edges if edge.source in near and edge.target in near)
    return replace(diagram, boxes=tuple(boxes), edges=tuple(edges))


def diagrams_dot(
    diagrams: Sequence[Diagram], pairs: Iterable[tuple[str, str]] = (), marks: Sequence[Mark] = ()
) -> str:
    """Return the DOT of one network or two, with a list of the diagnostics in `marks` below.

    `pairs` are the keys of paired boxes, the teacher's first; those that aren't drawn are ignored.
    """
    dot = _new_dot()
    nodes = [
        {box.key: diagram.node(index) for index, box in enumerate(diagram.boxes)}
        for diagram in diagrams
    ]
    for diagram, names in zip(diagrams, nodes, strict=True):
        _draw_network(dot, diagram, names)
    for teacher, student in pairs:
        if teacher in nodes[0] and student in nodes[1]:
            dot.edge(nodes[0][teacher], nodes[1][student], **_PAIR)
    if marks:
        dot.node(_FINDINGS, f"<{findings_label(marks, _FINDINGS_WIDTH)}>")
        for names in nodes:
            for last in list(names.values())[-1:]:
                dot.edge(last, _FINDINGS, style="invis")
    return dot.source


def _new_dot() -> Dot:
    from graphviz import Digraph

    return Digraph("graphtool", graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)


def _draw_network(dot: Dot, diagram: Diagram, nodes: Mapping[str, str]) -> None:
    scheme = scheme_of(diagram.role)
    role = "" if diagram.role is None else f"{diagram.role.upper()} · "
    name = f"cluster_{diagram.role or 'network'}"
    with _frame(dot, name, f"{role}{diagram.name}", 13, scheme.full) as cluster:
        cluster.attr(fillcolor=PAPER, color=scheme.full, penwidth="1.5", margin="14")
        _draw_boxes(cluster, diagram.boxes, diagram.frames, nodes, scheme)
        for edge in diagram.edges:
            _draw_edge(cluster, nodes[edge.source], nodes[edge.target], edge.label)


def _draw_boxes(
    dot: Dot,
    boxes: Iterable[Box],
    frames: Sequence[Frame],
    nodes: Mapping[str, str],
    scheme: Scheme,
) -> None:
    """Draw boxes, those of an inner Block in its frame."""
    by_block: dict[str, list[Box]] = {}
    for box in boxes:
        by_block.setdefault(box.block, []).append(box)
    # A frame is drawn if a box is in it, or in a frame in it.
    drawn = set(by_block)
    inner: dict[str, list[tuple[int, Frame]]] = {}
    for index, frame in reversed([*enumerate(frames)]):
        if frame.block in drawn:
            drawn.add(frame.around)
            inner.setdefault(frame.around, []).insert(0, (index, frame))

    def draw(dot: Dot, block: str) -> None:
        for box in by_block.get(block, ()):
            dot.node(nodes[box.key], f"<{_box_label(box, scheme)}>", id=nodes[box.key])
        for index, frame in inner.get(block, ()):
            with _frame(dot, f"{dot.name or ''}_{index}", frame.title, 10, INK) as cluster:
                cluster.attr(fillcolor=scheme.tint, color=scheme.full, penwidth="1", margin="10")
                draw(cluster, frame.block)

    draw(dot, "")


def _frame(dot: Dot, name: str, title: str, size: int, color: str) -> Dot:
    """Begin a frame; the table around its title keeps it away from the border."""
    shown = escaped(fitted(title, _FRAME_TITLE_WIDTH, size, bold=True))
    label = f'<FONT POINT-SIZE="{size}" COLOR="{color}"><B>{shown}</B></FONT>'
    label = f'<<TABLE BORDER="0" CELLPADDING="5"><TR><TD>{label}</TD></TR></TABLE>>'
    attributes = {"label": label, "labeljust": "l", "style": "rounded,filled"}
    return dot.subgraph(name=name, graph_attr=attributes)


def _draw_edge(dot: Dot, tail: str, head: str, label: str) -> None:
    shown = escaped(fitted(label, _EDGE_LABEL_WIDTH, 8))
    dot.edge(tail, head, label=f"<&#160;{shown}&#160;>")


def block_dot(
    boxes: Sequence[Box], inputs: Sequence[Box], edges: Iterable[Edge], frames: Sequence[Frame]
) -> str:
    """Return the DOT of a block without names, which equal blocks share.

    Nodes are `b0`, `b1` … for its boxes, and `i0`, `i1` … for those outside that they read.
    """
    dot = _new_dot()
    nodes = {box.key: f"b{index}" for index, box in enumerate(boxes)}
    nodes |= {box.key: f"i{index}" for index, box in enumerate(inputs)}
    for box in inputs:
        content = text(NAME_SLOT, width=_NAME_WIDTH, size=_SMALL, color=MUTED)
        slot = row(cell(_NAME_WIDTH + 2 * _PAD, _TITLE_HEIGHT, content, align="CENTER"))
        dot.node(nodes[box.key], f"<{table((slot,), border=FLOW, fill=PAPER)}>", id=nodes[box.key])
    with dot.subgraph(name="cluster", graph_attr={"peripheries": "0"}) as cluster:
        nameless = (replace(box, values=(NAME_SLOT,)) for box in boxes)
        _draw_boxes(cluster, nameless, frames, nodes, scheme_of(None))
    for edge in edges:
        _draw_edge(dot, nodes[edge.source], nodes[edge.target], edge.label)
    return dot.source


def _box_label(box: Box, scheme: Scheme) -> str:
    """Return the label of a box: its type, Value, lines, and badges of pairs and diagnostics."""
    is_input = box.kind is BoxKind.INPUT
    name = next((name for name in box.values[:1] if name != box.title), "")
    lines = list(box.lines[:_MAX_LINES])
    if box.hidden:
        lines.append(f"+ {box.hidden} not shown")
    badges = _badges(box)
    title_width = width_of(printable(box.title[:_MAX_WIDTH]), 10, bold=True)
    name_width = width_of(printable(name[:_MAX_WIDTH]), _SMALL)
    if name == NAME_SLOT:
        name_width = _NAME_WIDTH
    widest = max(
        title_width + name_width + 8 + sum(badge.width for badge in badges),
        *(width_of(printable(line[:_MAX_WIDTH]), _SMALL) for line in lines),
        0,
    )
    width = min(_MAX_WIDTH, max(_MIN_WIDTH, int(widest + 2 * _PAD) + _STRUT_WIDTH))
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
        badges.append(_Badge(label, SEVERITIES[box.severity]))
    return tuple(badges)


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
