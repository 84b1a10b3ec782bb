"""What the heads read behind the backbone: the levels of a pyramid, the output of a decoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, count

from graphtool.structure._chain import ancestors
from graphtool.structure._dominators import Dominators
from graphtool.structure._flow import Flow, Step
from graphtool.structure._outputs import Head
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    NORMS,
    RECURRENT,
    RESHAPES,
)

__all__ = ["Neck", "levels_of", "necks_of"]

# What lies between the map that a head computes at one level and what joins all levels.
_BEHIND_A_LEVEL = RESHAPES | IDENTITIES | ACTIVATIONS | {"softmax", "slice", "split"}


@dataclass(frozen=True, slots=True)
class Neck:
    """A Value behind the backbone that heads read, directly or not; `what` says so in words."""

    value: str
    what: str


def necks_of(
    flow: Flow,
    scales: Mapping[str, Scale],
    tree: Dominators,
    levels: Mapping[Scale, Sequence[str]],
    deepest: str | None,
) -> tuple[Neck, ...]:
    """Return what the heads read, the coarsest level first; () where that is the backbone itself.

    `levels` are the maps that heads compute, by resolution, `deepest` is the last Value of the
    backbone. Where several heads read one level (classes and boxes), the level is the nearest Value
    that all of them come from; where one does, what its last weighted Operator reads. What heads
    begin with in common is no neck. A single level has the last join before the head as well.
    """
    if deepest is None:
        return ()
    found = [_read_by(flow, tree, levels[scale]) for scale in sorted(levels, key=_area)]
    read = [name for name in found if name and _is_behind(flow, scales, name, deepest)]
    if len(levels) > 1:
        shared = _shared_weights(flow)
        before = [_before_shared(flow, name, shared) for name in read]
        before = [name for name in before if _is_behind(flow, scales, name, deepest)]
        read = _before_heads(flow, tree, before, flow.depth[deepest]) if before else ()
        words = (f"level {index} of {len(read)} that the heads read" for index in count(1))
        return tuple(map(Neck, read, words))
    joins = [
        name
        for name in _last_join(flow, tree, levels)
        if name not in read and _is_behind(flow, scales, name, deepest)
    ]
    return (
        *(Neck(name, "what the head reads") for name in read),
        *(Neck(name, "the last join before the head") for name in joins),
    )


def _area(scale: Scale) -> Fraction:
    return scale.area


def _is_behind(flow: Flow, scales: Mapping[str, Scale], name: str, deepest: str) -> bool:
    return flow.depth[name] > flow.depth[deepest] and scales.get(name, GLOBAL) != GLOBAL


def levels_of(
    flow: Flow, scales: Mapping[str, Scale], heads: Sequence[Head]
) -> Mapping[Scale, Sequence[str]]:
    """Group the maps that heads compute by resolution."""
    groups: dict[Scale, list[str]] = {}
    for head in heads:
        for tip in _tips(flow, head.logits):
            scale = scales.get(tip, GLOBAL)
            if scale != GLOBAL:
                groups.setdefault(scale, []).append(tip)
    return groups


def _tips(flow: Flow, logits: str) -> Iterator[str]:
    """Yield the maps that an output is joined from, as detectors do with all their levels."""
    step = flow.past(logits, _BEHIND_A_LEVEL)
    if step is None or step.kind != "concat":
        yield logits
        return
    for name in flow.branches(step):
        behind = flow.past(name, _BEHIND_A_LEVEL)
        yield name if behind is None else behind.result


def _read_by(flow: Flow, tree: Dominators, tips: Sequence[str]) -> str | None:
    """Return what the heads of one level read."""
    if len(tips) > 1:
        return tree.common(tips)
    weighted = flow.weighed(tips[0])
    # A head that enlarges its map goes on inside itself.
    if weighted is None or not weighted.features or weighted.kind.endswith("transpose"):
        return None
    return weighted.features[0]


def _shared_weights(flow: Flow) -> Collection[str]:
    """Return the weights that several forward Operators read."""
    counts = Counter(name for step in flow.steps.values() for name in step.weights)
    return {name for name, count in counts.items() if count > 1}


def _before_shared(flow: Flow, level: str, shared: Collection[str]) -> str:
    """Go back over convolutions that other levels have in common: they belong to the head."""
    step = _weighted_behind(flow, level)
    while step is not None and step.weights[0] in shared:
        level = step.features[0]
        step = _weighted_behind(flow, level)
    return level


def _weighted_behind(flow: Flow, name: str) -> Step | None:
    """Return the convolution that makes a map, past its normalisation and activation."""
    step = flow.past(name, _BEHIND_A_CONVOLUTION)
    is_one = step is not None and step.kind in CONVOLUTIONS and step.weighted and step.features
    return step if is_one else None


_BEHIND_A_CONVOLUTION = NORMS | ACTIVATIONS | IDENTITIES | {"add"}


def _before_heads(
    flow: Flow, tree: Dominators, levels: Sequence[str], backbone: int
) -> Sequence[str]:
    """Go back over what the head of each level begins with (YOLOX, PicoDet).

    Where a neck goes up again (PAN), each level but the last, which is the coarsest, is read by the
    next; heads begin behind that, and have as many convolutions at the last one. `backbone` is the
    depth at which the neck begins.
    """
    chains = [
        tuple(above for above in (name, *tree.above(name)) if flow.depth[above] > backbone)
        for name in levels
    ]
    found: list[tuple[str, int]] = []
    for index, chain in enumerate(chains[1:], 1):
        reached = ancestors(flow, chains[index - 1][0])
        place = next((i for i, name in enumerate(chain) if name in reached), None)
        if place is None:
            return levels
        found.append((chain[place], _convolutions(flow, chain[:place])))
    if not found or len({passed for _, passed in found}) > 1:
        return levels
    last = chains[0]
    passed = accumulate((_convolutions(flow, (name,)) for name in last), initial=0)
    alike = (name for name, held in zip(last, passed, strict=False) if held == found[0][1])
    return (next(alike, last[0]), *(name for name, _ in found))


def _convolutions(flow: Flow, names: Sequence[str]) -> int:
    steps = (flow.maker.get(name) for name in names)
    return sum(step is not None and step.kind in CONVOLUTIONS and step.weighted for step in steps)


def _last_join(
    flow: Flow, tree: Dominators, levels: Mapping[Scale, Sequence[str]]
) -> Iterator[str]:
    """Yield the nearest join, or recurrent layer, that the only level comes from."""
    for tips in levels.values():
        for above in tree.above(tips[0]):
            step = flow.maker[above]
            is_join = step.kind in {"add", "concat"} and len(flow.branches(step)) > 1
            if is_join or step.kind in RECURRENT:
                yield above
                return
