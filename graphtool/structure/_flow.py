"""What depends on the input and on weights, and how deep it lies: one pass in program order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from graphtool.graph import Graph, Operator, Origin
from graphtool.structure._vocabulary import CONVOLUTIONS, PRODUCTS, is_training, kind_of

__all__ = ["Flow", "Step", "flow_of"]

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True, slots=True)
class Step:
    """A forward Operator of the top-level Block, with its operands told apart.

    `data` depend on the input, `features` among them on a weight too; `weights` on weights alone.
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


@dataclass(frozen=True, slots=True)
class Flow:
    """The forward part of a Graph's top-level Block.

    `steps` are the Operators that the input reaches, by name of their main result, in program
    order; `maker` has them by the name of every result. `depth` is the longest path to a Value, in
    Operators; it doesn't depend on the order in which independent Operators stand.
    """

    graph: Graph
    steps: Mapping[str, Step]
    maker: Mapping[str, Step]
    depth: Mapping[str, int]
    features: frozenset[str]
    consumers: Mapping[str, tuple[Step, ...]]


def flow_of(graph: Graph) -> Flow:
    """Follow the input and the weights through the forward Operators of the top-level Block."""
    from_input, from_weight = _sources(graph)
    steps: dict[str, Step] = {}
    depth: dict[str, int] = {}
    features: set[str] = set()
    consumers: dict[str, list[Step]] = {}
    for operator, read in _forward(graph):
        reached = any(operand in from_input for operand in read)
        weighted = any(operand in from_weight for operand in read)
        if weighted:
            from_weight.update(operator.results)
        if not reached:
            continue
        from_input.update(operator.results)
        step = Step(
            operator=operator,
            kind=kind_of(operator),
            features=tuple(operand for operand in read if operand in features),
            weights=tuple(x for x in read if x in from_weight and x not in from_input),
            data=tuple(operand for operand in read if operand in from_input),
        )
        level = 1 + max((depth.get(operand, 0) for operand in read), default=0)
        depth.update(dict.fromkeys(operator.results, level))
        steps[step.result] = step
        if weighted:
            features.update(_feature_results(graph, operator))
        for operand in step.data:
            consumers.setdefault(operand, []).append(step)
    return Flow(
        graph=graph,
        steps=steps,
        maker={name: step for step in steps.values() for name in step.operator.results},
        depth=depth,
        features=frozenset(features),
        consumers={name: tuple(readers) for name, readers in consumers.items()},
    )


def _forward(graph: Graph) -> Iterator[tuple[Operator, tuple[str, ...]]]:
    """Yield forward Operators with what they read; training adds all that follows a gradient."""
    training: set[str] = set()
    for name in graph.blocks[""].operators:
        operator = graph.operators[name]
        read = _read_names(graph, operator)
        if (
            is_training(operator)
            or _seeds_gradients(graph, operator)
            or training.intersection(read)
        ):
            training.update(operator.results)
        elif operator.results:
            yield operator, read


def _seeds_gradients(graph: Graph, operator: Operator) -> bool:
    """Tell whether this is the gradient of the loss by itself: ones that only gradients read."""
    readers = graph.consumers.get(operator.results[0], ()) if operator.results else ()
    return operator.kind in _ONES and bool(readers) and all(map(is_training, readers))


_ONES = frozenset({"full_like", "fill_any_like", "full", "fill_constant", "ones_like"})


def _sources(graph: Graph) -> tuple[set[str], set[str]]:
    feeds = {value.name for value in graph.values.values() if value.origin is Origin.FEED}
    return feeds, {value.name for value in graph.parameters}


def _read_names(graph: Graph, operator: Operator) -> tuple[str, ...]:
    """Return what an Operator reads, with what its Blocks read from outside of them."""
    names = dict.fromkeys(operand for operand in operator.operands if operand is not None)
    for path in operator.blocks:
        names.update(dict.fromkeys(_captured(graph, path)))
    return tuple(names)


def _captured(graph: Graph, path: str) -> Iterable[str]:
    block = graph.blocks[path]
    local = set(block.arguments)
    for name in block.operators:
        operator = graph.operators[name]
        yield from (operand for operand in _read_names(graph, operator) if operand not in local)
        local.update(operator.results)


def _feature_results(graph: Graph, operator: Operator) -> Iterable[str]:
    """Yield the results that can be feature maps: floating ones, the first unless all are alike."""
    results = (
        operator.results
        if operator.kind in _MANY_RESULTS or operator.blocks
        else operator.results[:1]
    )
    for result in results:
        value = graph.values[result]
        if value.elements or value.dtype in _FLOATS:
            yield result


# All results of these are alike, or (a loss) the second is what matters.
_MANY_RESULTS = frozenset(
    {
        "split",
        "split_with_num",
        "unbind",
        "unstack",
        "cross_entropy_with_softmax",
        "softmax_with_cross_entropy",
    }
)
