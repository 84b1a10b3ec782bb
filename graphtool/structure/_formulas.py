"""Activations that are written out as their formula: `x · sigmoid(x)` is a swish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphtool.structure._step import Step
from graphtool.structure._vocabulary import ACTIVATIONS, IDENTITIES

__all__ = ["as_activation"]

# What a formula holds besides its activation; none of it sees another element.
_POINTWISE = ACTIVATIONS | IDENTITIES | {"add", "subtract", "multiply", "divide", "pow", "erf"}
# The longest is gelu by tanh: x³ as two products, two sums, two factors, tanh.
_LONGEST = 12
# What a product of x with a function of x is, by what that function holds.
_BY_PART: Mapping[str, str] = {
    "softplus": "mish",
    "erf": "gelu",
    "tanh": "gelu",
    "sigmoid": "swish",
    "relu6": "hardswish",
    "hardsigmoid": "hardswish",
    "clip": "hardswish",
}


def as_activation(step: Step, steps: Mapping[str, Step], depth: Mapping[str, int]) -> Step:
    """Return the last step of such a formula as the activation that it is, any other as it is.

    `steps` are those before it, by their result. Its one feature is x then. A factor behind the
    product (x · relu6(x + 3) / 6) makes an activation of x too.
    """
    before = steps.get(step.features[0]) if len(step.features) == 1 else None
    if step.kind == "scale" and before is not None and before.is_formula:
        return replace(step, kind=before.kind, features=before.features)
    if step.kind != "multiply" or step.weights or len(step.features) != 2:
        return step
    parts, pending = set[str](), set(step.features)
    for _ in range(_LONGEST):
        if len(pending) == 1:
            break
        name = max(pending, key=lambda one: (depth.get(one, 0), one))
        inner = steps.get(name)
        if inner is None or inner.weights or inner.kind not in _POINTWISE:
            return step
        parts.add(inner.kind)
        pending = pending - {name} | set(inner.data)
    kind = next((kind for part, kind in _BY_PART.items() if part in parts), None)
    if kind is None or len(pending) > 1:
        return step
    return replace(step, kind=kind, features=tuple(pending))
