"""Draw Operators: a box for each, frames around networks and inner Blocks, edges with shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

from graphtool.diagnostics import Diagnostic
from graphtool.graph import Graph, Operator, Origin, Value
from graphtool.ops import is_training, kind_of, statistics_of
from graphtool.rendering._cards import findings_label
from graphtool.rendering._labels import (
    FLOW,
    FONT,
    INK,
    MUTED,
    PAIR,
    PAPER,
    SEVERITIES,
    Cell,
    Dot,
    Scheme,
    amount,
    dims,
    gap,
    line,
    new_dot,
    row,
    scheme_of,
    styled,
    table,
    width_of,
)
from graphtool.rendering.scenes import network_name
from graphtool.text import printable

__all__ = [
    "NAME_SLOT",
    "Box",
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
_GRAPH = {"nodesep": "0.25", "ranksep": "0.3"}
_EDGE = {
    "color": FLOW,
    "penwidth": "1.2",
    "arrowsize": "0.6",
    "fontname": FONT,
    "fontsize": "8",
    "fontcolor": MUTED,
}
_PAIR = {"color": PAIR.full, "penwidth": "2.2", "dir": "none", "constraint": "false"}
# Widths and heights in points; the space behind a text is for its strut and for rounding.
_MAX_WIDTH, _MIN_WIDTH, _PAD, _SPACE, _BADGE_PAD, _MIN_NAME = 240, 70, 8, 7, 12, 16
_TITLE, _LINE, _SLOT, _BELOW, _SMALL = 21, 13, 18, 3, 8
_EDGE_LABEL_WIDTH, _FRAME_TITLE_WIDTH = 140, 400
_MAX_LINES, _MAX_CODES = 3, 2
_FINDINGS, _FINDINGS_WIDTH = "findings", 720
# Drawings of equal blocks are shared: a page writes the name of a Value in place of this letter,
# which is printed as `\ue000`, in a cell of this width.
NAME_SLOT, _NAME_WIDTH = "\ue000", 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An Operator, a feed or a Block's argument; `lines` are its key attributes and parameters.

    `block` is the path of the Block that it is in. `values` are its results, the main one first,
    `findings` its diagnostics, the worst first. `hidden` counts the neighbours that a focus leaves
    out; `centre` is True if the focus is on this box.
    """

    key: str
    block: str
    title: str
    values: tuple[str, ...]
    lines: tuple[str, ...]
    ranks: tuple[int, ...]
    is_input: bool = False
    findings: tuple[Diagnostic, ...] = ()
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

    @property
    def nodes(self) -> dict[str, str]:
        """The name of the node of each box, by its key: `t12`, `s0`, `n3`."""
        return {box.key: f"{(self.role or 'n')[0]}{index}" for index, box in enumerate(self.boxes)}


