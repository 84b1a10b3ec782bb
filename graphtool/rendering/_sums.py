"""What blocks cost: parameters and multiply-adds of the Operators they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod

from graphtool.graph import Operator
from graphtool.structure import Structure, kind_of
from graphtool.structure._flow import Step

__all__ = ["Sums", "statistics_of"]


class Sums:
    """Counts each parameter once, where the first block that is asked for reads it."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._behind = _behind(structure)
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
                yield from self._behind.get(name, ())


def _behind(structure: Structure) -> Mapping[str, tuple[str, ...]]:
    """Return the parameters that a weight was made from: itself, or those before a cast."""
    graph = structure.graph
    behind: dict[str, tuple[str, ...]] = {value.name: (value.name,) for value in graph.parameters}
    for operator in graph.operators.values():
        if not operator.results or operator.results[0] in structure.flow.steps:
            continue
        read = (behind.get(name, ()) for name in operator.operands if name is not None)
        sources = tuple(dict.fromkeys(name for names in read for name in names))
        if sources:
            behind.update(dict.fromkeys(operator.results, sources))
    return behind


def statistics_of(operator: Operator) -> Iterator[str]:
    """Yield the running mean and variance: by slot in legacy programs, second and third in PIR."""
    if kind_of(operator) != "batch_norm":
        return
    named = dict(zip(operator.slots, operator.operands, strict=False))
    places = (named.get("Mean"), named.get("Variance")) if named else operator.operands[1:3]
    yield from (name for name in places if name is not None)
