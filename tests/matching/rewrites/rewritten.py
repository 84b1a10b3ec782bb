"""A Graph that was rewritten, and its Operators in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from graphtool.graph import Graph, Operator, Origin, Value

__all__ = ["Rewritten", "with_operators"]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A Graph and where the Values of the one it was made from are in it.

    A Value keeps its name unless `names` has another; what has None is there no more.
    """

    graph: Graph
    names: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])

    def of(self, name: str) -> str | None:
        """Return the name that a Value of the first Graph has in this one."""
        return self.names.get(name, name)

    def then(self, rewrite: Callable[[Graph], Rewritten]) -> Rewritten:
        """Write this Graph anew as well."""
        second = rewrite(self.graph)
        middle = {name: self.of(name) for name in (*self.names, *second.names)}
        names = {name: None if now is None else second.of(now) for name, now in middle.items()}
        return Rewritten(second.graph, names)


def with_operators(
    graph: Graph, operators: Iterable[Operator], values: Mapping[str, Value] | None = None
) -> Graph:
    """Give the top-level Block these Operators, in this order; they are numbered anew."""
    top = {one.name: replace(one, index=index) for index, one in enumerate(operators)}
    inner = {name: one for name, one in graph.operators.items() if one.block}
    kept = graph.values if values is None else values
    made = {name for one in (*top.values(), *inner.values()) for name in one.results}
    return replace(
        graph,
        operators={**top, **inner},
        values={
            name: value
            for name, value in kept.items()
            if value.origin not in (Origin.OPERATOR, Origin.PARAMETER) or name in made
        },
        blocks={**graph.blocks, "": replace(graph.blocks[""], operators=tuple(top))},
    )
