"""Data flow: what depends on the input and on weights, and at which depth."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import Graph, Operator, Origin, Shape
from graphtool.ops import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    JOINS,
    PRODUCTS,
    is_training,
    kind_of,
)

__all__ = ["SHAPE_ONLY", "Flow", "Step", "flow_of", "shape_of"]

_FILLS = frozenset({"full_like", "fill_any_like", "full", "fill_constant", "ones_like"})
# They read the shape of their operand only, so their results depend on no weight.
SHAPE_ONLY = _FILLS | {"zeros_like", "shape", "shape64", "numel", "size"}
_GRADIENT_SEEDS = _FILLS | {"combine", "scale", "assign"}
# Their results are all alike, or (a loss) the second is the one that matters.
_MULTI_RESULT = frozenset(
    {
        "split",
        "split_with_num",
        "unbind",
        "unstack",
        "cross_entropy_with_softmax",
        "softmax_with_cross_entropy",
    }
)
# Element-wise operators that formulas of activations are made of.
_POINTWISE = ACTIVATIONS | IDENTITIES | {"add", "subtract", "multiply", "divide", "pow", "erf"}
# The longest is gelu by tanh: x³ as two products, two sums, two factors, tanh.
_LONGEST_FORMULA = 12
# The activation x · f(x), by a kind that f contains.
_ACTIVATION_BY_PART: Mapping[str, str] = {
    "softplus": "mish",
    "erf": "gelu",
    "tanh": "gelu",
    "sigmoid": "swish",
    "relu6": "hardswish",
    "hardsigmoid": "hardswish",
    "clip": "hardswish",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A forward Operator of the top-level Block, its operands sorted by what they depend on.

    `data` depend on the input; `features` are those of them that depend on a weight too; `weights`
    depend on weights alone. Where an activation is decomposed, such as `x · sigmoid(x)`, its last
    Operator has the activation's kind and reads x.
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
    def is_weighted(self) -> bool:
        """Return whether it multiplies its input with a weight."""
        return bool(self.weights and self.data) and (
            self.kind in CONVOLUTIONS or self.kind in PRODUCTS or self.kind == "embedding"
        )

    @property
    def is_formula(self) -> bool:
        """Return whether it is the last Operator of a decomposed activation."""
        return self.kind in ACTIVATIONS and self.kind != kind_of(self.operator)


@dataclass(frozen=True, slots=True)
class Flow:
    """The forward part of a Graph's top-level Block.

    `steps` are the Operators that depend on the input, by main result, in program order; `maker`
    has the step that produces each Value, by any result. `consumers` are the steps that read a
    Value. `features` depend on the input and on a weight. `depth` is the longest path to a Value,
    in Operators; the order of independent Operators doesn't change it.
    """

    graph: Graph
    steps: Mapping[str, Step]
    maker: Mapping[str, Step]
    depth: Mapping[str, int]
    features: frozenset[str]
    consumers: Mapping[str, tuple[Step, ...]]

    def branches(self, step: Step) -> tuple[str, ...]:
        """Return the features that a step reads; for PIR's concat, those packed by `combine`."""
        producers = (self.maker.get(name) for name in step.features)
        packed = [one.features for one in producers if one and one.kind == "combine"]
        return sum(packed, ()) or step.features

    def joins(self, step: Step) -> bool:
        """Return whether a step joins several branches."""
        return step.kind in JOINS and len(self.branches(step)) > 1

    def producer(self, name: str, *, skip: Collection[str]) -> Step | None:
        """Return the step that produces a Value, skipping back over steps of these kinds."""
        step = self.maker.get(name)
        while step is not None and step.kind in skip and step.features:
            step = self.maker.get(step.features[0])
        return step

    def last_weighted(self, name: str) -> Step | None:
        """Return the last weighted step on the way to a Value, following first operands."""
        step = self.maker.get(name)
        while step is not None and not step.is_weighted:
            step = self.maker.get(step.features[0]) if step.features else None
        return step


def shape_of(graph: Graph, name: str) -> Shape:
    """Return the dims of a Value, () where they are unknown or it is not a tensor."""
    return graph.values[name].shape or ()


