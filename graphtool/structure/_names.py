"""What a block is called: by the user's class where the file has it, else by its Operators."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from graphtool.graph import Graph
from graphtool.structure._flow import Step
from graphtool.structure._step import shape_of
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    CONVOLUTIONS,
    JOINS,
    NORMS,
    POOLS,
    PRODUCTS,
    REDUCTIONS,
    RESIZES,
)

__all__ = ["block_names", "layer_name", "module_class"]

_COUNTER = re.compile(r"_\d+$")
_WORDS = re.compile(r"[A-Z]+\d*(?![a-z])|[A-Z]?[a-z]+(?:\dD)?\d*|\d+")
# Classes that hold others and say nothing of what they are.
_CONTAINERS = frozenset({"Sequential", "LayerList", "LayerDict", "TransformerEncoder"})
# What PIR hands the one result of a combine.
_OF_PACKED = frozenset({"concat", "stack"})
_SAYINGS = {
    "mean": "Mean",
    "cross_entropy_with_softmax": "Cross entropy",
    "softmax_with_cross_entropy": "Cross entropy",
    "if": "Condition",
    "conditional_block": "Condition",
    "while": "Loop",
    "rnn": "Recurrent layer",
    "flash_attn": "Attention",
}


def block_names(graph: Graph, blocks: Mapping[str, Sequence[Step]]) -> Mapping[str, str]:
    """Name each block, given as its steps by its output: `Bottleneck block`, `Conv 3×3`.

    A module that several blocks lie in names them where all of them have the same parts: saved
    files call the blocks of all stages alike. Else it holds them, and says nothing.
    """
    modules = {end: _module(steps) for end, steps in blocks.items()}
    parts: defaultdict[str | None, set[tuple[str, ...]]] = defaultdict(set)
    for end, steps in blocks.items():
        parts[modules[end]].add(tuple(sorted(_paths(steps))))
    named: dict[str, str] = {}
    for end, steps in blocks.items():
        module = modules[end]
        own = module is not None and len(parts[module]) == 1 and _is_compound(steps)
        by_class = module_class(module) if own and module is not None else None
        named[end] = by_class or _by_parts(graph, steps)
    return named


def _is_compound(steps: Sequence[Step]) -> bool:
    return sum(step.weighted for step in steps) > 1


def _paths(steps: Sequence[Step]) -> list[str]:
    """List the modules of the weighted Operators."""
    return [x.operator.module.strip("/") for x in steps if x.weighted and x.operator.module]


def _module(steps: Sequence[Step]) -> str | None:
    """Return the innermost module that all of a block's weighted Operators lie in."""
    paths = [path.split("/") for path in _paths(steps)]
    if not paths:
        return None
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    shared = [parts[0] for parts in alike]
    return "/".join(shared) if len(shared) > 1 else None


def module_class(module: str) -> str | None:
    """Return a module's class in words, None where it says nothing: `InvertedResidual_3`."""
    name = _COUNTER.sub("", module.rpartition("/")[2]).strip("_")
    return None if name in _CONTAINERS else _in_words(name) or None


def _in_words(name: str) -> str:
    """Write a class's name as people do: `InvertedResidual` is `Inverted residual`."""
    words = _WORDS.findall(name) if name.isascii() else [name]
    lowered = [word if word.isupper() and len(word) > 1 else word.lower() for word in words]
    text = " ".join(lowered)
    return text[:1].upper() + text[1:]


def _by_parts(graph: Graph, steps: Sequence[Step]) -> str:
    bare = _without_gate(steps)
    if len(bare) < len(steps) and sum(step.weighted for step in bare) == 1:
        return f"{layer_name(graph, bare)} + SE"
    weighted = [step for step in steps if step.weighted]
    if len(weighted) <= 1:
        return layer_name(graph, steps)
    if all(step.kind == "embedding" for step in weighted):
        return _embeddings(graph, weighted)
    convolutions = [step for step in weighted if step.kind in CONVOLUTIONS]
    if not convolutions:
        return _without_convolutions(steps)
    return _of_convolutions(graph, steps, convolutions)


