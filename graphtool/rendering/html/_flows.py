"""Lay out the Operators of each block and inner Block, with their inputs from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from graphtool.graph import Graph
from graphtool.rendering._operators import Diagram, Group
from graphtool.rendering.board import BlockRow
from graphtool.rendering.engine import Engine

__all__ = [
    "Flow",
    "Layout",
    "Outline",
    "blocks_of",
    "flows_of",
    "inner_groups",
    "lay_out",
    "outline_of",
]

# Sizes of boxes and inputs in pixels of the page, which are points of the layout.
_BOX_SIZE, _INPUT_SIZE = (214, 38), (150, 18)
_PIXELS_PER_INCH = 72
# A flow with more is shown as a list.
_MAX_BOXES, _MAX_EDGES = 60, 150

# The shape of a Flow, which determines its layout: the numbers of boxes and inputs, and the edges
# between their indices.
Outline: TypeAlias = tuple[int, int, tuple[tuple[int, int], ...]]


@dataclass(slots=True)
class Flow:
    """The keys of boxes in program order, and of the outside boxes that they read from.

    `edges` are pairs of indices into `(*boxes, *inputs)`.
    """

    boxes: tuple[str, ...]
    inputs: list[str] = field(default_factory=list[str])
    edges: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


@dataclass(frozen=True, slots=True)
class Layout:
    """The top left corners of the boxes and inputs of an outline, in pixels.

    `paths` are its edges as SVG path data.
    """

    size: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _FlowIndex:
    """The Flow of each box and its index there, and the owner of each box of an inner Block."""

    positions: Mapping[str, tuple[int, int]]
    owners: Mapping[str, str]

    def enclosing(self, key: str) -> Iterator[str]:
        """Yield a box, then its owner, and so on outwards."""
        current: str | None = key
        while current is not None:
            yield current
            current = self.owners.get(current)


def blocks_of(graph: Graph, row: BlockRow) -> Iterator[tuple[str, ...]]:
    """Yield the Operators of each block of a row."""
    last_operators = {graph.values[name].producer for name in row.values[:-1]}
    block: list[str] = []
    for name in row.operators:
        block.append(name)
        if name in last_operators:
            yield tuple(block)
            block = []
    yield tuple(block)


def flows_of(graph: Graph, diagram: Diagram, blocks: Iterable[Sequence[str]]) -> list[Flow]:
    """Return a Flow for each block, then one for each inner Group."""
    drawn = {box.key for box in diagram.boxes}
    groups = list(inner_groups(diagram.top))
    flows = [Flow(tuple(name for name in block if name in drawn)) for block in blocks]
    flows += [Flow(tuple(box.key for box in group.boxes)) for group in groups]
    owners: dict[str, str] = {}
    for group in groups:
        owner = graph.blocks[group.key].owner
        if owner is not None:
            owners.update((box.key, owner) for box in group.boxes)
    index = _FlowIndex(
        {key: (f, box) for f, flow in enumerate(flows) for box, key in enumerate(flow.boxes)},
        owners,
    )
    for edge in diagram.edges:
        _add_edge(flows, index, edge.source, edge.target)
    return flows


def inner_groups(top: Group) -> Iterator[Group]:
    """Yield the Groups nested in a Group, at any depth, in program order."""
    pending = list(reversed(top.groups))
    while pending:
        group = pending.pop()
        yield group
        pending.extend(reversed(group.groups))


def _add_edge(flows: Sequence[Flow], index: _FlowIndex, source: str, target: str) -> None:
    """Add an edge to the innermost Flow that has both ends, and as an input to Flows inside it."""
    source_boxes = dict(
        index.positions[key] for key in index.enclosing(source) if key in index.positions
    )
    for key in index.enclosing(target):
        if key not in index.positions:
            continue
        f, box = index.positions[key]
        flow = flows[f]
        if f in source_boxes:
            if source_boxes[f] != box:
                flow.edges.append((source_boxes[f], box))
            return
        if source not in flow.inputs:
            flow.inputs.append(source)
        flow.edges.append((len(flow.boxes) + flow.inputs.index(source), box))


def outline_of(flow: Flow) -> Outline | None:
    """Return the Outline of a Flow, or None if it is too large to draw."""
    edges = tuple(sorted(set(flow.edges)))
    if len(flow.boxes) + len(flow.inputs) > _MAX_BOXES or len(edges) > _MAX_EDGES:
        return None
    return len(flow.boxes), len(flow.inputs), edges


def lay_out(outlines: Sequence[Outline], engine: Engine, seconds: float) -> tuple[Layout, ...]:
    """Lay out all outlines in one run of the engine.

    Raises LayoutTimeoutError, and GraphtoolError: GT403 if the engine fails.
    """
    if not outlines:
        return ()
    plain = engine.draw("\n".join(map(_outline_dot, outlines)), "plain", seconds).decode()
    return tuple(map(_layout, plain.split("stop\n"), outlines))


def _outline_dot(outline: Outline) -> str:
    boxes, inputs, edges = outline
    lines = [
        "digraph { nodesep=0.2 ranksep=0.22",
        'node [shape=box fixedsize=true label=""] edge [dir=none]',
        *(_node_dot(node, _BOX_SIZE) for node in range(boxes)),
        *(_node_dot(node, _INPUT_SIZE) for node in range(boxes, boxes + inputs)),
        *(f"{tail} -> {head}" for tail, head in edges),
        "}",
    ]
    return "\n".join(lines)


def _node_dot(node: int, size: tuple[int, int]) -> str:
    width, height = size[0] / _PIXELS_PER_INCH, size[1] / _PIXELS_PER_INCH
    return f"{node} [width={width:.5f} height={height:.5f}]"


def _layout(plain: str, outline: Outline) -> Layout:
    """Parse the engine's output for one outline, in inches from the bottom left."""
    lines = [line.split() for line in plain.splitlines()]
    width, height = (float(side) for side in lines[0][2:4])
    centres = {int(words[1]): words[2:4] for words in lines if words[0] == "node"}
    corners: list[tuple[int, int]] = []
    for node in range(outline[0] + outline[1]):
        size = _BOX_SIZE if node < outline[0] else _INPUT_SIZE
        x, y = _to_pixels(centres[node], height)
        corners.append((round(x - size[0] / 2), round(y - size[1] / 2)))
    paths = (_svg_path(words, height) for words in lines if words[0] == "edge")
    size = round(width * _PIXELS_PER_INCH), round(height * _PIXELS_PER_INCH)
    return Layout(size, tuple(corners), tuple(paths))


def _to_pixels(point: Sequence[str], height: float) -> tuple[float, float]:
    return float(point[0]) * _PIXELS_PER_INCH, (height - float(point[1])) * _PIXELS_PER_INCH


def _svg_path(words: Sequence[str], height: float) -> str:
    """Convert a spline to SVG path data: its start, then three points per curve."""
    points = [_to_pixels(words[at : at + 2], height) for at in range(4, 4 + 2 * int(words[3]), 2)]
    start, *others = (f"{x:.0f},{y:.0f}" for x, y in points)
    return f"M{start}C{' '.join(others)}"
