"""A Step: one forward Operator, with its operands told apart."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.graph import Graph, Operator, Shape
from graphtool.structure._vocabulary import ACTIVATIONS, CONVOLUTIONS, PRODUCTS, kind_of

__all__ = ["Step", "shape_of"]


@dataclass(frozen=True, slots=True)
class Step:
    """A forward Operator of the top-level Block, with its operands told apart.

    `data` depend on the input, `features` among them on a weight too; `weights` on weights alone.
    The last Operator of an activation's formula is of that kind, and reads what the formula does.
    """

    operator: Operator
    kind: str
    features: tuple[str, ...]
    weights: tuple[str, ...]
    data: tuple[str, ...]

    @property
    def result(self) -> str:
        """The main result."""
        return self.operator.results[0]

    @property
    def weighted(self) -> bool:
        """Tell whether it multiplies what depends on the input with a weight."""
        return bool(self.weights and self.data) and (
            self.kind in CONVOLUTIONS or self.kind in PRODUCTS or self.kind == "embedding"
        )

    @property
    def is_formula(self) -> bool:
        """Tell the last Operator of an activation that is written out."""
        return self.kind in ACTIVATIONS and self.kind != kind_of(self.operator)


def shape_of(graph: Graph, name: str) -> Shape:
    """Return the dims of a Value, none where it is no tensor or they are not known."""
    return graph.values[name].shape or ()
