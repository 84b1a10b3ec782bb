"""What blocks cost: parameters and multiply-adds of the Operators they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

from graphtool.graph import Graph, Origin
from graphtool.structure import Step, Structure, statistics_of

__all__ = ["Sums"]


class Sums:
    """Counts each parameter once, where the first block that is asked for reads it."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._counted: set[str] = set()

    def parameters(self, steps: Iterable[Step]) -> int:
        """Return the elements of parameters that steps read and no earlier ones did."""
        total = 0
        for step in steps:
            for name in self._read(step):
                if name not in self._counted:
                    self._counted.add(name)
                    total += prod(self._structure.graph.values[name].shape or (0,))
        return total

    def multiply_adds(self, steps: Iterable[Step]) -> int:
        """Return the multiply-adds of steps for one sample."""
        costs = self._structure.costs.by_operator
        found = (costs.get(step.operator.name) for step in steps)
        return sum(cost.multiply_adds for cost in found if cost is not None)

    def _read(self, step: Step) -> Iterator[str]:
        statistics = set(statistics_of(step.operator))
        for name in step.weights:
            if name not in statistics:
                yield from _behind(self._structure.graph, name)


def _behind(graph: Graph, weight: str) -> Iterator[str]:
    """Yield the parameters that a weight was made from: itself, or those before a cast."""
    pending, seen = [weight], {weight}
    while pending:
        name = pending.pop()
        if graph.values[name].origin is Origin.PARAMETER:
            yield name
            continue
        producer = graph.producer(name)
        for operand in reversed(producer.operands if producer is not None else ()):
            if operand is not None and operand not in seen:
                seen.add(operand)
                pending.append(operand)
