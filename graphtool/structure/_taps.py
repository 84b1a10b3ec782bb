"""Taps: the places in one block where a Value can be taken, all for the same block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from graphtool.structure._flow import Flow, Step
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    JOINS,
    NORMS,
    POOLS,
    PRODUCTS,
    RESHAPES,
    ends_in_activation,
)

__all__ = ["Tap", "taps_of"]


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


_WEIGHTED = CONVOLUTIONS | PRODUCTS


def taps_of(flow: Flow, end: str) -> Mapping[Tap, str]:
    """Return the Value of each tap that the block of a block output has.

    A block without an activation behind its join has no tap after one, unless the next thing that
    reads it is a normalisation with an activation, as in pre-activation networks. One that ends in
    several activations, concatenated, has no tap before them.
    """
    found: dict[Tap, str] = {}
    activated = _is_activated(flow, end)
    after = end if activated else _activation_behind(flow, end)
    if after is not None:
        found[Tap.AFTER_ACTIVATION] = after
    before = _before_activation(flow, end) if activated else end
    if before is None:
        return found
    found[Tap.BEFORE_ACTIVATION] = before
    for step in _main_branch(flow, before):
        if step.kind in NORMS:
            found.setdefault(Tap.BEFORE_NORM, step.features[0])
        elif step.kind in CONVOLUTIONS and step.weighted and not ends_in_activation(step.operator):
            found[Tap.LAST_CONVOLUTION] = step.result
    return found


def _is_activated(flow: Flow, name: str) -> bool:
    """Tell whether all of a Value comes from activations, concatenated or rearranged at most."""
    pending, seen = [name], {name}
    while pending:
        step = flow.past(pending.pop(), _REARRANGED)
        if step is None:
            return False
        if step.kind == "concat":
            fresh = [branch for branch in flow.branches(step) if branch not in seen]
            seen.update(fresh)
            pending += fresh
        elif step.kind not in ACTIVATIONS and not ends_in_activation(step.operator):
            return False
    return True


def _activation_behind(flow: Flow, end: str) -> str | None:
    """Return the activation that reads a block's output, or its normalisation."""
    for reader in flow.consumers.get(end, ()):
        step = reader
        if reader.kind in NORMS:
            step = next(iter(flow.consumers.get(reader.result, ())), reader)
        if step.kind in ACTIVATIONS:
            return step.result
    return None


def _before_activation(flow: Flow, end: str) -> str | None:
    """Return what the activation of a block reads; None where it is fused, or one of several."""
    step = flow.maker[end]
    if step.kind not in ACTIVATIONS or ends_in_activation(step.operator):
        return None
    return step.features[0] if step.features else None


def _main_branch(flow: Flow, name: str) -> Iterator[Step]:
    """Yield the steps before a Value, up to what weighs it; at a join along the deeper branch."""
    step = flow.maker.get(name)
    while step is not None and step.features:
        yield step
        if step.kind in _WEIGHTED and step.weighted:
            return
        if step.kind not in _PASSED:
            return
        step = flow.maker.get(max(step.features, key=lambda name: (flow.depth[name], name)))


_REARRANGED = RESHAPES | IDENTITIES | POOLS | {"split", "split_with_num", "slice"}
_PASSED = NORMS | IDENTITIES | RESHAPES | JOINS | {"multiply"}