def diagram_of(
    graph: Graph,
    role: str | None = None,
    *,
    ranks: Mapping[str, Sequence[int]] = MappingProxyType({}),
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
        operators = [graph.operators[name] for name in block.operators]
        operators = [operator for operator in operators if _is_drawn(operator)]
        boxes += (
            Box(
                key=_input_key(name),
                block=frame,
                title=name,
                values=(name,),
                lines=(_type_text(graph.values[name]),),
                ranks=tuple(ranks.get(name, ())),
                is_input=True,
            )
            for name in (block.arguments if path else graph.feeds)
        )
        boxes += (
            Box(
                key=operator.name,
                block=frame,
                title=operator.kind,
                values=operator.results,
                lines=tuple(_box_lines(graph, operator)),
                ranks=tuple(sorted({rank for x in operator.results for rank in ranks.get(x, ())})),
                findings=tuple(diagnostics.get(operator.name, ())),
            )
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
        name=network_name(graph),
        boxes=tuple(boxes),
        edges=tuple(dict.fromkeys(edges)),
        frames=tuple(frames),
    )


def _edges(graph: Graph) -> Iterator[Edge]:
    """Yield the edges into each drawn Operator, and into the arguments of its Blocks."""
    for operator in filter(_is_drawn, graph.operators.values()):
        operands = [name for name in operator.operands if name is not None]
        results = [name for path in operator.blocks for name in graph.blocks[path].results]
        # The arguments of Blocks are the last operands, in order.
        passed = [
            (name, _input_key(argument))
            for path in operator.blocks
            for argument, name in zip(
                reversed(graph.blocks[path].arguments), reversed(operands), strict=False
            )
        ]
        inside = {name for name, _ in passed}
        own = [name for name in operands if name not in inside]
        for name, target in (*passed, *((name, operator.name) for name in (*own, *results))):
            label = _type_text(graph.values[name])
            for value in _unpacked(graph, name):
                source = box_key(graph, value)
                if source != target:
                    yield Edge(source, target, label)


def _unpacked(graph: Graph, name: str) -> Iterator[str]:
    """Yield the Values that a Value packs, or itself."""
    pending = [name]
    while pending:
        name = pending.pop()
        producer = graph.producer(name)
        if producer is not None and producer.kind == "combine":
            pending.extend(operand for operand in reversed(producer.operands) if operand)
        else:
            yield name


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
    operands = [name for name in operator.operands if name is not None and name not in statistics]
    # A recurrent Operator reads its weights packed.
    values = [graph.values[each] for name in operands for each in _unpacked(graph, name)]
    shapes = [value.shape or (0,) for value in values if value.origin is Origin.PARAMETER]
    matrices = [dims(shape) for shape in shapes if len(shape) > 1]
    total = sum(map(prod, shapes))
    if total:
        yield " · ".join((*(matrices if len(matrices) == 1 else ()), f"{amount(total)} parameters"))


def _attribute_text(
    operator: Operator, spellings: tuple[str, ...], label: str, default: object
) -> str:
    value = next((operator.attributes[x] for x in spellings if x in operator.attributes), None)
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
    diagrams: Sequence[Diagram],
    pairs: Iterable[Sequence[str]] = (),
    findings: Sequence[Diagnostic] = (),
) -> str:
    """Return the DOT of one network or two, with a list of diagnostics below.

    `pairs` are the keys of paired boxes, the teacher's first; those that aren't drawn are ignored.
    """
    dot = new_dot(_GRAPH, _EDGE)
    nodes = [diagram.nodes for diagram in diagrams]
    for diagram, names in zip(diagrams, nodes, strict=True):
        scheme = scheme_of(diagram.role)
        role = "" if diagram.role is None else f"{diagram.role.upper()} · "
        name = f"cluster_{diagram.role or 'network'}"
        with _frame(dot, name, f"{role}{diagram.name}", 13, scheme.full) as cluster:
            cluster.attr(fillcolor=PAPER, color=scheme.full, penwidth="1.5", margin="14")
            _draw_boxes(cluster, diagram.boxes, diagram.frames, names, scheme)
            _draw_edges(cluster, diagram.edges, names)
    for teacher, student in pairs:
        if teacher in nodes[0] and student in nodes[1]:
            dot.edge(nodes[0][teacher], nodes[1][student], **_PAIR)
    if findings:
        dot.node(_FINDINGS, f"<{findings_label(findings, _FINDINGS_WIDTH)}>")
        for names in nodes:
            for last in list(names.values())[-1:]:
                dot.edge(last, _FINDINGS, style="invis")
    return dot.source


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
    shown = styled(title, _FRAME_TITLE_WIDTH, size, color, bold=True)
    label = f'<<TABLE BORDER="0" CELLPADDING="5"><TR><TD>{shown}</TD></TR></TABLE>>'
    attributes = {"label": label, "labeljust": "l", "style": "rounded,filled"}
    return dot.subgraph(name=name, graph_attr=attributes)


def _draw_edges(dot: Dot, edges: Iterable[Edge], nodes: Mapping[str, str]) -> None:
    for edge in edges:
        shown = styled(edge.label, _EDGE_LABEL_WIDTH, _SMALL, MUTED)
        dot.edge(nodes[edge.source], nodes[edge.target], label=f"<&#160;{shown}&#160;>")


