"""Layers: an Operator that does the work, with what only follows it, such as an activation."""

from __future__ import annotations

from collections.abc import Iterable

from graphtool.structure import JOINS, POOLS, PRODUCTS, RECURRENT, REDUCTIONS, RESIZES, Step

__all__ = ["layers_of", "starts_layer"]

_ENDINGS = frozenset(
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
_WORK = POOLS | RESIZES | PRODUCTS | RECURRENT | REDUCTIONS | _ENDINGS


def layers_of(steps: Iterable[Step]) -> tuple[tuple[Step, ...], ...]:
    """Split steps in program order where a layer starts; what comes before the first joins it."""
    layers: list[list[Step]] = []
    started = False
    for step in steps:
        starts = starts_layer(step)
        if not layers or (starts and started):
            layers.append([])
        started = started or starts
        layers[-1].append(step)
    return tuple(map(tuple, layers))


def starts_layer(step: Step) -> bool:
    """Tell a step that does work of its own from one that only dresses what went before."""
    if step.weighted or step.kind in _WORK or step.operator.blocks:
        return True
    # PIR packs what a concat joins with a combine, at which the layer then starts.
    return step.kind in JOINS and len(step.features) > 1
