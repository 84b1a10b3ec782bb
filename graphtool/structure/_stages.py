"""Stages: maximal runs of the main line at one resolution, and the block output that ends each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, takewhile

from graphtool.structure._chain import (
    ancestors,
    between,
    cuts,
    deepest_map,
    dependants,
    is_grouped,
    kernel_size,
    resolution_changes,
)
from graphtool.structure._dominators import Dominators
from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    JOINS,
    NORMS,
    RESHAPES,
)

__all__ = ["Stage", "stages_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A maximal run of the main line at one resolution.

    `values` are the Values that every path passes, `blocks` those of them in which a block ends,
    both in order.
    """

    scale: Scale
    values: tuple[str, ...]
    blocks: tuple[str, ...]

    @property
    def end(self) -> str:
        """The output of the last block."""
        return self.blocks[-1]


def stages_of(
    flow: Flow,
    scales: Mapping[str, Scale],
    axes: Mapping[str, int],
    tree: Dominators,
    classifier: str | None,
    levels: Mapping[Scale, Sequence[str]],
) -> tuple[Stage, ...]:
    """Find the stages from the input to the deepest map; empty for networks without maps.

    `classifier` names the logits where they are one vector: only maps on the way to them count
    then, since an auxiliary head may pool further. `levels` are the maps that heads compute, by
    resolution.
    """
    changes = resolution_changes(flow, scales)
    target = deepest_map(flow, scales, changes, tree, _backbone(flow, scales, classifier, levels))
    if target is None:
        return ()
    steps = between(flow, flow.graph.feeds, target)
    line = [name for name in cuts(flow, steps) if scales.get(name, GLOBAL) != GLOBAL]
    # Where the last weighted step gives a map, it holds class scores.
    head = None if classifier is None else flow.weighed(classifier)
    found: list[Stage] = []
    for (scale, _), run in groupby(line, key=lambda name: (scales[name], changes[name])):
        body = tuple(takewhile(lambda name: head is None or name != head.result, run))
        stage = _stage(flow, axes, scale, body)
        if stage is not None:
            found.append(stage)
    return tuple(found)


def _backbone(
    flow: Flow,
    scales: Mapping[str, Scale],
    classifier: str | None,
    levels: Mapping[Scale, Sequence[str]],
) -> Collection[str]:
    """Return what the deepest map is looked for among.

    What a detector adds behind its backbone (the P6 and P7 of an FPN) answers for one level alone,
    while all levels come from the end of the backbone, if that is coarser than the finest of them.
    What scores of boxes depend on has not what only the boxes come from.
    """
    if classifier is not None:
        return ancestors(flow, classifier, _SELECTING)
    if len(levels) < 2:
        return flow.steps.keys()
    tips = [tip for held in levels.values() for tip in held]
    shared = {name for name, count in dependants(flow, tips).items() if count == len(tips)}
    finest = max(scale.area for scale in levels)
    is_coarser = _least(scales, flow.steps) < _least(scales, shared) < finest
    return shared if is_coarser else flow.steps.keys()


# These read elements of their first operand at places that the others tell.
_SELECTING = frozenset({"gather", "gather_nd", "psroi_pool", "roi_align", "roi_pool"})


def _least(scales: Mapping[str, Scale], names: Iterable[str]) -> Fraction:
    """Return the least area of maps."""
    areas = (scales[name].area for name in names if scales.get(name, GLOBAL) != GLOBAL)
    return min(areas, default=GLOBAL.area)


def _stage(flow: Flow, axes: Mapping[str, int], scale: Scale, run: tuple[str, ...]) -> Stage | None:
    line = [flow.steps[name] for name in run]
    anchors = [index for index, step in enumerate(line) if _ends_block(flow, step)]
    found = [
        (line[anchor], _block_end(flow, axes, line, anchor, is_last=anchor == anchors[-1]))
        for anchor in anchors
    ]
    joined = any(anchor.kind in JOINS for anchor, _ in found)
    kept = [end for anchor, end in found if not (joined and _is_transition(flow, anchor, end))]
    ends = tuple(dict.fromkeys(kept))
    return Stage(scale=scale, values=run, blocks=ends) if ends else None


def _is_transition(flow: Flow, anchor: Step, end: str) -> bool:
    """Tell a dense convolution without activation, by which residual blocks change resolution."""
    if anchor.kind not in CONVOLUTIONS or is_grouped(anchor):
        return False
    return flow.steps[end].kind not in ACTIVATIONS


def _ends_block(flow: Flow, step: Step) -> bool:
    """Tell whether a block can end here: at a join, or at a convolution that sees neighbours."""
    if step.kind in JOINS:
        return _joins(flow, step)
    return step.kind in CONVOLUTIONS and step.weighted and kernel_size(flow, step) > 1


def _block_end(
    flow: Flow, axes: Mapping[str, int], line: Sequence[Step], anchor: int, *, is_last: bool
) -> str:
    """Walk on from an anchor over what still belongs to its block.

    After a join only an activation or a shuffle of channels follows; after a convolution its
    normalisation and activation and a gate; a grouped one is half of a separable convolution, so
    that one 1×1 convolution with the same belongs to it. So does the 1×1 convolution that mixes
    what the last block of a stage has concatenated (CSPNet, VoVNet, DLA), unless it widens it: then
    it is the convolution before a classifier (ShuffleNetV2).
    """
    end = line[anchor]
    concatenates = end.kind == "concat" and is_last
    allowed = _AFTER_JOIN if end.kind in JOINS else _AFTER_CONVOLUTION
    pointwise = concatenates or (end.kind not in JOINS and is_grouped(end))
    for place in range(anchor + 1, len(line)):
        step = line[place]
        if line[place - 1].kind != "combine" and _joins(flow, step):
            break
        if pointwise and _is_pointwise(flow, step) and not (concatenates and _widens(flow, step)):
            pointwise, allowed = False, _AFTER_CONVOLUTION
        elif concatenates and pointwise and step.kind == "multiply":
            continue
        elif step.kind not in allowed and not (step.kind == "add" and len(step.features) == 1):
            break
        if concatenates and step.kind in ACTIVATIONS:
            pointwise = False
        if step.kind not in IDENTITIES and _is_laid_out_alike(flow, axes, step, line[anchor]):
            end = step
    return end.result


def _is_laid_out_alike(flow: Flow, axes: Mapping[str, int], one: Step, other: Step) -> bool:
    ranks = (flow.graph.values[step.result].rank for step in (one, other))
    return axes[one.result] == axes[other.result] and len(set(ranks)) == 1


def _joins(flow: Flow, step: Step) -> bool:
    return step.kind in JOINS and len(flow.branches(step)) > 1


def _is_pointwise(flow: Flow, step: Step) -> bool:
    return step.kind in CONVOLUTIONS and kernel_size(flow, step) == 1


def _widens(flow: Flow, step: Step) -> bool:
    """Tell a convolution that gives more channels than it reads."""
    given, read = (flow.graph.values[step.weights[0]].shape or (1, 1))[:2]
    return given > read


_AFTER_JOIN = ACTIVATIONS | RESHAPES | IDENTITIES | {"concat"}
_AFTER_CONVOLUTION = ACTIVATIONS | NORMS | IDENTITIES | {"multiply"}