def block_dot(
    boxes: Sequence[Box], inputs: Sequence[Box], edges: Iterable[Edge], frames: Sequence[Frame]
) -> str:
    """Return the DOT of a block without names, which equal blocks share.

    Nodes are `b0`, `b1` … for its boxes, and `i0`, `i1` … for those outside that they read.
    """
    dot = new_dot(_GRAPH, _EDGE)
    nodes = {box.key: f"b{index}" for index, box in enumerate(boxes)}
    nodes |= {box.key: f"i{index}" for index, box in enumerate(inputs)}
    slot = Cell(_NAME_WIDTH + 2 * _PAD, NAME_SLOT, _SMALL, MUTED, align="CENTER")
    label = table(row(line(_SLOT, slot, drop=0)), border=1, color=FLOW, bgcolor=PAPER)
    for box in inputs:
        dot.node(nodes[box.key], f"<{label}>", id=nodes[box.key])
    with dot.subgraph(name="cluster", graph_attr={"peripheries": "0"}) as cluster:
        nameless = (replace(box, values=(NAME_SLOT,)) for box in boxes)
        _draw_boxes(cluster, nameless, frames, nodes, scheme_of(None))
    _draw_edges(dot, edges, nodes)
    return dot.source


def _box_label(box: Box, scheme: Scheme) -> str:
    """Return the label of a box: its type, Value, lines, and badges of pairs and diagnostics."""
    ink, muted = (PAPER, scheme.on_full) if box.is_input else (INK, MUTED)
    marks: list[tuple[str, Scheme]] = []
    if box.ranks:
        marks.append((", ".join(map(str, box.ranks)), PAIR))
    if box.findings:
        codes = list(dict.fromkeys(found.code for found in box.findings))
        label = ", ".join(codes[:_MAX_CODES]) + (" …" if len(codes) > _MAX_CODES else "")
        marks.append((label, SEVERITIES[box.findings[0].severity]))
    plain = scheme.tint if box.centre else PAPER
    fill = scheme.full if box.is_input else marks[-1][1].tint if marks else plain
    badges = [
        Cell(
            _width(label, bold=True) + _BADGE_PAD,
            label,
            _SMALL,
            colors.on_full,
            bold=True,
            align="CENTER",
            bgcolor=colors.full,
        )
        for label, colors in marks
    ]
    name = next((name for name in box.values[:1] if name != box.title), "")
    lines = [*box.lines[:_MAX_LINES], *([f"+ {box.hidden} not shown"] if box.hidden else ())]
    title_width = _width(box.title, 10, bold=True) + _SPACE
    name_width = _NAME_WIDTH if name == NAME_SLOT else _width(name) + _SPACE if name else 0
    badge_width = sum(badge.width for badge in badges)
    head_width = title_width + name_width + badge_width
    widest = max((head_width, *(_width(each) + _SPACE for each in lines)))
    inner = min(_MAX_WIDTH, max(_MIN_WIDTH, widest + 2 * _PAD)) - 2 * _PAD
    title_width = min(title_width, inner - badge_width)
    room = inner - badge_width - title_width
    title = (
        Cell(title_width, box.title, color=ink, bold=True),
        Cell(room, name if room > _MIN_NAME else "", _SMALL, muted),
        *badges,
    )
    pad = Cell(_PAD)
    rows = [row(line(_TITLE, pad, *title, pad))]
    rows += [row(line(_LINE, pad, Cell(inner, each, _SMALL, muted), pad, drop=0)) for each in lines]
    return table(*rows, gap(inner + 2 * _PAD, _BELOW), border=1, color=scheme.full, bgcolor=fill)


def _width(text: str, size: float = _SMALL, *, bold: bool = False) -> int:
    """Return the width of text as it is printed; long text takes time to measure."""
    return int(width_of(printable(text[:_MAX_WIDTH]), size, bold=bold))
