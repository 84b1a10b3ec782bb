"""The model of a picture of Operators: boxes in nested groups, edges with shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from types import MappingProxyType

from graphtool.diagnostics import Diagnostic, Severity
from graphtool.graph import Block, Graph, Operator, Origin, Value
from graphtool.ops import is_training, kind_of, statistics_of
from graphtool.rendering._text_metrics import amount, dims

__all__ = ["Box", "BoxKind", "Diagram", "Edge", "Group", "box_key", "diagram_of", "neighbourhood"]

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
# Deeper Blocks share one frame.
_MAX_DEPTH = 12
# Attributes of height and width.
_SPATIAL_ATTRIBUTES = frozenset({"kernel", "stride", "pad", "dilation"})


class BoxKind(Enum):
    """What a Box shows."""

    INPUT = "input"
    OPERATOR = "operator"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An Operator, a feed or a Block's argument; `lines` are its key attributes and parameters.

    `values` are its results, the main one first. `codes` are those of its diagnostics, `severity`
    is that of the worst. `hidden` counts the neighbours that a focus leaves out; `centre` is True
    if the focus is on this box.
    """

    key: str
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The boxes of one Block; `key` is its path, empty for the top level."""

    key: str
    title: str
    boxes: tuple[Box, ...]
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """One network's Operators, in program order."""

    top: Group
    edges: tuple[Edge, ...]

    @property
    def boxes(self) -> Iterator[Box]:
        """Yield all boxes, in program order within each Group."""
        pending = [self.top]
        while pending:
            group = pending.pop()
            yield from group.boxes
            pending.extend(reversed(group.groups))


def diagram_of(
    graph: Graph,
    ranks: Mapping[str, tuple[int, ...]],
    diagnostics: Mapping[str, Sequence[Diagnostic]] = MappingProxyType({}),
) -> Diagram:
    """Build the Diagram of a network's forward Operators; `ranks` of pairs are by Value name.

    `diagnostics` are by Operator name, the worst first. Constants, parameters and Operators that
    only pack operands get no box.
    """
    builder = _DiagramBuilder(graph, ranks, diagnostics)
    diagram = Diagram(top=builder.group(""), edges=())
    # A legacy program may hold Blocks that no Operator runs: they are not drawn.
    drawn = {box.key for box in diagram.boxes}
    edges = (edge for edge in builder.edges() if edge.source in drawn and edge.target in drawn)
    return replace(diagram, edges=tuple(dict.fromkeys(edges)))


