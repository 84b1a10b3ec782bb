"""Stages: maximal runs of the main line at one resolution, and the block output that ends each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from graphtool.structure._chain import between, cuts, deepest_map, resolution_changes
from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import GLOBAL, Scale, channels_last
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

    `end` is the output of its last block, `start` that of its first, `values` all main-line Values (cuts) in order,
    `blocks` the number of joins or k>1 convolutions that end a block.
    """

    scale: Scale
    start: str
    end: str
    values: tuple[str, ...]
    blocks: tuple[str, ...]


def stages_of(flow: Flow, scales: Mapping[str, Scale]) -> tuple[Stage, ...]:
    """Find the stages from the input to the deepest map; empty for networks without maps."""
    target = deepest_map(flow, scales)
    if target is None:
        return ()
    steps = between(flow, flow.graph.feeds, target)
    line = [name for name in cuts(flow, steps) if scales.get(name, GLOBAL) != GLOBAL]
    changes = resolution_changes(flow, scales)
    found: list[Stage] = []
    for (scale, _), run in groupby(line, key=lambda name: (scales[name], changes[name])):
        stage = _stage(flow, scale, tuple(run))
        if stage is not None:
            found.append(stage)
    return tuple(found)


def _stage(flow: Flow, scale: Scale, run: tuple[str, ...]) -> Stage | None:
    line = [name for name in cuts(flow, steps) if scales.get(name, GLOBAL) != GLOBAL]
    changes = resolution_changes(flow, scales)
    found: list[Stage] = []
    for (scale, _), run in groupby(line, key=lambda name: (scales[name], changes[name])):
        stage = _stage(flow, scale, tuple(run))
        if stage is not None:
            found.append(stage)
    return tuple(found)


def _stage(flow: Flow, scale: Scale, run: tuple[str, ...]) -> Stage | None:
    levels = flow.depth[run[0]], flow.depth[run[-1]]
    line = [flow.steps[name] for name in run]
    anchors = [step for step in line if _ends_block(flow, step)]
    ends = list(dict.fromkeys(_block_end(flow, anchor, line) for anchor in anchors))
    if not ends:
        return None
    return Stage(scale=scale, start=ends[0], end=ends[-1], values=run, blocks=tuple(ends))


def _ends_block(flow: Flow, step: Step) -> bool:
    """Tell whether a step can end a block: a join of features, or a weighted convolution that sees neighbours."""
    if step.kind in JOINS:
        return len(step.features) > 1 or step.kind == "concat"
    return step.kind in CONVOLUTIONS and step.weighted and _kernel_size(flow, step) > 1


def _kernel_size(flow: Flow, step: Step) -> int:
    shapes = (flow.graph.values[name].shape for name in step.weights)
    shape = next((shape for shape in shapes if shape and len(shape) > 2), (1, 1, 1))
    return max(shape[2:])


def _block_end(flow: Flow, anchor: Step, line: Sequence[Step]) -> str:
    """Walk on from an anchor over what still belongs to its block.

    After a join only an activation or a shuffle of channels follows; after a convolution its normalisation and activation, a gate, and
    one 1×1 convolution with the same.
    """
    joined = anchor.kind in JOINS
    allowed = _AFTER_JOIN if joined else _AFTER_CONVOLUTION
    end, pointwise = anchor, not joined
    for step in line[line.index(anchor) + 1 :]:
        if pointwise and step.kind in CONVOLUTIONS and _kernel_size(flow, step) == 1:
            pointwise = False
        elif step.kind not in allowed and not (step.kind == "add" and len(step.features) == 1):
            break
        end = step
    return end.result


_AFTER_JOIN = ACTIVATIONS | RESHAPES | IDENTITIES | {"concat"}
_AFTER_CONVOLUTION = ACTIVATIONS | NORMS | IDENTITIES | {"multiply"}
