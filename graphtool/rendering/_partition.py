"""Partition a network's Operators into the cards and blocks of a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphtool.ops import JOINS, NORMS, POOLS, PRODUCTS, RECURRENT, REDUCTIONS, RESIZES
from graphtool.rendering.board import CardPart
from graphtool.structure import GLOBAL, BlockPartition, Head, Scale, Step, Structure

__all__ = ["CardBlock", "CardSection", "card_sections", "layers_of"]

# Kinds that start a layer without a weight.
_MAIN_KINDS = (
    POOLS
    | RESIZES
    | PRODUCTS
    | RECURRENT
    | REDUCTIONS
    | {"softmax", "log_softmax", "cross_entropy_with_softmax", "softmax_with_cross_entropy"}
    | {"cross_entropy", "flash_attn"}
)
# A card with the outputs of its blocks, in order: its part, the Value of its title, the outputs.
_CardPlan: TypeAlias = "tuple[CardPart, str | None, Iterable[str]]"


@dataclass(frozen=True, slots=True)
class CardBlock:
    """The steps of a block, in program order, and its output."""

    steps: tuple[Step, ...]
    result: str


@dataclass(frozen=True, slots=True)
class CardSection:
    """The content of a card; `title_value` is the Value whose resolution is the card's title."""

    part: CardPart
    title_value: str | None
    blocks: tuple[CardBlock, ...]


def card_sections(structure: Structure) -> Sequence[CardSection]:
    """Assign each forward Operator that an output depends on to one block of one card.

    The outputs of blocks come from the Structure, in order; each block takes the Operators it
    depends on that no earlier block took. The rest belongs to the heads, or to a neck if several
    outputs depend on it, or if it computes maps behind the deepest one.
    """
    partition = BlockPartition.empty(structure.flow)
    sections: list[CardSection] = []
    for part, title_value, outputs in _plans(structure, partition):
        assigned = (CardBlock(partition.assign(output), output) for output in outputs)
        blocks = tuple(block for block in assigned if block.steps)
        if blocks:
            sections.append(CardSection(part, title_value, blocks))
    is_whole = not sections
    if not is_whole:
        sections += _necks(structure, partition)
    for head in structure.heads:
        sections += _head_sections(partition, head, is_whole=is_whole)
    return _with_pools_moved(structure, sections)


def _plans(structure: Structure, partition: BlockPartition) -> Iterator[_CardPlan]:
    """Plan the cards of the stem, the stages and the encoder."""
    flow, stages = structure.flow, structure.stages
    if stages:
        chain = _stem(structure, partition)
        if any(step.is_weighted for step in chain):
            yield CardPart.STAGE, chain[-1].result, [step[-1].result for step in layers_of(chain)]
    for stage in stages:
        behind = layers_of(flow.steps[name] for name in structure.after_blocks(stage))
        # Parametric layers after the last block.
        outputs = [
            layer[-1].result
            for layer in behind
            if any(step.is_weighted or step.kind in NORMS for step in layer)
        ]
        yield CardPart.STAGE, stage.end, [*stage.blocks, *outputs]
    for step_up in structure.decoder:
        yield CardPart.STAGE, step_up.end, step_up.blocks
    for encoder in reversed(structure.encoders):
        first = encoder.hidden_states[0]
        is_in_stages = bool(stages) and flow.depth[first] <= flow.depth[stages[-1].end]
        if not is_in_stages:
            if encoder.embeddings is not None:
                yield CardPart.EMBEDDINGS, None, [encoder.embeddings]
            yield CardPart.ENCODER, first, encoder.hidden_states


def _stem(structure: Structure, partition: BlockPartition) -> Sequence[Step]:
    """Return the chain of layers at a higher resolution, before the first stage."""
    chain: list[Step] = []
    stage = structure.stages[0]
    for step in partition.unassigned(stage.blocks[0]):
        continues = not chain or step.data == (chain[-1].result,)
        if not continues or structure.scales.get(step.result) == stage.scale:
            break
        chain.append(step)
        if len(structure.flow.consumers.get(step.result, ())) > 1:
            break
    return chain


def _with_pools_moved(
    structure: Structure, sections: Sequence[CardSection]
) -> Sequence[CardSection]:
    """Move a pool between two cards from the start of the second to the end of the first."""
    moved: list[CardSection] = []
    for section in sections:
        blocks = section.blocks
        if moved and _starts_with_pool(structure, blocks[0], after=moved[-1].blocks[-1]):
            pool, rest = blocks[0].steps[:1], blocks[0].steps[1:]
            previous = (*moved[-1].blocks, CardBlock(pool, pool[0].result))
            moved[-1] = replace(moved[-1], blocks=previous)
            blocks = (*((CardBlock(rest, blocks[0].result),) if rest else ()), *blocks[1:])
        if blocks:
            moved.append(replace(section, blocks=blocks))
    return moved


def _starts_with_pool(structure: Structure, block: CardBlock, *, after: CardBlock) -> bool:
    """Return whether a block starts with a pool that is the only reader of the block before."""
    pool, *others = block.steps
    if pool.kind not in POOLS or structure.scales.get(pool.result, GLOBAL) == GLOBAL:
        return False
    outside = {*after.steps[-1].operator.results, after.result}
    return outside.issuperset(pool.data) and all(outside.isdisjoint(step.data) for step in others)


