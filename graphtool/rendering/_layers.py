"""Split steps into layers: a main Operator and those that follow it, such as an activation."""

from __future__ import annotations

from collections.abc import Iterable

from graphtool.ops import JOINS, POOLS, PRODUCTS, RECURRENT, REDUCTIONS, RESIZES
from graphtool.structure import Step

__all__ = ["layers_of", "starts_layer"]

_LAYER_OPS = frozenset(
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
_MAIN_KINDS = POOLS | RESIZES | PRODUCTS | RECURRENT | REDUCTIONS | _LAYER_OPS


def layers_of(steps: Iterable[Step]) -> tuple[tuple[Step, ...], ...]:
    """Split steps in program order at the start of each layer; leading steps join the first."""
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
    """Return whether a step is a layer's main Operator, not an activation or a reshape after it."""
    if step.is_weighted or step.kind in _MAIN_KINDS or step.operator.blocks:
        return True
    # PIR packs the operands of a concat in a `combine`, where the layer then starts.
    return step.kind in JOINS and len(step.features) > 1
