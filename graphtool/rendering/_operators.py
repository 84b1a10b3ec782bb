"""The model of a picture of Operators, free of DOT: boxes in nested groups, edges with shapes."""

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
from graphtool.rendering._text import amount, dims
from graphtool.structure import is_training, kind_of, statistics_of

__all__ = ["Box", "BoxKind", "Diagram", "Edge", "Group", "box_key", "diagram_of", "neighbourhood"]

# What is worth saying of an Operator beside its type: attributes, what to call them, and the value
# that goes without saying.
_SAID: tuple[tuple[tuple[str, ...], str, object], ...] = (
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
_UNSEEN = frozenset({"feed", "fetch", "yield", "combine", "data", "parameter", "shadow_output"})
_GIVEN = frozenset({Origin.FEED, Origin.ARGUMENT})
_LISTED = 4
# Frames within frames; each takes room.
_DEEPEST = 12


class BoxKind(Enum):
    """What a Box is."""

    INPUT = "input"
    OPERATOR = "operator"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An Operator, a feed or a Block's argument; `lines` are its key attributes and parameters.

    `values` are its results, the main one first; `codes` are those of findings here, of which the
    worst has a `severity`; `hidden` counts neighbours that a focus leaves out, and `centre` says
    that the focus is on it.
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
    """A Value on its way from one Box to another: its shape, its dtype where not float32."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What lies in one Block: `key` is its path, the top level's is empty."""

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
        """All boxes, in program order within each Group."""
        pending = [self.top]
        while pending:
            group = pending.pop()
            yield from group.boxes
            pending.extend(reversed(group.groups))


def diagram_of(
    graph: Graph,
    ranks: Mapping[str, tuple[int, ...]],
    findings: Mapping[str, Sequence[Diagnostic]] = MappingProxyType({}),
) -> Diagram:
    """Draw the forward Operators of a network; `ranks` are those of pairs, by Value name.

    `findings` are by name of the Operator, the worst first. Constants, parameters and what only
    packs operands are no boxes of their own.
    """
    build = _Build(graph, ranks, findings)
    boxes = Diagram(top=build.group(""), edges=())
    # A legacy program may hold Blocks that no Operator runs: they are not drawn.
    drawn = {box.key for box in boxes.boxes}
    edges = (edge for edge in build.edges() if edge.source in drawn and edge.target in drawn)
    return replace(boxes, edges=tuple(dict.fromkeys(edges)))


@dataclass(frozen=True, slots=True)
class _Build:
    graph: Graph
    ranks: Mapping[str, tuple[int, ...]]
    findings: Mapping[str, Sequence[Diagnostic]]

    def group(self, path: str, depth: int = 0) -> Group:
        """Draw a Block, and those of its Operators; the deepest ones in one frame."""
        inner = self._blocks_in(path)
        is_deepest = depth == _DEEPEST
        return Group(
            key=path,
            title=_block_title(self.graph, self.graph.blocks[path]),
            boxes=tuple(self._all_boxes(path) if is_deepest else self._boxes(path)),
            groups=() if is_deepest else tuple(self.group(block, depth + 1) for block in inner),
        )

    def _drawn(self, path: str) -> Iterator[Operator]:
        operators = (self.graph.operators[name] for name in self.graph.blocks[path].operators)
        return filter(_is_drawn, operators)

    def _blocks_in(self, path: str) -> list[str]:
        """List what a Block's Operators run, but for what others ran before them."""
        return [
            block
            for operator in self._drawn(path)
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
        yield from map(self._box, self._drawn(path))

    def _input(self, name: str) -> Box:
        value = self.graph.values[name]
        return Box(
            key=_input_key(name),
            title=name,
            values=(name,),
            lines=(_typed(value),),
            kind=BoxKind.INPUT,
            ranks=self.ranks.get(name, ()),
        )

    def _box(self, operator: Operator) -> Box:
        fetched = any(name in self.graph.fetches for name in operator.results)
        ranks = {rank for name in operator.results for rank in self.ranks.get(name, ())}
        found = self.findings.get(operator.name, ())
        return Box(
            key=operator.name,
            title=operator.kind,
            values=operator.results,
            lines=tuple(_lines(self.graph, operator)),
            kind=BoxKind.OUTPUT if fetched else BoxKind.OPERATOR,
            ranks=tuple(sorted(ranks)),
            codes=tuple(dict.fromkeys(one.code for one in found)),
            severity=found[0].severity if found else None,
        )

    def edges(self) -> Iterator[Edge]:
        """Yield the edges into each drawn Operator, and into the arguments of its Blocks."""
        for operator in self.graph.operators.values():
            if not _is_drawn(operator) or is_training(operator):
                continue
            read = [name for name in operator.operands if name is not None]
            handed = self._handed(operator, read)
            for argument, name in handed:
                yield from self._edge(name, _input_key(argument))
            given = {name for _, name in handed}
            results = [name for path in operator.blocks for name in self.graph.blocks[path].results]
            for name in (*(name for name in read if name not in given), *results):
                yield from self._edge(name, operator.name)

    def _handed(self, operator: Operator, read: list[str]) -> list[tuple[str, str]]:
        """Return which operand each argument of its Blocks is: the last ones, in order."""
        return [
            pair
            for path in operator.blocks
            for pair in zip(
                reversed(self.graph.blocks[path].arguments), reversed(read), strict=False
            )
        ]

    def _edge(self, name: str, target: str) -> Iterator[Edge]:
        value = self.graph.values[name]
        for source in self._sources(name):
            if source != target:
                yield Edge(source, target, _typed(value))

    def _sources(self, name: str) -> Iterator[str]:
        """Yield the boxes that a Value comes from: several where Operators only pack it."""
        pending = [name]
        while pending:
            value = self.graph.values[pending.pop()]
            producer = self.graph.producer(value.name)
            if value.origin in _GIVEN:
                yield _input_key(value.name)
            elif producer is not None and _is_drawn(producer):
                yield producer.name
            elif producer is not None and producer.kind == "combine":
                pending.extend(operand for operand in reversed(producer.operands) if operand)


def _is_drawn(operator: Operator) -> bool:
    works = bool(operator.blocks) or any(name is not None for name in operator.operands)
    return works and operator.kind not in _UNSEEN and not is_training(operator)


def box_key(graph: Graph, value: str) -> str:
    """Return the key of the box that a Value comes from, whether or not it is drawn."""
    producer = graph.producer(value)
    if producer is None or graph.values[value].origin in _GIVEN:
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
    place = owner.blocks.index(block.path)
    return f"{owner.name} · {('true', 'false')[place] if len(owner.blocks) == 2 else 'branch'}"


def _typed(value: Value) -> str:
    """Write a shape, and the dtype where it is not float32."""
    dtype = "" if value.dtype in ("float32", None) else f" {value.dtype}"
    return f"{dims(value.shape) or 'scalar'}{dtype}"


def _lines(graph: Graph, operator: Operator) -> Iterator[str]:
    """Yield what is worth saying of an Operator: its attributes, and its parameters."""
    said = [
        text
        for spellings, word, usual in _SAID
        if (text := _said(operator, spellings, word, usual))
    ]
    if said:
        yield ", ".join(said[:_LISTED])
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


def _said(operator: Operator, spellings: tuple[str, ...], word: str, usual: object) -> str:
    name = next((name for name in spellings if name in operator.attributes), None)
    value = None if name is None else operator.attributes[name]
    if value is None or value == () or value == usual or isinstance(value, bytes):
        return ""
    if isinstance(value, tuple):
        if all(item == usual for item in value):
            return ""
        value = "×".join(map(str, value)) if word in _SIDES else list(value)
    return word if value is True else f"{word} {value}"


_SIDES = frozenset({"kernel", "stride", "pad", "dilation"})


def neighbourhood(diagram: Diagram, centres: AbstractSet[str], radius: int) -> Diagram:
    """Return what lies within so many edges of the boxes that make some Values, either way."""
    middle = {box.key for box in diagram.boxes if not centres.isdisjoint(box.values)}
    near = _near(diagram, middle, radius)
    hidden = Counter(
        key
        for edge in diagram.edges
        for key, other in ((edge.source, edge.target), (edge.target, edge.source))
        if other not in near
    )
    edges = (edge for edge in diagram.edges if edge.source in near and edge.target in near)
    return Diagram(top=_kept(diagram.top, near, hidden, middle), edges=tuple(edges))


def _near(diagram: Diagram, centres: Collection[str], radius: int) -> frozenset[str]:
    beside: dict[str, list[str]] = {}
    for edge in diagram.edges:
        beside.setdefault(edge.source, []).append(edge.target)
        beside.setdefault(edge.target, []).append(edge.source)
    near = front = set(centres)
    for _ in range(radius):
        front = {other for key in front for other in beside.get(key, ())} - near
        near = near | front
    return frozenset(near)


def _kept(
    group: Group, near: Collection[str], hidden: Mapping[str, int], middle: Collection[str]
) -> Group:
    boxes = (
        replace(box, hidden=hidden[box.key], centre=box.key in middle)
        for box in group.boxes
        if box.key in near
    )
    groups = (_kept(inner, near, hidden, middle) for inner in group.groups)
    return replace(
        group,
        boxes=tuple(boxes),
        groups=tuple(inner for inner in groups if inner.boxes or inner.groups),
    )