def _necks(structure: Structure, partition: BlockPartition) -> Iterator[CardSection]:
    """Yield the steps of the neck by resolution, the lowest first, as a top-down pathway goes."""
    levels: dict[Scale, list[Step]] = {}
    for step, scale in _neck_steps(structure, partition):
        levels.setdefault(scale, []).append(step)
    for scale in sorted(levels, key=lambda scale: scale.area):
        level = levels[scale]
        partition.assigned.update(step.result for step in level)
        title_value = None if scale == GLOBAL else level[-1].result
        yield CardSection(CardPart.NECK, title_value, tuple(_neck_blocks(structure, level)))


def _neck_steps(structure: Structure, partition: BlockPartition) -> Sequence[tuple[Step, Scale]]:
    """Return what is left in a neck, with what feeds it, in program order, and resolutions.

    A gate has the resolution of the map that it multiplies.
    """
    flow, scales = structure.flow, structure.scales
    counts = partition.dependant_counts([head.output for head in structure.heads])
    head_only = _head_only_steps(structure)
    found: dict[str, Scale] = {}
    for name in sorted(counts, key=partition.order.__getitem__, reverse=True):
        results = flow.steps[name].operator.results
        readers = [reader.result for one in results for reader in flow.consumers.get(one, ())]
        in_neck = [found[reader] for reader in readers if reader in found]
        scale = scales.get(name, GLOBAL)
        # Several heads depend on it, or it computes maps that are not of the head alone.
        is_neck = counts[name] > 1 or (
            scale != GLOBAL
            and bool(structure.stages)
            and name not in head_only
            and (len(structure.heads) > 1 or scale.area > structure.stages[-1].scale.area)
        )
        if in_neck or is_neck:
            found[name] = next(iter(in_neck), GLOBAL) if scale == GLOBAL else scale
    return [(flow.steps[name], found[name]) for name in reversed(found)]


def _head_only_steps(structure: Structure) -> frozenset[str]:
    """Return the chain of steps before each logits, and all steps after them.

    With one head, the chain is the layer that computes the logits; with several, it goes back to
    where maps join or change their resolution.
    """
    has_several, maker = len(structure.heads) > 1, structure.flow.maker
    names: set[str] = set()
    for head in structure.heads:
        step = maker.get(head.output)
        while step is not None and head.logits not in step.operator.results and step.features:
            names.add(step.result)
            step = maker.get(step.features[0])
        step = maker.get(head.logits)
        while (
            step is not None
            and step.result not in names
            and len(step.features) <= 1
            and step.kind not in RESIZES
        ):
            names.add(step.result)
            if not step.features or (step.is_weighted and not has_several):
                break
            step = maker.get(step.features[0])
    return frozenset(names)


def _neck_blocks(structure: Structure, steps: Sequence[Step]) -> Iterator[CardBlock]:
    """Split a level of a neck into layers, each with its gate and the sum it goes into."""
    layer: list[Step] = []
    results: set[str] = set()
    for step in steps:
        is_gate = structure.scales.get(step.result, GLOBAL) == GLOBAL
        joins_itself = len(step.features) > 1 and results.issuperset(step.features)
        if layer and _starts_layer(step) and not (is_gate or joins_itself):
            yield CardBlock(tuple(layer), layer[-1].result)
            layer, results = [], set()
        layer.append(step)
        results.update(step.operator.results)
    yield CardBlock(tuple(layer), layer[-1].result)


def _head_sections(
    partition: BlockPartition, head: Head, *, is_whole: bool
) -> Iterator[CardSection]:
    """Yield the head; of a whole network, its layers first and then the classifier as its head."""
    layers = layers_of(partition.assign(head.output))
    blocks = tuple(CardBlock(layer, layer[-1].result) for layer in layers)
    start = 0
    if is_whole:
        weighted = (i for i, layer in enumerate(layers) if any(step.is_weighted for step in layer))
        last = max(weighted, default=len(blocks))
        start = last if head.classifies and last > 0 else len(blocks)
    if start:
        yield CardSection(CardPart.BODY, None, blocks[:start])
    if blocks[start:]:
        yield CardSection(CardPart.HEAD, None, blocks[start:])


def layers_of(steps: Iterable[Step]) -> Sequence[tuple[Step, ...]]:
    """Split steps in program order at the start of each layer; leading steps join the first."""
    layers: list[list[Step]] = []
    started = False
    for step in steps:
        starts = _starts_layer(step)
        if not layers or (starts and started):
            layers.append([])
        started = started or starts
        layers[-1].append(step)
    return [tuple(layer) for layer in layers]


def _starts_layer(step: Step) -> bool:
    """Return whether a step is a layer's main Operator, not an activation or a reshape after it."""
    if step.is_weighted or step.kind in _MAIN_KINDS or step.operator.blocks:
        return True
    # PIR packs the operands of a concat in a `combine`, where the layer then starts.
    return step.kind in JOINS and len(step.features) > 1
