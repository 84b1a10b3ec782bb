"""Partition a network's Operators into the cards and blocks of a picture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphtool.ops import JOINS, NORMS, POOLS, PRODUCTS, RECURRENT, REDUCTIONS, RESIZES
from graphtool.rendering.board import CardPart
from graphtool.structure import GLOBAL, BlockPartition, Head, Scale, Stage, Step, Structure

__all__ = ["CardBlock", "CardSection", "card_sections", "layers_of"]


_LAYER_OPS = frozenset(
    {
        "softmax",
        "log_softmax",
        "cross_entropy_with_softmax",
        "softmax_with_cross_entropy",
        "cross_entropy",
        "flash_attn",
        "rnn",
    }
)
_MAIN_KINDS = POOLS | RESIZES | PRODUCTS | RECURRENT | REDUCTIONS | _LAYER_OPS


# A card with the outputs of its blocks, in order: its part, the Value of its title, the outputs.
_CardPlan: TypeAlias = "tuple[CardPart, str | None, list[str]]"


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


def card_sections(structure: Structure) -> tuple[CardSection, ...]:
    """Assign each forward Operator that an output depends on to one block of one card.

    The outputs of blocks come from the Structure, in order; each block takes the Operators it
    depends on that no earlier block took. The rest belongs to the heads, or to a neck if several
    outputs depend on it, or if it computes maps behind the deepest one.
    """
    partition = BlockPartition.empty(structure.flow)
    sections: list[CardSection] = []
    for part, title_value, outputs in (
        *_stem_plan(structure, partition),
        *_stage_plans(structure),
        *_encoder_plans(structure),
    ):
        assigned = (CardBlock(partition.assign(output), output) for output in outputs)
        blocks = tuple(block for block in assigned if block.steps)
        if blocks:
            sections.append(CardSection(part, title_value, blocks))
    rest = _remaining_sections(structure, partition, is_whole=not sections)
    return _with_pools_moved(structure, [*sections, *rest])


def _with_pools_moved(
    structure: Structure, sections: Sequence[CardSection]
) -> tuple[CardSection, ...]:
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
    return tuple(moved)


def _starts_with_pool(structure: Structure, block: CardBlock, *, after: CardBlock) -> bool:
    """Return whether a block starts with a pool that is the only reader of the block before."""
    pool, *others = block.steps
    if pool.kind not in POOLS or structure.scales.get(pool.result, GLOBAL) == GLOBAL:
        return False
    outside = set(after.steps[-1].operator.results) | {after.result}
    return outside.issuperset(pool.data) and not any(
        outside.intersection(step.data) for step in others
    )


def _stem_plan(structure: Structure, partition: BlockPartition) -> Iterator[_CardPlan]:
    """Plan a card for a chain of layers at a higher resolution, before the first stage."""
    if not structure.stages:
        return
    stage, flow = structure.stages[0], structure.flow
    chain: list[Step] = []
    for step in partition.unassigned(stage.blocks[0]):
        continues = not chain or step.data == (chain[-1].result,)
        if not continues or structure.scales.get(step.result) == stage.scale:
            break
        chain.append(step)
        if len(flow.consumers.get(step.result, ())) > 1:
            break
    if any(step.is_weighted for step in chain):
        outputs = [layer[-1].result for layer in layers_of(chain)]
        yield (CardPart.STAGE, chain[-1].result, outputs)


def _stage_plans(structure: Structure) -> Iterator[_CardPlan]:
    for stage in structure.stages:
        outputs = [*stage.blocks, *_outputs_behind_blocks(structure, stage)]
        yield (CardPart.STAGE, stage.end, outputs)
    for step in structure.decoder:
        yield (CardPart.STAGE, step.end, list(step.blocks))


def _outputs_behind_blocks(structure: Structure, stage: Stage) -> Iterator[str]:
    """Yield the outputs of the parametric layers after the last block of a stage."""
    behind = structure.after_blocks(stage)
    for layer in layers_of(structure.flow.steps[name] for name in behind):
        if any(step.is_weighted or step.kind in NORMS for step in layer):
            yield layer[-1].result


def _encoder_plans(structure: Structure) -> Iterator[_CardPlan]:
    """Plan embeddings and encoder layers, unless they are inside the stages."""
    encoder, depth = structure.encoder, structure.flow.depth
    if encoder is None:
        return
    first = encoder.hidden_states[0]
    if structure.stages and depth[first] <= depth[structure.stages[-1].end]:
        return
    if encoder.embeddings is not None:
        yield (CardPart.EMBEDDINGS, None, [encoder.embeddings])
    yield (CardPart.ENCODER, first, list(encoder.hidden_states))


def _remaining_sections(
    structure: Structure, partition: BlockPartition, *, is_whole: bool
) -> Iterator[CardSection]:
    """Yield the necks and heads; `is_whole` says that there are neither stages nor an encoder."""
    heads = structure.heads
    head_counts = partition.dependant_counts([head.output for head in heads])
    if not is_whole:
        head_only = _head_only_steps(structure)
        neck = {
            name
            for name, count in head_counts.items()
            if _is_neck(structure, name, count, head_only)
        }
        yield from _necks(
            structure, partition, _with_inputs(structure, partition, head_counts, neck)
        )
    for head in heads:
        yield from _head_sections(partition, head, is_whole=is_whole)


def _with_inputs(
    structure: Structure, partition: BlockPartition, remaining: Collection[str], neck: set[str]
) -> list[Step]:
    """Return the steps of a neck and the steps that feed them, in program order."""
    flow = structure.flow
    names = set(neck)
    for name in sorted(remaining, key=partition.order.__getitem__, reverse=True):
        results = flow.steps[name].operator.results
        readers = (reader.result for result in results for reader in flow.consumers.get(result, ()))
        if not names.isdisjoint(readers):
            names.add(name)
    return [flow.steps[name] for name in sorted(names, key=partition.order.__getitem__)]


def _is_neck(structure: Structure, name: str, head_count: int, head_only: Collection[str]) -> bool:
    """Return whether a step is part of a neck.

    It is if several heads depend on it, or if it computes maps that are not of the head alone.
    """
    if head_count > 1:
        return True
    scale = structure.scales.get(name, GLOBAL)
    if scale == GLOBAL or not structure.stages or name in head_only:
        return False
    return len(structure.heads) > 1 or scale.area > structure.stages[-1].scale.area


def _head_only_steps(structure: Structure) -> frozenset[str]:
    """Return the chain of steps before each logits, and all steps after them.

    With one head, the chain is the layer that computes the logits; with several, it goes back to
    where maps join or change their resolution.
    """
    has_several = len(structure.heads) > 1
    names: set[str] = set()
    for head in structure.heads:
        names.update(_steps_after_logits(structure, head))
        step = structure.flow.maker.get(head.logits)
        while (
            step is not None
            and step.result not in names
            and len(step.features) <= 1
            and step.kind not in RESIZES
        ):
            names.add(step.result)
            if not step.features or (step.is_weighted and not has_several):
                break
            step = structure.flow.maker.get(step.features[0])
    return frozenset(names)


def _steps_after_logits(structure: Structure, head: Head) -> Iterator[str]:
    step = structure.flow.maker.get(head.output)
    while step is not None and head.logits not in step.operator.results and step.features:
        yield step.result
        step = structure.flow.maker.get(step.features[0])


def _necks(
    structure: Structure, partition: BlockPartition, steps: Sequence[Step]
) -> Iterator[CardSection]:
    """Group the steps of a neck by resolution, the lowest first, as a top-down pathway goes."""
    levels: dict[Scale, list[Step]] = {}
    for step, scale in zip(steps, _neck_scales(structure, steps), strict=True):
        levels.setdefault(scale, []).append(step)
    for scale in sorted(levels, key=lambda scale: scale.area):
        level = levels[scale]
        partition.assigned.update(step.result for step in level)
        title_value = None if scale == GLOBAL else level[-1].result
        yield CardSection(CardPart.NECK, title_value, tuple(_neck_blocks(structure, level)))


def _neck_scales(structure: Structure, steps: Sequence[Step]) -> list[Scale]:
    """Return the resolution of each step; a gate has that of the map it multiplies."""
    scales: dict[str, Scale] = {}
    for step in reversed(steps):
        scale = structure.scales.get(step.result, GLOBAL)
        readers = structure.flow.consumers.get(step.result, ())
        reader_scales = (scales[reader.result] for reader in readers if reader.result in scales)
        scales[step.result] = next(reader_scales, GLOBAL) if scale == GLOBAL else scale
    return [scales[step.result] for step in steps]


def _neck_blocks(structure: Structure, steps: Sequence[Step]) -> Iterator[CardBlock]:
    """Split a level of a neck into layers, each with its gate and the sum it goes into."""
    layer: list[Step] = []
    layer_results: set[str] = set()
    for step in steps:
        is_gate = structure.scales.get(step.result, GLOBAL) == GLOBAL
        joins_itself = len(step.features) > 1 and layer_results.issuperset(step.features)
        if layer and _starts_layer(step) and not (is_gate or joins_itself):
            yield CardBlock(tuple(layer), layer[-1].result)
            layer, layer_results = [], set()
        layer.append(step)
        layer_results.update(step.operator.results)
    yield CardBlock(tuple(layer), layer[-1].result)


def _head_sections(
    partition: BlockPartition, head: Head, *, is_whole: bool
) -> Iterator[CardSection]:
    """Yield the head; of a whole network, its layers first and then the classifier as its head."""
    layers = layers_of(partition.assign(head.output))
    blocks = tuple(CardBlock(layer, layer[-1].result) for layer in layers)
    if not blocks:
        return
    if not is_whole:
        yield CardSection(CardPart.HEAD, None, blocks)
        return
    parametric = [
        index for index, block in enumerate(blocks) if any(step.is_weighted for step in block.steps)
    ]
    last = max(parametric, default=len(blocks))
    start = last if head.classifies and last > 0 else len(blocks)
    parts = (CardPart.BODY, blocks[:start]), (CardPart.HEAD, blocks[start:])
    yield from (CardSection(part, None, part_blocks) for part, part_blocks in parts if part_blocks)


def layers_of(steps: Iterable[Step]) -> tuple[tuple[Step, ...], ...]:
    """Split steps in program order at the start of each layer; leading steps join the first."""
    layers: list[list[Step]] = []
    started = False
    for step in steps:
        starts = _starts_layer(step)
        if not layers or (starts and started):
            layers.append([])
        started = started or starts
        layers[-1].append(step)
    return tuple(map(tuple, layers))


def _starts_layer(step: Step) -> bool:
    """Return whether a step is a layer's main Operator, not an activation or a reshape after it."""
    if step.is_weighted or step.kind in _MAIN_KINDS or step.operator.blocks:
        return True
    # PIR packs the operands of a concat in a `combine`, where the layer then starts.
    return step.kind in JOINS and len(step.features) > 1
