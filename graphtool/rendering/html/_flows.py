"""What lies in a block: its Operators, what they read from outside, and where each is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from graphtool.graph import Graph
from graphtool.rendering._operators import Diagram, Group
from graphtool.rendering.board import Row
from graphtool.rendering.engine import Engine

__all__ = [
    "Flow",
    "Layout",
    "Outline",
    "blocks_of",
    "flows_of",
    "inner_groups",
    "laid_out",
    "outline_of",
]

# Sizes in pixels of the page, which are points of the layout.
_BOX, _INPUT = (214, 38), (150, 18)
_INCH = 72
# More boxes are read as a list rather than as a drawing.
_MOST_BOXES, _MOST_EDGES = 60, 150

# What decides where boxes are drawn: how many boxes and inputs there are, and which of them, by
# place, are joined.
Outline: TypeAlias = tuple[int, int, tuple[tuple[int, int], ...]]


@dataclass(slots=True)
class Flow:
    """Boxes by key in program order, and those outside that they read from.

    `edges` join places: those of `boxes`, then those of `inputs`.
    """

    boxes: tuple[str, ...]
    inputs: list[str] = field(default_factory=list[str])
    edges: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the boxes and inputs of a outline are, by their top left corners, in pixels.

    `paths` are its edges in SVG's words.
    """

    size: tuple[int, int]
    places: tuple[tuple[int, int], ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Members:
    """Which Flow a box is drawn in, at which place; which box holds a box of an inner Block."""

    places: Mapping[str, tuple[int, int]]
    owners: Mapping[str, str]

    def chain(self, key: str) -> Iterator[str]:
        """Yield a box, and those that hold it."""
        held: str | None = key
        while held is not None:
            yield held
            held = self.owners.get(held)


def blocks_of(graph: Graph, row: Row) -> Iterator[tuple[str, ...]]:
    """Yield the Operators of each of the blocks that a row stands for."""
    ends = {graph.values[name].producer for name in row.values[:-1]}
    held: list[str] = []
    for name in row.operators:
        held.append(name)
        if name in ends:
            yield tuple(held)
            held = []
    yield tuple(held)


def flows_of(graph: Graph, diagram: Diagram, blocks: Iterable[Sequence[str]]) -> list[Flow]:
    """Return a Flow for each block, then one for each Group, in order of both."""
    drawn = {box.key for box in diagram.boxes}
    groups = list(inner_groups(diagram.top))
    flows = [Flow(tuple(name for name in block if name in drawn)) for block in blocks]
    flows += [Flow(tuple(box.key for box in group.boxes)) for group in groups]
    owners: dict[str, str] = {}
    for group in groups:
        owner = graph.blocks[group.key].owner
        if owner is not None:
            owners.update((box.key, owner) for box in group.boxes)
    members = _Members(
        {key: (f, place) for f, flow in enumerate(flows) for place, key in enumerate(flow.boxes)},
        owners,
    )
    for edge in diagram.edges:
        _join(flows, members, edge.source, edge.target)
    return flows


def inner_groups(top: Group) -> Iterator[Group]:
    """Yield the Groups inside of a Group, however deep, in program order."""
    pending = list(reversed(top.groups))
    while pending:
        group = pending.pop()
        yield group
        pending.extend(reversed(group.groups))


def _join(flows: Sequence[Flow], members: _Members, source: str, target: str) -> None:
    """Enter an edge: into the innermost Flow that has both ends, and as an input further in."""
    sources = {
        members.places[key][0]: members.places[key][1]
        for key in members.chain(source)
        if key in members.places
    }
    for key in members.chain(target):
        if key not in members.places:
            continue
        index, place = members.places[key]
        flow = flows[index]
        if index in sources:
            if sources[index] != place:
                flow.edges.append((sources[index], place))
            return
        if source not in flow.inputs:
            flow.inputs.append(source)
        flow.edges.append((len(flow.boxes) + flow.inputs.index(source), place))


def outline_of(flow: Flow) -> Outline | None:
    """Return what decides where boxes are drawn, None where there are too many to draw."""
    edges = tuple(sorted(set(flow.edges)))
    if len(flow.boxes) + len(flow.inputs) > _MOST_BOXES or len(edges) > _MOST_EDGES:
        return None
    return len(flow.boxes), len(flow.inputs), edges


def laid_out(outlines: Sequence[Outline], engine: Engine, seconds: float) -> tuple[Layout, ...]:
    """Lay out all outlines in one run of the engine.

    Raises LayoutTimeoutError, and GraphtoolError: GT403 where the engine fails.
    """
    if not outlines:
        return ()
    drawn = engine.draw("\n".join(map(_dot, outlines)), "plain", seconds).decode()
    return tuple(map(_layout, drawn.split("stop\n"), outlines))


def _dot(outline: Outline) -> str:
    boxes, inputs, edges = outline
    lines = [
        "digraph { nodesep=0.2 ranksep=0.22",
        'node [shape=box fixedsize=true label=""] edge [dir=none]',
        *(_node(place, _BOX) for place in range(boxes)),
        *(_node(place, _INPUT) for place in range(boxes, boxes + inputs)),
        *(f"{tail} -> {head}" for tail, head in edges),
        "}",
    ]
    return "\n".join(lines)


def _node(place: int, size: tuple[int, int]) -> str:
    return f"{place} [width={size[0] / _INCH:.5f} height={size[1] / _INCH:.5f}]"


def _layout(plain: str, outline: Outline) -> Layout:
    """Read what the engine says of one outline, in inches from the bottom left."""
    lines = [line.split() for line in plain.splitlines()]
    width, height = (float(side) for side in lines[0][2:4])
    middles = {int(words[1]): words[2:4] for words in lines if words[0] == "node"}
    places: list[tuple[int, int]] = []
    for place in range(outline[0] + outline[1]):
        size = _BOX if place < outline[0] else _INPUT
        x, y = _pixels(middles[place], height)
        places.append((round(x - size[0] / 2), round(y - size[1] / 2)))
    paths = (_path(words, height) for words in lines if words[0] == "edge")
    return Layout((round(width * _INCH), round(height * _INCH)), tuple(places), tuple(paths))


def _pixels(point: Sequence[str], height: float) -> tuple[float, float]:
    return float(point[0]) * _INCH, (height - float(point[1])) * _INCH


def _path(words: Sequence[str], height: float) -> str:
    """Write a spline: its start, then three points to each curve."""
    points = [_pixels(words[at : at + 2], height) for at in range(4, 4 + 2 * int(words[3]), 2)]
    start, *others = (f"{x:.0f},{y:.0f}" for x, y in points)
    return f"M{start}C{' '.join(others)}"
