"""Stages: maximal runs of the main line at one resolution, and the block output that ends each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from graphtool.structure._chain import (
    between,
    cuts,
    deepest_map,
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
) -> tuple[Stage, ...]:
    """Find the stages from the input to the deepest map; empty for networks without maps.

    `classifier` names the logits where they are one vector: only maps on the way to them count
    then, since an auxiliary head may pool further.
    """
    target = deepest_map(flow, scales, tree, classifier)
    if target is None:
        return ()
    steps = between(flow, flow.graph.feeds, target)
    line = [name for name in cuts(flow, steps) if scales.get(name, GLOBAL) != GLOBAL]
    changes = resolution_changes(flow, scales)
    found: list[Stage] = []
    for (scale, _), run in groupby(line, key=lambda name: (scales[name], changes[name])):
        stage = _stage(flow, axes, scale, tuple(run))
        if stage is not None:
            found.append(stage)
    return tuple(found)


def _stage(flow: Flow, axes: Mapping[str, int], scale: Scale, run: tuple[str, ...]) -> Stage | None:
    line = [flow.steps[name] for name in run]
    anchors = [index for index, step in enumerate(line) if _ends_block(flow, step)]
    found = [(line[anchor], _block_end(flow, axes, line, anchor)) for anchor in anchors]
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
        return len(flow.branches(step)) > 1
    return step.kind in CONVOLUTIONS and step.weighted and kernel_size(flow, step) > 1


def _block_end(flow: Flow, axes: Mapping[str, int], line: Sequence[Step], anchor: int) -> str:
    """Walk on from an anchor over what still belongs to its block.

    After a join only an activation or a shuffle of channels follows; after a convolution its
    normalisation and activation and a gate; a grouped one is half of a separable convolution, so
    that one 1×1 convolution with the same belongs to it.
    """
    end = line[anchor]
    allowed = _AFTER_JOIN if end.kind in JOINS else _AFTER_CONVOLUTION
    pointwise = end.kind not in JOINS and is_grouped(end)
    for place in range(anchor + 1, len(line)):
        step = line[place]
        if pointwise and step.kind in CONVOLUTIONS and kernel_size(flow, step) == 1:
            pointwise = False
        elif step.kind not in allowed and not (step.kind == "add" and len(step.features) == 1):
            break
        if step.kind not in IDENTITIES and axes[step.result] == axes[line[anchor].result]:
            end = step
    return end.result


_AFTER_JOIN = ACTIVATIONS | RESHAPES | IDENTITIES | {"concat"}
_AFTER_CONVOLUTION = ACTIVATIONS | NORMS | IDENTITIES | {"multiply"}
