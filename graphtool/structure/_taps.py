"""Taps: where in a block a Value can be taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from graphtool.ops import (
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
from graphtool.structure._flow import Flow, Step

__all__ = ["Tap", "taps_of"]

_REARRANGING = RESHAPES | IDENTITIES | POOLS | {"split", "split_with_num", "slice"}
_WITHIN_BLOCK = NORMS | IDENTITIES | RESHAPES | JOINS | {"multiply"}


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
    before = _before_activation(flow, end) if is_activated else end
    if before is None:
        return found
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


def _before_activation(flow: Flow, end: str) -> str | None:
    """Return what the activation of a block reads; None if it is fused or one of several."""
    step = flow.maker[end]
    if step.kind not in ACTIVATIONS or ends_in_activation(step.operator):
        return None
    return step.features[0] if step.features else None


def _main_branch(flow: Flow, name: str) -> Iterator[Step]:
    """Yield the steps before a Value back to a weighted one, along the deeper branch of a join."""
    step = flow.maker.get(name)
    while step is not None and step.features:
        yield step
        is_weighted = step.kind in CONVOLUTIONS | PRODUCTS and step.is_weighted
        if is_weighted or step.kind not in _WITHIN_BLOCK:
            return
        step = flow.maker.get(max(step.features, key=lambda name: (flow.depth[name], name)))
