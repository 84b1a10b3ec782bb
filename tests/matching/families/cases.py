"""How a case is written down: two networks, the pairs of an expert, and pairs that are wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.graph import Graph, Value
from graphtool.sources.layers import from_layer

__all__ = ["At", "Case", "Expected", "Net", "Never", "Place", "find_value", "graph_of", "places"]

Feed: TypeAlias = "tuple[int, ...] | tuple[str, tuple[int, ...], str]"


@dataclass(frozen=True, slots=True)
class At:
    """One Value: what a Layer returns, or the `nth` result of an Operator kind made under it.

    `At("layer4.2")` is the (last) Value that this Layer returned, `At("layer4.2", "relu", 0)` the
    first that a `relu` made in it or below it; the Layer `""` is the whole network.
    """

    layer: str
    op: str | None = None
    nth: int = -1

    def __str__(self) -> str:
        return self.layer if self.op is None else f"{self.layer or 'network'}:{self.op}[{self.nth}]"


# Several where experts are divided, or where one only lays out the other's numbers differently.
Place: TypeAlias = "At | tuple[At, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """What makes a network, and its inputs without the batch; `mode` is `eval` or `train`."""

    make: Callable[[], Any]
    inputs: tuple[Feed, ...]
    mode: str = "eval"


@dataclass(frozen=True, slots=True)
class Expected:
    """A pair that an expert would publish, and the reason."""

    kind: str
    teacher: Place
    student: Place
    why: str


@dataclass(frozen=True, slots=True)
class Never:
    """A pair that is wrong, and the reason."""

    teacher: Place
    student: Place
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two networks and what an expert would say; the most important pairs come first.

    Any of the first `lead` pairs may be first in a list that is at most `most` long.
    """

    name: str
    family: str
    teacher: Net
    student: Net
    expected: tuple[Expected, ...]
    never: tuple[Never, ...] = ()
    most: int = 8
    lead: int = 1


@functools.cache
def graph_of(net: Net) -> Graph:
    """Build a network and read it, once in a process."""
    return from_layer(net.make, net.inputs, train=net.mode == "train").graph


def places(place: Place) -> tuple[At, ...]:
    """Return the Values that are all accepted, one or several."""
    return (place,) if isinstance(place, At) else place


def find_value(graph: Graph, at: At) -> str:
    """Return the name of the Value that is meant. Raises LookupError where there is none."""
    found = [value.name for value in _candidates(graph, at)]
    if not -len(found) <= at.nth < len(found):
        raise LookupError(f"`{at}` is not there: the network has {len(found)} such Values")
    return found[at.nth]


def _candidates(graph: Graph, at: At) -> list[Value]:
    values: Mapping[str, Value] = graph.values
    if at.op is None:
        return [value for value in values.values() if at.layer in value.layer_outputs]
    made = [operator.results[0] for operator in graph.operators.values() if operator.kind == at.op]
    return [values[name] for name in made if _is_under(values[name], at.layer)]


def _is_under(value: Value, layer: str) -> bool:
    paths = [value.layer or "", *value.layer_outputs]
    return not layer or any(f"{path}.".startswith(f"{layer}.") for path in paths)
