"""The same Operators in other words: other names, another order, fewer facts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphtool.graph import UNKNOWN_DIM, Attribute, Graph, Operator, Origin
from graphtool.ops import kind_of
from graphtool.structure import analyse
from tests.matching.rewrites.rewritten import Rewritten, with_operators

__all__ = ["kind_names", "renamed", "reordered", "with_unknown_sides", "without_modules"]


def renamed(graph: Graph) -> Rewritten:
    """Replace all names: of feeds, parameters, Values, Operators; module and layer paths too."""
    order = list(graph.values)
    random.Random(len(order)).shuffle(order)
    values = {name: f"v{index}" for index, name in enumerate(order)}
    operators = {name: f"o{index}" for index, name in enumerate(graph.operators)}
    return Rewritten(_mapped(graph, values, operators), dict(values))


def _mapped(graph: Graph, values: Mapping[str, str], operators: Mapping[str, str]) -> Graph:
    return replace(
        graph,
        operators={
            operators[name]: replace(
                operator,
                name=operators[name],
                operands=tuple(None if x is None else values[x] for x in operator.operands),
                results=tuple(values[x] for x in operator.results),
                attributes=_anonymous(operator.attributes),
                module=None,
                source=None,
            )
            for name, operator in graph.operators.items()
        },
        values={
            values[name]: replace(
                value,
                name=values[name],
                producer=None if value.producer is None else operators[value.producer],
                aliases=(),
                layer=None,
                layer_outputs=(),
            )
            for name, value in graph.values.items()
        },
        blocks={
            path: replace(
                block,
                owner=None if block.owner is None else operators[block.owner],
                arguments=tuple(values[x] for x in block.arguments),
                operators=tuple(operators[x] for x in block.operators),
                results=tuple(values[x] for x in block.results),
            )
            for path, block in graph.blocks.items()
        },
        feeds=tuple(values[x] for x in graph.feeds),
        fetches=tuple(values[x] for x in graph.fetches),
    )


def _anonymous(attributes: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    return {name: value for name, value in attributes.items() if name not in _NAMING}


_NAMING = frozenset({"name", "parameter_name"})


def without_modules(graph: Graph) -> Rewritten:
    """Drop what tells where in the source a Value was made: `struct_name`, layers, lines."""
    operators = {
        name: replace(operator, module=None, source=None)
        for name, operator in graph.operators.items()
    }
    values = {
        name: replace(value, layer=None, layer_outputs=()) for name, value in graph.values.items()
    }
    return Rewritten(replace(graph, operators=operators, values=values))


def reordered(graph: Graph, seed: int) -> Rewritten:
    """Put the Operators of the top-level Block into a random order that respects what they read."""
    generator = random.Random(seed)
    listed = [graph.operators[name] for name in graph.blocks[""].operators]
    lacking = {operator.name: _made(graph, operator, listed) for operator in listed}
    readers: dict[str, list[Operator]] = {}
    for operator in listed:
        for name in lacking[operator.name]:
            readers.setdefault(name, []).append(operator)
    ready = [operator for operator in listed if not lacking[operator.name]]
    order: list[Operator] = []
    while ready:
        operator = ready.pop(generator.randrange(len(ready)))
        order.append(operator)
        for reader in readers.get(operator.name, ()):
            lacking[reader.name].discard(operator.name)
            if not lacking[reader.name]:
                ready.append(reader)
    assert len(order) == len(listed)
    return Rewritten(with_operators(graph, order))


def _made(graph: Graph, operator: Operator, listed: Sequence[Operator]) -> set[str]:
    """Name the Operators of the top-level Block that have to come before this one."""
    names = [name for name in operator.operands if name is not None]
    for path in operator.blocks:
        names += [x for y in graph.blocks[path].operators for x in graph.operators[y].operands if x]
    top = {one.name for one in listed} if operator.blocks else None
    makers = {graph.values[name].producer for name in names}
    return {name for name in makers if name is not None and (top is None or name in top)}


def with_unknown_sides(graph: Graph) -> Rewritten:
    """Forget H and W of every Value with four dims, as a Program for images of any size has it."""
    axes = analyse(graph).channel_axes
    values = dict(graph.values)
    for name, value in graph.values.items():
        if value.origin is not Origin.PARAMETER and value.shape and len(value.shape) == 4:
            kept = {0, axes.get(name, 1)}
            shape = tuple(
                dim if axis in kept else UNKNOWN_DIM for axis, dim in enumerate(value.shape)
            )
            values[name] = replace(value, shape=shape)
    return Rewritten(replace(graph, values=values))


def kind_names(graph: Graph) -> Mapping[tuple[str, int], str]:
    """Return the main results by what made them: (`conv2d`, 3) is the fourth convolution's.

    Networks that one source built as PIR and as a legacy Program agree in these numbers.
    """
    found: dict[tuple[str, int], str] = {}
    counts: dict[str, int] = {}
    for name in graph.blocks[""].operators:
        operator = graph.operators[name]
        kind = kind_of(operator)
        if operator.results:
            found[kind, counts.get(kind, 0)] = operator.results[0]
            counts[kind] = counts.get(kind, 0) + 1
    return found
