"""Find what gradients reach in a Graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphtool.graph import Graph, Operator

__all__ = ["reached"]


def reached(graph: Graph, outputs: Iterable[str]) -> frozenset[str]:
    """Return the Values that a gradient from the outputs reaches, themselves included.

    It passes from an Operator's results to all that it reads, and stops where a Value says so.
    """
    waiting = [name for name in outputs if not graph.values[name].stop_gradient]
    found = set(waiting)
    while waiting:
        operator = graph.producer(waiting.pop())
        for name in _read_by(graph, operator) if operator else ():
            if name not in found and not graph.values[name].stop_gradient:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _read_by(graph: Graph, operator: Operator) -> Iterator[str]:
    """Yield what an Operator reads, and what its Blocks hand back to it."""
    yield from (name for name in operator.operands if name is not None)
    for path in operator.blocks:
        yield from graph.blocks[path].results
