"""A network as the plain data of a page: its boxes, their Values, and what lies in each block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from graphtool.graph import Attribute, Graph, Operator, Origin
from graphtool.rendering._operators import Box, BoxKind, Diagram, diagram_of
from graphtool.rendering.board import Panel
from graphtool.rendering.html._flows import (
    Flow,
    Outline,
    blocks_of,
    flows_of,
    inner_groups,
    outline_of,
)

__all__ = ["Network", "network_data"]

_LONGEST_ATTRIBUTE = 400


@dataclass(frozen=True, slots=True)
class Network:
    """A network, drawn; `blocks[card][row]` are places in `flows`, one for each block."""

    graph: Graph
    diagram: Diagram
    flows: tuple[Flow, ...]
    blocks: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(cls, graph: Graph, panel: Panel) -> Network:
        """Find out what lies in each block of a Panel."""
        diagram = diagram_of(graph, {})
        found: list[tuple[str, ...]] = []
        blocks: list[tuple[tuple[int, ...], ...]] = []
        for card in panel.cards:
            rows: list[tuple[int, ...]] = []
            for row in card.rows:
                held = tuple(blocks_of(graph, row))
                rows.append(tuple(range(len(found), len(found) + len(held))))
                found += held
            blocks.append(tuple(rows))
        return cls(graph, diagram, tuple(flows_of(graph, diagram, found)), tuple(blocks))


@dataclass(slots=True)
class _Table:
    """Things that are written once, each known by its place."""

    write: Callable[[str], object]
    places: dict[str, int] = field(default_factory=dict[str, int])
    rows: list[object] = field(default_factory=list[object])

    def place(self, key: str) -> int:
        if key not in self.places:
            self.places[key] = len(self.rows)
            self.rows.append(self.write(key))
        return self.places[key]


def network_data(
    network: Network,
    layouts: Mapping[Outline, int],
    *,
    classes: Mapping[str, int],
    mark: Callable[[str], str] | None,
    also: Iterable[str],
) -> tuple[dict[str, object], Mapping[str, int]]:
    """Return a network's data, and the place of each Value in it.

    `classes` are those of feature maps, `mark` writes the fingerprint of a Value that can be in a
    recipe, `also` are Values wanted besides those that boxes read and write.
    """
    graph, boxes = network.graph, list(network.diagram.boxes)
    places = {box.key: place for place, box in enumerate(boxes)}
    makers = {name: place for place, box in enumerate(boxes) for name in box.values}
    wanted = dict.fromkeys(also)

    def value(name: str) -> object:
        held = graph.values[name]
        data: dict[str, object] = {"n": name, "s": held.shape, "d": held.dtype, "o": held.output}
        if name in makers:
            data["b"] = makers[name]
        if held.origin is Origin.PARAMETER:
            data["p"] = 1
        if name in classes:
            data["c"] = classes[name]
        if held.layer is not None:
            data["l"] = held.layer
        if mark is not None and (name in classes or name in wanted):
            data["f"] = mark(name)
        return data

    values, attributes = _Table(value), _Table(lambda text: text.split("\n"))
    drawn = [_box(graph, box, values, attributes) for box in boxes]
    for name in wanted:
        values.place(name)
    titles = {group.key: group.title for group in inner_groups(network.diagram.top)}
    inner = len(network.flows) - len(titles)
    data: dict[str, object] = {
        "boxes": drawn,
        "attributes": attributes.rows,
        "flows": [_flow(flow, places, layouts) for flow in network.flows],
        "regions": {
            path: {"flow": inner + index, "title": title}
            for index, (path, title) in enumerate(titles.items())
        },
        "values": values.rows,
    }
    return data, values.places


def _flow(flow: Flow, places: Mapping[str, int], layouts: Mapping[Outline, int]) -> object:
    data: dict[str, object] = {"b": [places[key] for key in flow.boxes]}
    if flow.inputs:
        data["i"] = [places[key] for key in flow.inputs]
    outline = outline_of(flow)
    if outline is not None and outline in layouts:
        data["l"] = layouts[outline]
    return data


def _box(graph: Graph, box: Box, values: _Table, attributes: _Table) -> object:
    data: dict[str, object] = {"t": box.title, "o": [values.place(name) for name in box.values]}
    if box.kind is BoxKind.INPUT:
        return {**data, "input": 1}
    operator = graph.operators[box.key]
    optional = {
        "l": ", ".join(box.lines),
        "i": [values.place(name) for name in operator.operands if name is not None],
        "m": operator.module,
        "s": operator.source,
        "g": operator.blocks,
    }
    return {
        **data,
        "n": operator.name,
        "k": operator.type,
        "x": operator.index,
        "a": attributes.place("\n".join(_attributes(operator))),
        **{key: held for key, held in optional.items() if held},
    }


def _attributes(operator: Operator) -> Iterator[str]:
    for name, value in operator.attributes.items():
        text = f"{name}: {_attribute(value)}".replace("\n", " ")
        yield text if len(text) <= _LONGEST_ATTRIBUTE else f"{text[:_LONGEST_ATTRIBUTE]}…"


def _attribute(value: Attribute) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_attribute, value[:_LONGEST_ATTRIBUTE]))}]"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value)
