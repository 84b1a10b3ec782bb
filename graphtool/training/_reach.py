"""Find the Values that others are computed from, and those that gradients reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from graphtool.graph import Graph, Operator, Value

__all__ = ["ancestors", "reached_by_gradient"]


def reached_by_gradient(graph: Graph, outputs: Iterable[str]) -> frozenset[str]:
    """Return the Values that a gradient from the outputs reaches, outputs included.

    It flows from an Operator's results to its operands, and ends at Values with `stop_gradient`.
    """
    return _ancestors(graph, outputs, lambda value: not value.stop_gradient)


def ancestors(graph: Graph, outputs: Iterable[str]) -> frozenset[str]:
    """Return the Values that the outputs are computed from, outputs included."""
    return _ancestors(graph, outputs, lambda _: True)


def _ancestors(
    graph: Graph, outputs: Iterable[str], is_followed: Callable[[Value], bool]
) -> frozenset[str]:
    pending = [name for name in outputs if is_followed(graph.values[name])]
    found = set(pending)
    while pending:
        operator = graph.producer(pending.pop())
        for name in _inputs(graph, operator) if operator else ():
            if name not in found and is_followed(graph.values[name]):
                found.add(name)
                pending.append(name)
    return frozenset(found)


def _inputs(graph: Graph, operator: Operator) -> Iterator[str]:
    """Yield an Operator's operands, and the results of its Blocks."""
    yield from (name for name in operator.operands if name is not None)
    for path in operator.blocks:
        yield from graph.blocks[path].results
