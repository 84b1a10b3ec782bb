"""Stages: maximal runs of the main line at one resolution; and the taps of their blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import groupby, takewhile
from operator import gt

from graphtool.graph import UNKNOWN_DIM
from graphtool.ops import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    JOINS,
    NORMS,
    POOLS,
    PRODUCTS,
    RESHAPES,
    RESIZES,
    ends_in_activation,
)
from graphtool.structure._dominators import (
    Dominators,
    ancestors,
    cut_values,
    dependant_counts,
    steps_between,
)
from graphtool.structure._flow import Flow, Step
from graphtool.structure._heads import Head
from graphtool.structure._layouts import GLOBAL, Scale, is_vector

__all__ = ["Course", "Stage", "Tap", "course_of", "taps_of"]

# They read elements of their first operand at indices or in regions.
_INDEXING = frozenset({"gather", "gather_nd", "psroi_pool", "roi_align", "roi_pool"})
_BETWEEN_SEPARABLE_HALVES = NORMS | ACTIVATIONS | IDENTITIES | {"add", "multiply"}
_AFTER_JOIN = ACTIVATIONS | RESHAPES | IDENTITIES | {"concat"}
_AFTER_CONVOLUTION = ACTIVATIONS | NORMS | IDENTITIES | {"multiply"}
_REARRANGING = RESHAPES | IDENTITIES | POOLS | {"split", "split_with_num", "slice"}
# The joins of a transformer layer with cross-attention: a sum across more skips several blocks.
_JOINS_OF_A_LAYER = 3
# The rank of one vector per sample.
_VECTORS = 2
# One stage of a decoder enlarges each side at most four times.
_LARGEST_STEP = 16
_WITHIN_BLOCK = NORMS | IDENTITIES | RESHAPES | JOINS | {"multiply"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A maximal run of the main line at one resolution.

    `values` are the Values that every path passes; `blocks` are those of them that end a block.
    Both are in order.
    """

    scale: Scale
    values: tuple[str, ...]
    blocks: tuple[str, ...]

    @property
    def end(self) -> str:
        """The output of the last block."""
        return self.blocks[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The stages of a network in order: down to the deepest map, and from there up to the answer.

    Only decoders that enlarge step by step, as in a U-Net or a generator, have stages `up`.
    `middle` are the blocks at the deepest resolution after the last skip connection starts.
    """

    down: tuple[Stage, ...] = ()
    middle: Stage | None = None
    up: tuple[Stage, ...] = ()


def course_of(
    flow: Flow,
    scales: Mapping[str, Scale],
    axes: Mapping[str, int],
    tree: Dominators,
    images: Sequence[str],
    heads: Sequence[Head],
    levels: Mapping[Scale, Sequence[str]],
) -> Course:
    """Find the stages of a network; none for networks without maps.

    `images` are the feeds that maps are computed from. Where the main logits are one vector, or all
    heads answer with as many classes, only maps on the way to the main ones count: an auxiliary
    head may pool further. `levels` are the maps that heads compute, by resolution.
    """
    logits = heads[0].logits if heads else None
    classifies = logits is not None and is_vector(flow, scales, logits)
    changes = _resolution_changes(flow, scales)
    channels = {_channels(flow, axes, head.logits) for head in heads}
    is_supervised = len(channels) == 1 and len(heads) > 1
    backbone = _backbone(flow, scales, heads[:1] if classifies or is_supervised else heads, levels)
    target = _deepest_map(flow, scales, changes, tree, backbone)
    if target is None:
        return Course()
    head = None if logits is None else flow.last_weighted(logits)

    def stages(sources: Sequence[str], end: str) -> Iterator[Stage]:
        for (scale, _), run in groupby(
            _main_line(flow, scales, tree, sources, end), lambda name: (scales[name], changes[name])
        ):
            # Where the last weighted step produces a map, it holds class scores.
            body = tuple(takewhile(lambda name: head is None or name != head.result, run))
            for part in _split_at_projections(flow, axes, tree, body):
                stage = _stage(flow, axes, scale, part, start=sources[0])
                if stage is not None:
                    yield stage

    down = tuple(stages(images, target))
    if classifies or logits is None or len(levels) > 1:
        return Course(down=down)
    # What all heads read, or the answer itself.
    top = tree.nearest_common(tip for tips in levels.values() for tip in tips) or logits
    turn = _turn(flow, scales, tree, images, target)
    if turn is not None:
        up = tuple(_rising(stages([turn.target], top), scales[target]))
        if len(up) > 1:
            return _turned(flow, axes, turn, tuple(stages(images, turn.target)), up)
    rising = _rising(stages([target], top), scales[target])
    up = tuple(stage for stage in rising if stage.scale.area > scales[target].area)
    return Course(down=down, up=up if len(up) > 1 else ())


def _turned(
    flow: Flow, axes: Mapping[str, int], turn: _Turn, down: Sequence[Stage], up: tuple[Stage, ...]
) -> Course:
    """Divide the last stage on the way down where the first skip connection starts."""
    if not down:
        return Course(up=up)
    *before, last = down
    end = last.values.index(turn.skip) + 1 if turn.skip in last.values else 0
    outer = _stage(flow, axes, last.scale, last.values[:end])
    middle = _stage(flow, axes, last.scale, last.values[end:])
    if outer is None or middle is None:
        return Course(down=tuple(down), up=up)
    return Course(down=(*before, outer), middle=middle, up=up)


def _main_line(
    flow: Flow, scales: Mapping[str, Scale], tree: Dominators, sources: Iterable[str], target: str
) -> Sequence[str]:
    """Return the maps that every path passes, but for connections over several residual blocks."""
    steps = steps_between(flow, sources, target)
    skips = {
        (skip, step.result)
        for step in steps
        if step.kind == "add" and (skip := _long_skip(flow, tree, step)) is not None
    }
    line = cut_values(flow, steps, skips=skips)
    return [name for name in line if scales.get(name, GLOBAL) != GLOBAL]


def _long_skip(flow: Flow, tree: Dominators, join: Step) -> str | None:
    """Return the branch of a join that skips several residual blocks on the way to the other.

    A network for super-resolution adds its first map to its last, groups of blocks are residual
    themselves (RCAN), U-Nets concatenate what was computed on the way down.
    """
    branches = [name for name in flow.branches(join) if name in tree.parent]
    skip = tree.nearest_common(branches) if len(branches) == 2 else None
    if skip is None or skip not in branches:
        return None
    other = branches[branches[0] == skip]
    least = _JOINS_OF_A_LAYER + 1 if join.kind == "add" else 2
    return skip if tree.joins[other] - tree.joins[skip] >= least else None


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where a network turns up without a change of resolution: `skip` is concatenated there."""

    target: str
    skip: str


def _turn(
    flow: Flow, scales: Mapping[str, Scale], tree: Dominators, images: Sequence[str], target: str
) -> _Turn | None:
    """Return where the skip connections of a U-Net begin at the resolution of the deepest map.

    Each joins what was computed before the last one. In other networks joins follow each other.
    """
    found: list[_Turn] = []
    for step in steps_between(flow, images, target):
        branches = flow.branches(step)
        if step.kind != "concat" or scales.get(step.result) != scales[target] or not branches:
            continue
        # Without a middle, the way up begins with the last map twice.
        packed = flow.maker.get(step.features[0])
        packed = packed if packed is not None and packed.kind == "combine" else step
        is_doubled = packed.operator.operands.count(branches[0]) > 1
        skip = branches[0] if is_doubled else _long_skip(flow, tree, step)
        if skip is not None:
            found.append(_Turn(next((name for name in branches if name != skip), skip), skip))
    depths = [flow.depth[turn.skip] for turn in found]
    is_nested = len(found) > 1 and all(map(gt, depths, depths[1:]))
    return found[0] if is_nested else None


def _rising(stages: Iterable[Stage], deepest: Scale) -> Iterator[Stage]:
    """Yield the stages that enlarge step by step, from the resolution of the deepest map."""
    area, least = deepest.area, deepest.area
    for index, stage in enumerate(stages):
        is_step = least <= stage.scale.area <= _LARGEST_STEP * area
        if not is_step or (index and stage.scale.area <= area):
            return
        area = stage.scale.area
        yield stage


def _split_at_projections(
    flow: Flow, axes: Mapping[str, int], tree: Dominators, run: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Divide a run before each residual block that projects its input to twice the channels.

    Stages of a network with dilation, or with a stride of 1 in the last stage, have one resolution.
    """
    start = 0
    for name in run:
        step = flow.steps[name]
        if step.kind != "add" or not flow.joins(step):
            continue
        source = tree.nearest_common(x for x in flow.branches(step) if x in tree.parent)
        if source in step.features or source not in run[start:]:
            continue
        before, after = (_channels(flow, axes, one) for one in (source, name))
        end = run.index(source) + 1
        if after >= 2 * before > 0 and any(flow.joins(flow.steps[one]) for one in run[start:end]):
            yield run[start:end]
            start = end
    yield run[start:]


def _channels(flow: Flow, axes: Mapping[str, int], name: str) -> int:
    shape = flow.graph.values[name].shape
    return shape[axes[name]] if shape else UNKNOWN_DIM


def _backbone(
    flow: Flow,
    scales: Mapping[str, Scale],
    heads: Sequence[Head],
    levels: Mapping[Scale, Sequence[str]],
) -> Collection[str]:
    """Return the Values that the deepest map is searched among.

    What a detector adds after its backbone (P6 and P7 of an FPN) is read by one level alone. All
    levels depend on the end of the backbone, if that is coarser than the finest of them. Scores of
    boxes don't depend on what only the coordinates of the boxes come from.
    """
    if len(heads) == 1 or len(levels) < 2:
        found = (ancestors(flow, head.logits, _INDEXING) for head in heads)
        return set[str]().union(*found) or flow.steps.keys()
    tips = [tip for level in levels.values() for tip in level]
    counts = dependant_counts(flow, tips)
    shared = {name for name, count in counts.items() if count == len(tips)}
    finest = max(scale.area for scale in levels)
    is_coarser = _least_area(scales, flow.steps) < _least_area(scales, shared) < finest
    return shared if is_coarser else flow.steps.keys()


def _least_area(scales: Mapping[str, Scale], names: Iterable[str]) -> Fraction:
    areas = (scales[name].area for name in names if scales.get(name, GLOBAL) != GLOBAL)
    return min(areas, default=GLOBAL.area)


def _resolution_changes(flow: Flow, scales: Mapping[str, Scale]) -> Mapping[str, int]:
    """Count how often the resolution changes on the way to each Value, along maps."""
    changes: dict[str, int] = {}
    for step in flow.steps.values():
        scale = scales.get(step.result)
        if scale is None:
            continue
        maps = [name for name in step.data if scales.get(name, GLOBAL) != GLOBAL]
        if maps and scale != GLOBAL:
            before = [changes.get(name, 0) + (scales[name] != scale) for name in maps]
        else:
            # A decoder begins with the map that it makes of a vector.
            begins = scale != GLOBAL and flow.graph.values[step.data[0]].rank == _VECTORS
            before = [changes.get(name, 0) + begins for name in step.data]
        changes[step.result] = max(before, default=0)
        changes.update(dict.fromkeys(step.operator.results, changes[step.result]))
    return changes


def _deepest_map(
    flow: Flow,
    scales: Mapping[str, Scale],
    changes: Mapping[str, int],
    tree: Dominators,
    backbone: Collection[str],
) -> str | None:
    """Return the last Value of the first run at the lowest resolution of the backbone.

    Only convolutions and joins count as reaching a resolution. A neck that returns to the lowest
    one after upsampling has more `changes` of resolution, so it isn't chosen. Where the run itself
    is upsampled, it ends there, before a lateral convolution. Where it is joined with something
    upsampled (the pooled branch of an ASPP), it ends before the branches.
    """
    maps = [
        step
        for name, step in flow.steps.items()
        if name in backbone
        and name in flow.features
        and scales.get(name, GLOBAL) != GLOBAL
        and (
            (step.kind in CONVOLUTIONS and step.is_weighted)
            or (step.kind in JOINS and len(step.features) > 1)
        )
    ]
    if not maps:
        return None
    lowest = min(scales[step.result].area for step in maps)
    fewest = min(changes[step.result] for step in maps if scales[step.result].area == lowest)
    run = [
        name
        for name, count in changes.items()
        if count == fewest
        and name in backbone
        and scales[name].area == lowest
        and name in flow.features
    ]
    joins = [name for name in run if _joins_upsampled(flow, name)]
    if joins:
        join = min(joins, key=lambda name: (flow.depth[name], name))
        return tree.parent[join] or join
    upsampled = [name for name in run if _is_upsampled(flow, scales, name)]
    if upsampled:
        return _before_lateral(
            flow, scales, min(upsampled, key=lambda name: (flow.depth[name], name))
        )
    return max(run, key=lambda name: (flow.depth[name], name))


def _joins_upsampled(flow: Flow, name: str) -> bool:
    """Return whether a Value is a join of branches, one of which was just upsampled."""
    step = flow.maker[name]
    producers = (flow.maker.get(branch) for branch in flow.branches(step))
    return step.kind in JOINS and any(x is not None and x.kind in RESIZES for x in producers)


def _is_upsampled(flow: Flow, scales: Mapping[str, Scale], name: str) -> bool:
    """Return whether a consumer of a map makes it larger."""
    area = scales[name].area
    after = (scales.get(step.result, GLOBAL) for step in flow.consumers.get(name, ()))
    return any(scale.area > area for scale in after)


def _before_lateral(flow: Flow, scales: Mapping[str, Scale], upsampled: str) -> str:
    """Return what a neck's lateral convolution reads, if there is one before its upsampling.

    That is a dense 1×1 convolution after which nothing sees neighbours, or any convolution after a
    residual block. The 1×1 half of a separable convolution belongs to the backbone.
    """
    line = cut_values(flow, steps_between(flow, flow.graph.feeds, upsampled))
    steps = [flow.steps[name] for name in reversed(line)]
    last = next((step for step in steps if step.kind in CONVOLUTIONS and step.is_weighted), None)
    if last is None or not last.features:
        return upsampled
    before = last.features[0]
    if scales.get(before) != scales.get(last.result):
        return upsampled
    source = flow.maker.get(before)
    while (
        source is not None
        and source.kind in _BETWEEN_SEPARABLE_HALVES
        and len(source.features) == 1
    ):
        source = flow.maker.get(source.features[0])
    if _kernel_size(flow, last) > 1:
        is_residual = source is not None and source.kind == "add" and len(source.features) > 1
        return before if is_residual else upsampled
    return upsampled if source is not None and _is_grouped(source) else before


def _stage(
    flow: Flow, axes: Mapping[str, int], scale: Scale, run: tuple[str, ...], start: str = ""
) -> Stage | None:
    """Find the blocks in a run at one resolution; None where there are none.

    A block can end at a convolution that sees neighbours, or at a join, but not at one with what
    was computed before `start`, on the way down. A dense convolution without activation between
    residual blocks is a transition, not a block.
    """

    def skips(step: Step) -> bool:
        branches = flow.branches(step)
        return any(flow.depth[name] < flow.depth.get(start, 0) for name in branches)

    line = [flow.steps[name] for name in run]
    anchors = [
        index
        for index, step in enumerate(line)
        if (step.kind != "combine" and flow.joins(step) and not skips(step))
        or (step.kind in CONVOLUTIONS and step.is_weighted and _kernel_size(flow, step) > 1)
    ]
    has_joins = any(line[anchor].kind in JOINS for anchor in anchors)
    ends: list[str] = []
    for index in anchors:
        anchor = line[index]
        end = _block_end(flow, axes, line, index, is_last=index == anchors[-1])
        is_dense = anchor.kind in CONVOLUTIONS and not _is_grouped(anchor)
        if not (has_joins and is_dense and flow.steps[end].kind not in ACTIVATIONS):
            ends.append(end)
    blocks = tuple(dict.fromkeys(ends))
    return Stage(scale=scale, values=run, blocks=blocks) if blocks else None


def _block_end(
    flow: Flow, axes: Mapping[str, int], line: Sequence[Step], anchor: int, *, is_last: bool
) -> str:
    """Extend a block from its anchor over the steps that still belong to it.

    After a join that is an activation or a channel shuffle; after a convolution its normalisation,
    activation and gate. After a grouped convolution, half of a separable one, a 1×1 convolution
    with the same follows. So does the 1×1 convolution that mixes what the last block of a stage has
    concatenated (CSPNet, VoVNet, DLA), unless it widens it: then it is the convolution before a
    classifier (ShuffleNetV2).
    """
    end = line[anchor]
    concatenates = end.kind == "concat" and is_last
    allowed = _AFTER_JOIN if end.kind in JOINS else _AFTER_CONVOLUTION
    may_mix = concatenates or (end.kind not in JOINS and _is_grouped(end))
    for index in range(anchor + 1, len(line)):
        step = line[index]
        if line[index - 1].kind != "combine" and flow.joins(step):
            break
        # 1-D convolutions add a row and take it away.
        if step.kind in {"squeeze", "unsqueeze"}:
            continue
        is_mixing = may_mix and step.kind in CONVOLUTIONS and _kernel_size(flow, step) == 1
        if is_mixing and not (concatenates and _widens(flow, step)):
            may_mix, allowed = False, _AFTER_CONVOLUTION
        elif concatenates and may_mix and step.kind == "multiply":
            continue
        elif step.kind not in allowed and not (step.kind == "add" and len(step.features) == 1):
            break
        if step.kind in ACTIVATIONS:
            allowed = allowed - ACTIVATIONS
            may_mix = may_mix and not concatenates
        start = line[anchor].result
        has_same_axis = axes[step.result] == axes[start]
        if has_same_axis and _rank_of_map(flow, step.result) == _rank_of_map(flow, start):
            end = step if step.kind not in IDENTITIES else end
    return end.result


def _rank_of_map(flow: Flow, name: str) -> int:
    """Return the rank without the single row that 1-D convolutions add and take away."""
    shape = flow.graph.values[name].shape or ()
    return len(shape) - (len(shape) == 4 and shape[2] == 1)


def _is_grouped(step: Step) -> bool:
    """Return whether a convolution has groups, as the depthwise half of a separable one."""
    groups = step.operator.attributes.get("groups")
    return isinstance(groups, int) and groups > 1


def _kernel_size(flow: Flow, step: Step) -> int:
    """Return the longest side of a convolution's kernel."""
    shapes = (flow.graph.values[name].shape for name in step.weights)
    return max(next((shape for shape in shapes if shape and len(shape) > 2), (1, 1, 1))[2:])


def _widens(flow: Flow, step: Step) -> bool:
    """Return whether a convolution has more output channels than input channels."""
    outputs, inputs = (flow.graph.values[step.weights[0]].shape or (1, 1))[:2]
    return outputs > inputs


class Tap(str, Enum):
    """Where in its block a Value is taken.

    Most published pairs are taken after the activation; overhaul (Heo et al. 2019, arXiv
    1904.01866) takes them before it, activation boundaries (Heo et al. 2019, arXiv 1811.03233) at
    the last convolution of a stage.
    """

    AFTER_ACTIVATION = "after-activation"
    BEFORE_ACTIVATION = "before-activation"
    BEFORE_NORM = "before-norm"
    LAST_CONVOLUTION = "last-convolution"


def taps_of(flow: Flow, end: str) -> Mapping[Tap, str]:
    """Return the Value of each tap that the block of a block output has.

    A block without an activation after its join has no tap after one, unless a normalisation with
    an activation reads it next, as in pre-activation networks. A block that ends in several
    concatenated activations has no tap before them.
    """
    found: dict[Tap, str] = {}
    is_activated = _is_activated(flow, end)
    after = end if is_activated else _activation_after(flow, end)
    if after is not None:
        found[Tap.AFTER_ACTIVATION] = after
    before = end
    if is_activated:
        step = flow.maker[end]
        # None can be taken before a fused activation, or before one of several.
        is_alone = step.kind in ACTIVATIONS and not ends_in_activation(step.operator)
        if not is_alone or not step.features:
            return found
        before = step.features[0]
    found[Tap.BEFORE_ACTIVATION] = before
    for step in _main_branch(flow, before):
        if step.kind in NORMS:
            found.setdefault(Tap.BEFORE_NORM, step.features[0])
        elif (
            step.kind in CONVOLUTIONS and step.is_weighted and not ends_in_activation(step.operator)
        ):
            found[Tap.LAST_CONVOLUTION] = step.result
    return found


def _is_activated(flow: Flow, name: str) -> bool:
    """Return whether a Value consists of activations, concatenated or rearranged at most."""
    pending, seen = [name], {name}
    while pending:
        step = flow.producer(pending.pop(), skip=_REARRANGING)
        if step is None:
            return False
        if step.kind == "concat":
            unseen = [branch for branch in flow.branches(step) if branch not in seen]
            seen.update(unseen)
            pending += unseen
        elif step.kind not in ACTIVATIONS and not ends_in_activation(step.operator):
            return False
    return True


def _activation_after(flow: Flow, end: str) -> str | None:
    """Return the activation that reads a block's output, or a normalisation of it."""
    for reader in flow.consumers.get(end, ()):
        step = reader
        if reader.kind in NORMS:
            step = next(iter(flow.consumers.get(reader.result, ())), reader)
        if step.kind in ACTIVATIONS:
            return step.result
    return None


def _main_branch(flow: Flow, name: str) -> Iterator[Step]:
    """Yield the steps before a Value back to a weighted one, along the deeper branch of a join."""
    step = flow.maker.get(name)
    while step is not None and step.features:
        yield step
        is_weighted = step.kind in CONVOLUTIONS | PRODUCTS and step.is_weighted
        if is_weighted or step.kind not in _WITHIN_BLOCK:
            return
        step = flow.maker.get(max(step.features, key=lambda name: (flow.depth[name], name)))
