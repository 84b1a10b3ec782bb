"""Blocks: which Operators make each, and its name, by the user's class or else its Operators."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from graphtool.graph import Graph
from graphtool.ops import (
    ACTIVATIONS,
    CONVOLUTIONS,
    JOINS,
    NORMS,
    POOLS,
    PRODUCTS,
    REDUCTIONS,
    RESIZES,
)
from graphtool.structure._dominators import dependant_counts
from graphtool.structure._flow import Flow, Step, shape_of
from graphtool.structure._structure import Structure

__all__ = ["BlockPartition", "block_names", "blocks_of", "layer_name", "module_class"]

_COUNTER = re.compile(r"_\d+$")
_WORD = re.compile(r"[A-Z]+\d*(?![a-z])|[A-Z]?[a-z]+(?:\dD)?\d*|\d+")
# Classes of modules that only contain others.
_CONTAINERS = frozenset({"Sequential", "LayerList", "LayerDict", "TransformerEncoder"})
# Joins that have one operand in PIR, packed by `combine`.
_PACKED_JOINS = frozenset({"concat", "stack"})
_NAME_BY_KIND = {
    "mean": "Mean",
    "cross_entropy_with_softmax": "Cross entropy",
    "softmax_with_cross_entropy": "Cross entropy",
    "if": "Condition",
    "conditional_block": "Condition",
    "while": "Loop",
    "rnn": "Recurrent layer",
    "flash_attn": "Attention",
}


@dataclass(slots=True)
class BlockPartition:
    """Partitions steps into blocks: each goes to the first block that depends on it.

    `assigned` are the main results of the assigned steps.
    """

    flow: Flow
    order: Mapping[str, int]
    assigned: set[str] = field(default_factory=set[str])

    @classmethod
    def empty(cls, flow: Flow) -> BlockPartition:
        """Start with no step assigned."""
        return cls(flow, {name: position for position, name in enumerate(flow.steps)})

    def assign(self, end: str) -> tuple[Step, ...]:
        """Assign the unassigned steps that a Value depends on, and return them."""
        found = self.unassigned(end)
        self.assigned.update(step.result for step in found)
        return found

    def unassigned(self, end: str) -> tuple[Step, ...]:
        """Return the unassigned steps that a Value depends on, in program order."""
        pending, found = [end], dict[str, Step]()
        while pending:
            step = self.flow.maker.get(pending.pop())
            if step is None or step.result in self.assigned or step.result in found:
                continue
            found[step.result] = step
            pending.extend(step.data)
        return tuple(found[name] for name in sorted(found, key=self.order.__getitem__))

    def dependant_counts(self, ends: Sequence[str]) -> Mapping[str, int]:
        """Count how many of these Values depend on each unassigned step."""
        return dependant_counts(self.flow, ends, stop=self.assigned)


def blocks_of(structure: Structure) -> Mapping[str, tuple[Step, ...]]:
    """Return the steps of each block of the stages and each layer of the encoder, by its output."""
    layers = [name for encoder in structure.encoders for name in encoder.hidden_states]
    ends = {name for part in structure.parts for name in part.blocks} | set(layers)
    partition = BlockPartition.empty(structure.flow)
    in_order = sorted(ends, key=lambda name: (structure.flow.depth[name], name))
    blocks = {end: partition.assign(end) for end in in_order}
    return {end: steps for end, steps in blocks.items() if steps}


def block_names(graph: Graph, blocks: Mapping[str, Sequence[Step]]) -> Mapping[str, str]:
    """Name each block, given as its steps by its output: `Bottleneck block`, `Conv 3×3`.

    The class of a block's module names it, unless the module contains blocks of different parts.
    Saved files have one module for the alike blocks of all stages.
    """
    modules = {end: _common_module(steps) for end, steps in blocks.items()}
    parts: defaultdict[str | None, set[tuple[str, ...]]] = defaultdict(set)
    for end, steps in blocks.items():
        parts[modules[end]].add(tuple(sorted(_weighted_modules(steps))))
    names: dict[str, str] = {}
    for end, steps in blocks.items():
        module = modules[end]
        is_compound = sum(step.is_weighted for step in steps) > 1
        is_block = module is not None and len(parts[module]) == 1 and is_compound
        by_class = module_class(module) if is_block and module is not None else None
        names[end] = by_class or _name_by_parts(graph, steps)
    return names


def _common_module(steps: Sequence[Step]) -> str | None:
    """Return the innermost module that contains all weighted Operators of a block."""
    paths = [path.split("/") for path in _weighted_modules(steps)]
    if not paths:
        return None
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    prefix = [parts[0] for parts in shared]
    return "/".join(prefix) if len(prefix) > 1 else None


def _weighted_modules(steps: Sequence[Step]) -> list[str]:
    """Return the module paths of the weighted Operators."""
    return [x.operator.module.strip("/") for x in steps if x.is_weighted and x.operator.module]


def module_class(module: str) -> str | None:
    """Return the class of a module path in words, None for a container: `InvertedResidual_3`."""
    name = _COUNTER.sub("", module.rpartition("/")[2]).strip("_")
    return None if name in _CONTAINERS else _in_words(name) or None


def _in_words(name: str) -> str:
    """Split camel case into words: `InvertedResidual` is `Inverted residual`."""
    words = _WORD.findall(name) if name.isascii() else [name]
    lowered = [word if word.isupper() and len(word) > 1 else word.lower() for word in words]
    return _capitalised(" ".join(lowered))


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _name_by_parts(graph: Graph, steps: Sequence[Step]) -> str:
    without_gate = _without_gate(steps)
    has_gate = len(without_gate) < len(steps)
    if has_gate and sum(step.is_weighted for step in without_gate) == 1:
        return f"{layer_name(graph, without_gate)} + SE"
    weighted = [step for step in steps if step.is_weighted]
    if len(weighted) <= 1:
        return layer_name(graph, steps)
    if all(step.kind == "embedding" for step in weighted):
        return _name_of_embeddings(graph, weighted)
    convolutions = [step for step in weighted if step.kind in CONVOLUTIONS]
    if convolutions:
        return _name_by_convolutions(graph, steps, convolutions)
    if any(step.kind == "softmax" or "attn" in step.kind for step in steps):
        return "Attention block"
    is_residual = any(step.kind in JOINS and len(step.features) > 1 for step in steps)
    return "Residual MLP" if is_residual else "MLP"


def _without_gate(steps: Sequence[Step]) -> Sequence[Step]:
    """Leave out a squeeze and excitation: from its pool to its product with the pooled map."""
    pools = (i for i, step in enumerate(steps) if step.kind in POOLS | REDUCTIONS)
    start = next(pools, 0)
    if not start:
        return steps
    pooled = set(steps[start].features)
    for end in range(start + 1, len(steps)):
        step = steps[end]
        if step.kind == "multiply" and len(step.features) > 1 and pooled & set(step.features):
            return (*steps[:start], *steps[end + 1 :])
    return steps


def _name_of_embeddings(graph: Graph, steps: Sequence[Step]) -> str:
    """Name embeddings by the sizes of their tables: the longest is that of tokens."""
    if len(steps) > 3:
        return f"{len(steps)} embeddings"
    lengths = [(shape_of(graph, step.weights[0]) or (0,))[0] for step in steps]
    longest = max(lengths)
    words = {
        "token" if length == longest else "type" if length <= 4 else "position"
        for length in lengths
    }
    return _capitalised(", ".join(sorted(words, key=("token", "position", "type").index)))


def _name_by_convolutions(graph: Graph, steps: Sequence[Step], convolutions: Sequence[Step]) -> str:
    kernels = [_kernel(graph, step) for step in convolutions]
    is_depthwise = [_is_depthwise(graph, step) for step in convolutions]
    joins = {step.kind for step in steps if step.kind in JOINS and len(step.features) > 1}
    joins |= {step.kind for step in steps if step.kind == "concat"}
    if "concat" in joins:
        branched = "Inception block" if len(convolutions) > 3 else "Branched block"
        return "Shuffle unit" if any(is_depthwise) else branched
    if any(is_depthwise):
        separable = "Separable residual" if "add" in joins else "Separable conv"
        return separable if is_depthwise[0] else "Inverted residual"
    if "add" in joins:
        return "Bottleneck" if kernels.count((1, 1)) > 1 else "Basic block"
    distinct = list(dict.fromkeys(map(_times, kernels)))
    return f"Convs {', '.join(distinct)}" if len(distinct) < 3 else "Convolutions"


def layer_name(graph: Graph, steps: Sequence[Step]) -> str:
    """Name one layer, or a block with one, by its most significant Operator and its activations."""
    main = min(steps, key=_rank_of_step)
    name = _name_of_step(graph, main)
    if main.kind in CONVOLUTIONS and main.is_weighted:
        return name
    activations = [step.kind for step in steps if step.kind in ACTIVATIONS and step is not main]
    if not activations or not (main.is_weighted or main.kind in NORMS | JOINS):
        return name
    if len(activations) > 1:
        return f"{name} + {len(activations)} activations"
    return f"{name} + {activations[0]}"


def _rank_of_step(step: Step) -> int:
    """Return the rank of a step by how much it says about its layer, 0 for the most."""
    is_join = step.kind in JOINS and step.kind != "combine"
    criteria = (
        step.is_weighted,
        bool(step.operator.blocks),
        step.kind in POOLS | RESIZES | PRODUCTS or step.kind in _NAME_BY_KIND,
        is_join and (len(step.features) > 1 or step.kind in _PACKED_JOINS),
        step.kind in NORMS,
        step.kind in ACTIVATIONS,
        True,
    )
    return criteria.index(True)


def _name_of_step(graph: Graph, step: Step) -> str:
    if step.kind in CONVOLUTIONS and step.is_weighted:
        return _name_of_convolution(graph, step)
    if step.kind in POOLS:
        kind = step.operator.attributes.get("pooling_type", "max")
        return "Avg pool" if kind == "avg" else "Max pool"
    if step.kind in RESIZES:
        return "Upsample"
    if step.kind in PRODUCTS:
        return "Linear" if step.is_weighted else "Product"
    return _NAME_BY_KIND.get(step.kind) or _in_words(step.kind)


def _name_of_convolution(graph: Graph, step: Step) -> str:
    kernel = _times(_kernel(graph, step))
    if step.kind.endswith("transpose"):
        return f"Transposed {kernel}"
    if step.kind == "deformable_conv":
        return f"Deformable {kernel}"
    return f"{'Depthwise' if _is_depthwise(graph, step) else 'Conv'} {kernel}"


def _kernel(graph: Graph, step: Step) -> tuple[int, ...]:
    return shape_of(graph, step.weights[0])[2:]


def _times(sides: Iterable[int]) -> str:
    return "×".join(map(str, sides))


def _is_depthwise(graph: Graph, step: Step) -> bool:
    groups = step.operator.attributes.get("groups")
    return isinstance(groups, int) and groups > 1 and shape_of(graph, step.weights[0])[1:2] == (1,)