def flow_of(graph: Graph) -> Flow:
    """Propagate the input and the weights through the forward Operators of the top-level Block."""
    from_input = {value.name for value in graph.values.values() if value.origin is Origin.FEED}
    from_weight = {value.name for value in graph.parameters}
    features, steps, depth = set[str](), dict[str, Step](), dict[str, int]()
    consumers: dict[str, list[Step]] = {}
    for operator, read in _forward_operators(graph):
        kind, results = kind_of(operator), operator.results
        depends_on_weight = kind not in SHAPE_ONLY and any(name in from_weight for name in read)
        if depends_on_weight:
            from_weight.update(results)
        if not any(name in from_input for name in read):
            continue
        from_input.update(results)
        step = Step(
            operator=operator,
            kind=kind,
            features=tuple(name for name in read if name in features),
            weights=tuple(name for name in read if name in from_weight and name not in from_input),
            data=tuple(name for name in read if name in from_input),
        )
        step = _as_activation(step, steps, depth)
        level = 1 + max((depth.get(name, 0) for name in read), default=0)
        depth.update(dict.fromkeys(results, level))
        steps[step.result] = step
        if depends_on_weight:
            # Of several results, mostly the first alone can be a feature map.
            has_many = operator.kind in _MULTI_RESULT or operator.blocks
            values = (graph.values[name] for name in (results if has_many else results[:1]))
            features.update(x.name for x in values if x.elements or x.dtype in FLOAT_DTYPES)
        for name in step.data:
            consumers.setdefault(name, []).append(step)
    return Flow(
        graph=graph,
        steps=steps,
        maker={name: step for step in steps.values() for name in step.operator.results},
        depth=depth,
        features=frozenset(features),
        consumers={name: tuple(readers) for name, readers in consumers.items()},
    )


def _as_activation(step: Step, steps: Mapping[str, Step], depth: Mapping[str, int]) -> Step:
    """Return the last step of a decomposed activation as that activation, others unchanged.

    `steps` are those before it, by result. The activation's only feature is x. A factor after the
    product, as in `x · relu6(x + 3) / 6`, belongs to the activation too.
    """
    before = steps.get(step.features[0]) if len(step.features) == 1 else None
    if step.kind == "scale" and before is not None and before.is_formula:
        return replace(step, kind=before.kind, features=before.features)
    if step.kind != "multiply" or step.weights or len(step.features) != 2:
        return step
    # Both factors have to lead back to the same x.
    parts, pending = set[str](), set(step.features)
    for _ in range(_LONGEST_FORMULA):
        if len(pending) == 1:
            break
        name = max(pending, key=lambda one: (depth.get(one, 0), one))
        inner = steps.get(name)
        if inner is None or inner.weights or inner.kind not in _POINTWISE:
            return step
        parts.add(inner.kind)
        pending = pending - {name} | set(inner.data)
    kind = next((kind for part, kind in _ACTIVATION_BY_PART.items() if part in parts), None)
    if kind is None or len(pending) > 1:
        return step
    return replace(step, kind=kind, features=tuple(pending))


def _forward_operators(graph: Graph) -> Iterator[tuple[Operator, tuple[str, ...]]]:
    """Yield each forward Operator with what it reads; whatever reads a gradient is left out."""
    gradient_seeds, reads = _gradient_seeds(graph), _reads(graph)
    training: set[str] = set()
    for name in graph.blocks[""].operators:
        operator = graph.operators[name]
        read = reads[name]
        if is_training(operator) or name in gradient_seeds or training.intersection(read):
            training.update(operator.results)
        elif operator.results:
            yield operator, read


def _gradient_seeds(graph: Graph) -> set[str]:
    """Return the Operators that only gradients read: initial gradients and packed operands."""
    found: set[str] = set()
    for name in reversed(graph.blocks[""].operators):
        operator = graph.operators[name]
        if operator.kind not in _GRADIENT_SEEDS or is_training(operator):
            continue
        readers = [
            reader for result in operator.results for reader in graph.consumers.get(result, ())
        ]
        if readers and all(is_training(x) or x.name in found for x in readers):
            found.add(name)
    return found


def _reads(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """Return the operands of each Operator, and the outer Values that its Blocks capture."""
    found: dict[str, tuple[str, ...]] = {}
    captured: dict[str, tuple[str, ...]] = {}
    for path in _blocks_in_post_order(graph):
        block = graph.blocks[path]
        local, outside = set(block.arguments), dict[str, None]()
        for name in block.operators:
            operator = graph.operators[name]
            read = dict.fromkeys(operand for operand in operator.operands if operand is not None)
            for inner in operator.blocks:
                read.update(dict.fromkeys(captured[inner]))
            found[name] = tuple(read)
            outside.update((operand, None) for operand in read if operand not in local)
            local.update(operator.results)
        captured[path] = tuple(outside)
    return found


def _blocks_in_post_order(graph: Graph) -> Iterable[str]:
    """List each Block once, after the Blocks inside it: several Operators may share a Block."""
    finished: dict[str, None] = {}
    entered, pending = set[str](), [""]
    while pending:
        path = pending[-1]
        if path in entered:
            finished[pending.pop()] = None
            continue
        entered.add(path)
        inner = (graph.operators[name].blocks for name in graph.blocks[path].operators)
        pending.extend(block for blocks in inner for block in blocks if block not in entered)
    return finished
