"""What depends on the input and on weights, and how deep it lies: one pass in program order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from graphtool.graph import FLOATS, Graph, Operator, Origin
from graphtool.structure._formulas import as_activation
from graphtool.structure._step import Step
from graphtool.structure._vocabulary import is_training, kind_of

__all__ = ["OF_SHAPES", "Flow", "Step", "flow_of"]


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

    def branches(self, step: Step) -> tuple[str, ...]:
        """Return the features that a step reads; PIR packs those of a concat into one `combine`."""
        makers = (self.maker.get(name) for name in step.features)
        packed = [maker.features for maker in makers if maker and maker.kind == "combine"]
        return sum(packed, ()) or step.features

    def past(self, name: str, kinds: Collection[str]) -> Step | None:
        """Return the step that makes a Value, going back over steps of these kinds."""
        step = self.maker.get(name)
        while step is not None and step.kind in kinds and step.features:
            step = self.maker.get(step.features[0])
        return step

    def weighed(self, name: str) -> Step | None:
        """Return the last weighted step that a Value comes from."""
        step = self.maker.get(name)
        while step is not None and not step.weighted:
            step = self.maker.get(step.features[0]) if step.features else None
        return step


def flow_of(graph: Graph) -> Flow:
    """Follow the input and the weights through the forward Operators of the top-level Block."""
    walk = _Walk(graph, *_sources(graph))
    for operator, read in _forward(graph):
        walk.take(operator, read)
    steps = walk.steps
    return Flow(
        graph=graph,
        steps=steps,
        maker={name: step for step in steps.values() for name in step.operator.results},
        depth=walk.depth,
        features=frozenset(walk.features),
        consumers={name: tuple(readers) for name, readers in walk.consumers.items()},
    )


@dataclass(slots=True)
class _Walk:
    graph: Graph
    from_input: set[str]
    from_weight: set[str]
    features: set[str] = field(default_factory=set[str])
    steps: dict[str, Step] = field(default_factory=dict[str, Step])
    depth: dict[str, int] = field(default_factory=dict[str, int])
    consumers: dict[str, list[Step]] = field(default_factory=dict[str, "list[Step]"])

    def take(self, operator: Operator, read: tuple[str, ...]) -> None:
        """Mark what an Operator writes; keep it as a Step where the input reaches it."""
        kind = kind_of(operator)
        weighted = kind not in OF_SHAPES and any(name in self.from_weight for name in read)
        if weighted:
            self.from_weight.update(operator.results)
        if not any(name in self.from_input for name in read):
            return
        self.from_input.update(operator.results)
        step = as_activation(self._step(operator, kind, read), self.steps, self.depth)
        level = 1 + max((self.depth.get(name, 0) for name in read), default=0)
        self.depth.update(dict.fromkeys(operator.results, level))
        self.steps[step.result] = step
        if weighted:
            self.features.update(_feature_results(self.graph, operator))
        for name in step.data:
            self.consumers.setdefault(name, []).append(step)

    def _step(self, operator: Operator, kind: str, read: tuple[str, ...]) -> Step:
        return Step(
            operator=operator,
            kind=kind,
            features=tuple(name for name in read if name in self.features),
            weights=tuple(
                name for name in read if name in self.from_weight and name not in self.from_input
            ),
            data=tuple(name for name in read if name in self.from_input),
        )


def _forward(graph: Graph) -> Iterator[tuple[Operator, tuple[str, ...]]]:
    """Yield forward Operators with what they read; training adds all that follows a gradient."""
    prepared, reads = _prepared(graph), _reads(graph)
    training: set[str] = set()
    for name in graph.blocks[""].operators:
        operator = graph.operators[name]
        read = reads[name]
        if is_training(operator) or name in prepared or training.intersection(read):
            training.update(operator.results)
        elif operator.results:
            yield operator, read


def _prepared(graph: Graph) -> set[str]:
    """Return what is computed for gradients alone: the ones they start from, lists they read."""
    found: set[str] = set()
    for name in reversed(graph.blocks[""].operators):
        operator = graph.operators[name]
        if operator.kind not in _BEFORE_GRADIENTS or is_training(operator):
            continue
        readers = [
            reader for result in operator.results for reader in graph.consumers.get(result, ())
        ]
        if readers and all(is_training(x) or x.name in found for x in readers):
            found.add(name)
    return found


_ONES = frozenset({"full_like", "fill_any_like", "full", "fill_constant", "ones_like"})
_BEFORE_GRADIENTS = _ONES | {"combine", "scale", "assign"}
# What these give depends on the shape of what they read, and so on no weight.
OF_SHAPES = _ONES | {"zeros_like", "shape", "shape64", "numel", "size"}


def _sources(graph: Graph) -> tuple[set[str], set[str]]:
    feeds = {value.name for value in graph.values.values() if value.origin is Origin.FEED}
    return feeds, {value.name for value in graph.parameters}


def _reads(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """Return what each Operator reads, with what its Blocks read from outside of them."""
    found: dict[str, tuple[str, ...]] = {}
    captured: dict[str, tuple[str, ...]] = {}
    for path in _inner_first(graph):
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


def _inner_first(graph: Graph) -> Iterable[str]:
    """List the Blocks, each once and after those inside it: several Operators may run one."""
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


def _feature_results(graph: Graph, operator: Operator) -> Iterable[str]:
    """Yield the results that can be feature maps: floating ones, the first unless all are alike."""
    results = (
        operator.results
        if operator.kind in _MANY_RESULTS or operator.blocks
        else operator.results[:1]
    )
    for result in results:
        value = graph.values[result]
        if value.elements or value.dtype in FLOATS:
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
