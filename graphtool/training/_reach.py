"""Find what Values of a Graph are computed from, and what gradients reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from graphtool.graph import Graph, Operator, Value

__all__ = ["computed_from", "reached"]


def reached(graph: Graph, outputs: Iterable[str]) -> frozenset[str]:
    """Return the Values that a gradient from the outputs reaches, themselves included.

    It passes from an Operator's results to all that it reads, and stops where a Value says so.
    """
    return _walked(graph, outputs, lambda value: not value.stop_gradient)


def computed_from(graph: Graph, outputs: Iterable[str]) -> frozenset[str]:
    """Return the Values that the outputs are computed from, themselves included."""
    return _walked(graph, outputs, lambda _: True)


def _walked(
    graph: Graph, outputs: Iterable[str], passes: Callable[[Value], bool]
) -> frozenset[str]:
    waiting = [name for name in outputs if passes(graph.values[name])]
    found = set(waiting)
    while waiting:
        operator = graph.producer(waiting.pop())
        for name in _read_by(graph, operator) if operator else ():
            if name not in found and passes(graph.values[name]):
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _read_by(graph: Graph, operator: Operator) -> Iterator[str]:
    """Yield what an Operator reads, and what its Blocks hand back to it."""
    yield from (name for name in operator.operands if name is not None)
    for path in operator.blocks:
        yield from graph.blocks[path].results
