"""Convert a network to the JSON data of a page: its boxes, Values and flows."""

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

_MAX_ATTRIBUTE_LENGTH = 400


@dataclass(frozen=True, slots=True)
class Network:
    """A network with its Diagram; `blocks[card][row]` are indices into `flows`, one per block."""

    graph: Graph
    diagram: Diagram
    flows: tuple[Flow, ...]
    blocks: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(cls, graph: Graph, panel: Panel) -> Network:
        """Build a Flow for each block of a Panel and for each inner Block."""
        diagram = diagram_of(graph, {})
        all_blocks: list[tuple[str, ...]] = []
        indices: list[tuple[tuple[int, ...], ...]] = []
        for card in panel.cards:
            rows: list[tuple[int, ...]] = []
            for row in card.rows:
                row_blocks = tuple(blocks_of(graph, row))
                rows.append(tuple(range(len(all_blocks), len(all_blocks) + len(row_blocks))))
                all_blocks += row_blocks
            indices.append(tuple(rows))
        return cls(graph, diagram, tuple(flows_of(graph, diagram, all_blocks)), tuple(indices))


@dataclass(slots=True)
class _IndexedRows:
    """Rows of data written once per key and referred to by index."""

    write: Callable[[str], object]
    indices: dict[str, int] = field(default_factory=dict[str, int])
    rows: list[object] = field(default_factory=list[object])

    def index(self, key: str) -> int:
        """Return the index of a key's row, writing it at the first call."""
        if key not in self.indices:
            self.indices[key] = len(self.rows)
            self.rows.append(self.write(key))
        return self.indices[key]


def network_data(
    network: Network,
    layouts: Mapping[Outline, int],
    *,
    classes: Mapping[str, int],
    fingerprint: Callable[[str], str] | None,
    extra_values: Iterable[str],
) -> tuple[dict[str, object], Mapping[str, int]]:
    """Return a network's data, and the index of each Value in it.

    `classes` are those of feature maps. `fingerprint` returns that of a Value that a recipe may
    contain. `extra_values` are written besides the Values of boxes.
    """
    graph, boxes = network.graph, list(network.diagram.boxes)
    box_indices = {box.key: index for index, box in enumerate(boxes)}
    producers = {name: index for index, box in enumerate(boxes) for name in box.values}
    extra = dict.fromkeys(extra_values)

    def value_data(name: str) -> object:
        value = graph.values[name]
        data: dict[str, object] = {
            "n": name,
            "s": value.shape,
            "d": value.dtype,
            "o": value.output,
        }
        if name in producers:
            data["b"] = producers[name]
        if value.origin is Origin.PARAMETER:
            data["p"] = 1
        if name in classes:
            data["c"] = classes[name]
        if value.layer is not None:
            data["l"] = value.layer
        if fingerprint is not None and (name in classes or name in extra):
            data["f"] = fingerprint(name)
        return data

    values, attributes = _IndexedRows(value_data), _IndexedRows(lambda text: text.split("\n"))
    boxes_data = [_box_data(graph, box, values, attributes) for box in boxes]
    for name in extra:
        values.index(name)
    titles = {group.key: group.title for group in inner_groups(network.diagram.top)}
    first_inner = len(network.flows) - len(titles)
    data: dict[str, object] = {
        "boxes": boxes_data,
        "attributes": attributes.rows,
        "flows": [_flow_data(flow, box_indices, layouts) for flow in network.flows],
        "regions": {
            path: {"flow": first_inner + index, "title": title}
            for index, (path, title) in enumerate(titles.items())
        },
        "values": values.rows,
    }
    return data, values.indices


def _flow_data(
    flow: Flow, box_indices: Mapping[str, int], layouts: Mapping[Outline, int]
) -> object:
    data: dict[str, object] = {"b": [box_indices[key] for key in flow.boxes]}
    if flow.inputs:
        data["i"] = [box_indices[key] for key in flow.inputs]
    outline = outline_of(flow)
    if outline is not None and outline in layouts:
        data["l"] = layouts[outline]
    return data


def _box_data(graph: Graph, box: Box, values: _IndexedRows, attributes: _IndexedRows) -> object:
    data: dict[str, object] = {"t": box.title, "o": [values.index(name) for name in box.values]}
    if box.kind is BoxKind.INPUT:
        return {**data, "input": 1}
    operator = graph.operators[box.key]
    optional = {
        "l": ", ".join(box.lines),
        "i": [values.index(name) for name in operator.operands if name is not None],
        "m": operator.module,
        "s": operator.source,
        "g": operator.blocks,
    }
    return {
        **data,
        "n": operator.name,
        "k": operator.type,
        "x": operator.index,
        "a": attributes.index("\n".join(_attribute_lines(operator))),
        **{key: value for key, value in optional.items() if value},
    }


def _attribute_lines(operator: Operator) -> Iterator[str]:
    for name, value in operator.attributes.items():
        text = f"{name}: {_attribute_text(value)}".replace("\n", " ")
        yield text if len(text) <= _MAX_ATTRIBUTE_LENGTH else f"{text[:_MAX_ATTRIBUTE_LENGTH]}…"


def _attribute_text(value: Attribute) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_attribute_text, value[:_MAX_ATTRIBUTE_LENGTH]))}]"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value)