def _without_gate(steps: Sequence[Step]) -> Sequence[Step]:
    """Leave out a squeeze and excitation: from the pool to the product with what was pooled."""
    pools = (i for i, step in enumerate(steps) if step.kind in POOLS | REDUCTIONS)
    start = next(pools, 0)
    if not start:
        return steps
    pooled = steps[start].features
    for end in range(start + 1, len(steps)):
        step = steps[end]
        if step.kind == "multiply" and len(step.features) > 1 and set(pooled) & set(step.features):
            return (*steps[:start], *steps[end + 1 :])
    return steps


def _embeddings(graph: Graph, steps: Sequence[Step]) -> str:
    if len(steps) > 3:
        return f"{len(steps)} embeddings"
    lengths = [(shape_of(graph, step.weights[0]) or (0,))[0] for step in steps]
    longest = max(lengths)
    words = [
        "token" if length == longest else "type" if length <= 4 else "position"
        for length in lengths
    ]
    listed = ", ".join(sorted(dict.fromkeys(words), key=("token", "position", "type").index))
    return listed[:1].upper() + listed[1:]


def _without_convolutions(steps: Sequence[Step]) -> str:
    if any(step.kind == "softmax" or "attn" in step.kind for step in steps):
        return "Attention block"
    joined = any(step.kind in JOINS and len(step.features) > 1 for step in steps)
    return "Residual MLP" if joined else "MLP"


def _of_convolutions(graph: Graph, steps: Sequence[Step], convolutions: Sequence[Step]) -> str:
    sides = [_kernel(graph, step) for step in convolutions]
    depthwise = [_is_depthwise(graph, step) for step in convolutions]
    joins = {step.kind for step in steps if step.kind in JOINS and len(step.features) > 1}
    joins |= {step.kind for step in steps if step.kind == "concat"}
    if any(depthwise):
        return _with_depthwise(depthwise, joins)
    if "concat" in joins:
        return "Inception block" if len(convolutions) > 3 else "Branched block"
    if "add" in joins:
        return "Bottleneck" if sides.count((1, 1)) > 1 else "Basic block"
    kernels = list(dict.fromkeys(map(_times, sides)))
    return f"Convs {', '.join(kernels)}" if len(kernels) < 3 else "Convolutions"


def _with_depthwise(depthwise: Sequence[bool], joins: set[str]) -> str:
    if "concat" in joins:
        return "Shuffle unit"
    if not depthwise[0]:
        return "Inverted residual"
    return "Separable residual" if "add" in joins else "Separable conv"


def layer_name(graph: Graph, steps: Sequence[Step]) -> str:
    """Name one layer, or a block with one: its Operator that does the work, and what it adds."""
    lead = _lead(steps)
    name = _of_step(graph, lead)
    if lead.kind in CONVOLUTIONS and lead.weighted:
        return name
    kinds = [step.kind for step in steps if step.kind in ACTIVATIONS and step is not lead]
    if not kinds or not (lead.weighted or lead.kind in NORMS | JOINS):
        return name
    return f"{name} + {kinds[0]}" if len(kinds) == 1 else f"{name} + {len(kinds)} activations"


def _lead(steps: Sequence[Step]) -> Step:
    """Return the step that says what a layer does."""
    return min(steps, key=_order)


def _order(step: Step) -> int:
    """Return how much a step says, the most first: among equals, the first step of a layer."""
    joined = len(step.features) > 1 or step.kind in _OF_PACKED
    joins = step.kind in JOINS and step.kind != "combine" and joined
    says = (
        step.weighted,
        bool(step.operator.blocks),
        step.kind in POOLS | RESIZES | PRODUCTS or step.kind in _SAYINGS,
        joins,
        step.kind in NORMS,
        step.kind in ACTIVATIONS,
        True,
    )
    return says.index(True)


def _of_step(graph: Graph, step: Step) -> str:
    if step.kind in CONVOLUTIONS and step.weighted:
        return _convolution(graph, step)
    if step.kind in POOLS:
        kind = step.operator.attributes.get("pooling_type", "max")
        return "Avg pool" if kind == "avg" else "Max pool"
    if step.kind in RESIZES:
        return "Upsample"
    if step.kind in PRODUCTS:
        return "Linear" if step.weighted else "Product"
    return _SAYINGS.get(step.kind) or _in_words(step.kind)


def _convolution(graph: Graph, step: Step) -> str:
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
