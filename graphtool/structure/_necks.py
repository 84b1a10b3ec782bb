"""Necks: what the heads read after the backbone, such as pyramid levels or a decoder's output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, islice

from graphtool.ops import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    NORMS,
    POOLS,
    RECURRENT,
    RESHAPES,
    RESIZES,
)
from graphtool.structure._dominators import Dominators, ancestors
from graphtool.structure._flow import Flow
from graphtool.structure._heads import Head
from graphtool.structure._layouts import GLOBAL, Scale

__all__ = ["Neck", "levels_of", "necks_of"]

# What may follow the map of one level before all levels are concatenated.
_AFTER_LEVEL = RESHAPES | IDENTITIES | ACTIVATIONS | {"softmax", "slice", "split"}
_CROPPING = frozenset({"roi_align", "roi_pool", "psroi_pool"})
_RESIZING = POOLS | RESIZES | {"pad", "pad3d"}
_AFTER_CONVOLUTION = NORMS | ACTIVATIONS | IDENTITIES | {"add"}


@dataclass(frozen=True, slots=True)
class Neck:
    """A Value after the backbone that heads read; `description` is for the user."""

    value: str
    description: str


def levels_of(
    flow: Flow, scales: Mapping[str, Scale], heads: Sequence[Head]
) -> Mapping[Scale, Sequence[str]]:
    """Group the maps that heads compute by resolution."""
    groups: dict[Scale, list[str]] = {}
    for head in heads:
        for tip in _tips(flow, head.logits):
            scale = scales.get(tip, GLOBAL)
            if scale != GLOBAL and tip in flow.features:
                groups.setdefault(scale, []).append(tip)
    return groups


def _tips(flow: Flow, logits: str) -> Iterator[str]:
    """Yield the maps that an output concatenates: detectors do so with all levels."""
    step = flow.producer(logits, skip=_AFTER_LEVEL)
    if step is None or step.kind != "concat":
        yield logits
        return
    for name in flow.branches(step):
        tip = flow.producer(name, skip=_AFTER_LEVEL)
        yield name if tip is None else tip.result


def necks_of(
    flow: Flow,
    scales: Mapping[str, Scale],
    tree: Dominators,
    levels: Mapping[Scale, Sequence[str]],
    deepest: str | None,
) -> tuple[Neck, ...]:
    """Return what the heads read, the finest level first; () where that is the backbone itself.

    `levels` are the maps that heads compute, by resolution; `deepest` is the last Value of the
    backbone. Where several heads read one level (classes and boxes), the neck is their nearest
    common dominator; where one does, it is what its last weighted Operator reads. Where regions are
    cut from several levels, these are the necks. Layers that all heads begin with are no neck. A
    single level also has the last join before the head.
    """
    if deepest is None:
        return ()
    cropped = dict.fromkeys(
        step.features[0] for step in flow.steps.values() if step.kind in _CROPPING and step.features
    )
    areas = {name: scales[name].area for name in cropped if _is_after(flow, scales, name, deepest)}
    if len(levels) < 2 and len(set(areas.values())) > 1:
        found = sorted(areas, key=lambda name: -areas[name])
        return tuple(
            Neck(name, f"level {index} of {len(found)} that regions are cut from")
            for index, name in enumerate(found, 1)
        )
    read: list[str] = []
    for scale in sorted(levels, key=lambda scale: scale.area):
        # Beside an auxiliary head, the first of a level may have a neck of its own.
        choices = (_read_by_heads(flow, tree, tips) for tips in (levels[scale], levels[scale][:1]))
        found = (name for name in choices if name and _is_after(flow, scales, name, deepest))
        read += islice(found, 1)
    if len(levels) > 1:
        counts = Counter(name for step in flow.steps.values() for name in step.weights)
        shared = {name for name, count in counts.items() if count > 1}
        before = [_before_shared(flow, name, shared) for name in read]
        before = [name for name in before if _is_after(flow, scales, name, deepest)]
        read = list(_before_heads(flow, tree, before, flow.depth[deepest]) if before else ())
        read = list(dict.fromkeys(_before_resizing(flow, name) for name in read))
        words = (f"level {index} of {len(read)} that the heads read" for index in count(1))
        return tuple(map(Neck, reversed(read), words))
    joins = [
        name
        for name in _last_join(flow, tree, levels)
        if name not in read and _is_after(flow, scales, name, deepest)
    ]
    return (
        *(Neck(name, "what the head reads") for name in read),
        *(Neck(name, "the last join before the head") for name in joins),
    )


def _before_resizing(flow: Flow, name: str) -> str:
    """Skip back over what makes a level larger or smaller without weights."""
    step = flow.maker[name]
    while step.kind in _RESIZING and step.features and step.features[0] in flow.maker:
        step = flow.maker[step.features[0]]
    return step.result


def _is_after(flow: Flow, scales: Mapping[str, Scale], name: str, deepest: str) -> bool:
    return flow.depth[name] > flow.depth[deepest] and scales.get(name, GLOBAL) != GLOBAL


def _read_by_heads(flow: Flow, tree: Dominators, tips: Sequence[str]) -> str | None:
    """Return what the heads of one level read."""
    if len(tips) > 1:
        return tree.nearest_common(tips)
    weighted = flow.last_weighted(tips[0])
    # A head that upsamples its map continues before that.
    if weighted is None or not weighted.features or weighted.kind.endswith("transpose"):
        return None
    return weighted.features[0]


def _before_shared(flow: Flow, level: str, shared: Collection[str]) -> str:
    """Skip back over convolutions with shared weights: they belong to the head, not the level."""
    while True:
        step = flow.producer(level, skip=_AFTER_CONVOLUTION)
        if (
            step is None
            or step.kind not in CONVOLUTIONS
            or not step.is_weighted
            or not step.features
        ):
            return level
        if step.weights[0] not in shared:
            return level
        level = step.features[0]


def _before_heads(
    flow: Flow, tree: Dominators, levels: Sequence[str], backbone: int
) -> Sequence[str]:
    """Skip back over the convolutions that the heads of all levels begin with (YOLOX, PicoDet).

    Where a neck goes up again (PAN), each level but the last, the coarsest, is read by the next.
    Its head begins after that, and the head of the last level has as many convolutions. `backbone`
    is the depth at which the neck begins.
    """
    chains = [
        tuple(one for one in (name, *tree.strict_dominators(name)) if flow.depth[one] > backbone)
        for name in levels
    ]
    found: list[tuple[str, int]] = []
    for index, chain in enumerate(chains[1:], 1):
        reached = ancestors(flow, chains[index - 1][0])
        start = next((i for i, name in enumerate(chain) if name in reached), None)
        if start is None:
            return levels
        found.append((chain[start], _count_convolutions(flow, chain[:start])))
    if not found or len({count for _, count in found}) > 1:
        return levels
    coarsest, head_length = chains[0], found[0][1]
    counts = accumulate((_count_convolutions(flow, (name,)) for name in coarsest), initial=0)
    starts = (x for x, count in zip(coarsest, counts, strict=False) if count == head_length)
    return (next(starts, coarsest[0]), *(name for name, _ in found))


def _count_convolutions(flow: Flow, names: Sequence[str]) -> int:
    steps = (flow.maker.get(name) for name in names)
    return sum(
        step is not None and step.kind in CONVOLUTIONS and step.is_weighted for step in steps
    )


def _last_join(
    flow: Flow, tree: Dominators, levels: Mapping[Scale, Sequence[str]]
) -> Iterator[str]:
    """Yield the nearest join or recurrent layer that dominates the only level."""
    for tips in levels.values():
        for name in tree.strict_dominators(tips[0]):
            step = flow.maker[name]
            is_join = step.kind in {"add", "concat"} and len(flow.branches(step)) > 1
            if is_join or step.kind in RECURRENT:
                yield name
                return
