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
    PRODUCTS,
    RESHAPES,
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
    reads it is a normalisation with an activation, as in pre-activation networks.
    """
    found: dict[Tap, str] = {}
    after = _after_activation(flow, end)
    if after is not None:
        found[Tap.AFTER_ACTIVATION] = after
    before = _before_activation(flow, end)
    found[Tap.BEFORE_ACTIVATION] = before
    for step in _main_branch(flow, before):
        if step.kind in NORMS:
            found.setdefault(Tap.BEFORE_NORM, step.features[0])
        elif step.kind in CONVOLUTIONS and step.weighted:
            found[Tap.LAST_CONVOLUTION] = step.result
    return found


def _after_activation(flow: Flow, end: str) -> str | None:
    """Return the activation that ends a block or, where there is none, that reads its output."""
    step = flow.maker.get(end)
    while step is not None and step.features and step.kind in RESHAPES | IDENTITIES | {"concat"}:
        step = flow.maker.get(step.features[0])
    if step is not None and step.kind in ACTIVATIONS:
        return end
    for reader in flow.consumers.get(end, ()):
        step = reader
        if reader.kind in NORMS:
            step = next(iter(flow.consumers.get(reader.result, ())), reader)
        if step.kind in ACTIVATIONS:
            return step.result
    return None


def _before_activation(flow: Flow, end: str) -> str:
    step = flow.maker.get(end)
    is_active = step is not None and step.kind in ACTIVATIONS and step.features
    return step.features[0] if step is not None and is_active else end


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


_PASSED = NORMS | IDENTITIES | RESHAPES | JOINS | {"multiply"}