@dataclass(frozen=True, slots=True)
class _DiagramBuilder:
    graph: Graph
    ranks: Mapping[str, tuple[int, ...]]
    diagnostics: Mapping[str, Sequence[Diagnostic]]

    def group(self, path: str, depth: int = 0) -> Group:
        """Build the Group of a Block and of its Operators' Blocks."""
        title = _block_title(self.graph, self.graph.blocks[path])
        if depth == _MAX_DEPTH:
            return Group(key=path, title=title, boxes=tuple(self._all_boxes(path)))
        inner = tuple(self.group(block, depth + 1) for block in self._blocks_in(path))
        return Group(key=path, title=title, boxes=tuple(self._boxes(path)), groups=inner)

    def _drawn_operators(self, path: str) -> Iterator[Operator]:
        operators = (self.graph.operators[name] for name in self.graph.blocks[path].operators)
        return filter(_is_drawn, operators)

    def _blocks_in(self, path: str) -> list[str]:
        """Return the Blocks that a Block's Operators own; a Block is drawn with its owner alone."""
        return [
            block
            for operator in self._drawn_operators(path)
            for block in operator.blocks
            if self.graph.blocks[block].owner == operator.name
        ]

    def _all_boxes(self, path: str) -> Iterator[Box]:
        pending = [path]
        while pending:
            block = pending.pop()
            yield from self._boxes(block)
            pending.extend(reversed(self._blocks_in(block)))

    def _boxes(self, path: str) -> Iterator[Box]:
        yield from map(self._input, self.graph.blocks[path].arguments if path else self.graph.feeds)
        yield from map(self._box, self._drawn_operators(path))

    def _input(self, name: str) -> Box:
        value = self.graph.values[name]
        return Box(
            key=_input_key(name),
            title=name,
            values=(name,),
            lines=(_type_text(value),),
            kind=BoxKind.INPUT,
            ranks=self.ranks.get(name, ()),
        )

    def _box(self, operator: Operator) -> Box:
        fetched = any(name in self.graph.fetches for name in operator.results)
        ranks = {rank for name in operator.results for rank in self.ranks.get(name, ())}
        diagnostics = self.diagnostics.get(operator.name, ())
        return Box(
            key=operator.name,
            title=operator.kind,
            values=operator.results,
            lines=tuple(_box_lines(self.graph, operator)),
            kind=BoxKind.OUTPUT if fetched else BoxKind.OPERATOR,
            ranks=tuple(sorted(ranks)),
            codes=tuple(dict.fromkeys(diagnostic.code for diagnostic in diagnostics)),
            severity=diagnostics[0].severity if diagnostics else None,
        )

    def edges(self) -> Iterator[Edge]:
        """Yield the edges into each drawn Operator, and into the arguments of its Blocks."""
        for operator in self.graph.operators.values():
            if not _is_drawn(operator) or is_training(operator):
                continue
            operands = [name for name in operator.operands if name is not None]
            block_inputs = self._block_inputs(operator, operands)
            for argument, name in block_inputs:
                yield from self._edges_of(name, _input_key(argument))
            passed = {name for _, name in block_inputs}
            results = [name for path in operator.blocks for name in self.graph.blocks[path].results]
            for name in (*(name for name in operands if name not in passed), *results):
                yield from self._edges_of(name, operator.name)

    def _block_inputs(self, operator: Operator, operands: list[str]) -> list[tuple[str, str]]:
        """Return the arguments of its Blocks with their operands: the last ones, in order."""
        return [
            pair
            for path in operator.blocks
            for pair in zip(
                reversed(self.graph.blocks[path].arguments), reversed(operands), strict=False
            )
        ]

    def _edges_of(self, name: str, target: str) -> Iterator[Edge]:
        value = self.graph.values[name]
        for source in self._sources(name):
            if source != target:
                yield Edge(source, target, _type_text(value))

    def _sources(self, name: str) -> Iterator[str]:
        """Yield the keys of the boxes that a Value comes from: several for a packed Value."""
        pending = [name]
        while pending:
            value = self.graph.values[pending.pop()]
            producer = self.graph.producer(value.name)
            if value.origin in _INPUT_ORIGINS:
                yield _input_key(value.name)
            elif producer is not None and _is_drawn(producer):
                yield producer.name
            elif producer is not None and producer.kind == "combine":
                pending.extend(operand for operand in reversed(producer.operands) if operand)


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


def _block_title(graph: Graph, block: Block) -> str:
    if block.owner is None:
        return ""
    owner = graph.operators[block.owner]
    if kind_of(owner) == "while":
        return f"{owner.name} · body"
    index = owner.blocks.index(block.path)
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
    near = _keys_within(diagram, centres, radius)
    hidden = Counter(
        key
        for edge in diagram.edges
        for key, other in ((edge.source, edge.target), (edge.target, edge.source))
        if other not in near
    )
    edges = (edge for edge in diagram.edges if edge.source in near and edge.target in near)
    return Diagram(top=_filtered(diagram.top, near, hidden, centres), edges=tuple(edges))


def _keys_within(diagram: Diagram, centres: Collection[str], radius: int) -> frozenset[str]:
    neighbours: dict[str, list[str]] = {}
    for edge in diagram.edges:
        neighbours.setdefault(edge.source, []).append(edge.target)
        neighbours.setdefault(edge.target, []).append(edge.source)
    near = frontier = set(centres)
    for _ in range(radius):
        frontier = {other for key in frontier for other in neighbours.get(key, ())} - near
        near = near | frontier
    return frozenset(near)


def _filtered(
    group: Group, near: Collection[str], hidden: Mapping[str, int], centres: Collection[str]
) -> Group:
    boxes = (
        replace(box, hidden=hidden[box.key], centre=box.key in centres)
        for box in group.boxes
        if box.key in near
    )
    groups = (_filtered(inner, near, hidden, centres) for inner in group.groups)
    return replace(
        group,
        boxes=tuple(boxes),
        groups=tuple(inner for inner in groups if inner.boxes or inner.groups),
    )
