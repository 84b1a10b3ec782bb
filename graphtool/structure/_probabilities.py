"""What stands before a softmax or a sigmoid, in a Graph and in a live Program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Normalised", "normalised"]

_Value = TypeVar("_Value")

# What hands a tensor on with other dims, or in another dtype, and none of its numbers changed.
_PASSING = frozenset({"assign", "cast", "flatten", "reshape", "squeeze", "transpose", "unsqueeze"})
_NORMALISING = {
    "softmax": "softmax",
    "softmax_with_cross_entropy": "softmax",
    "cross_entropy_with_softmax": "softmax",
    "sigmoid": "sigmoid",
}


@dataclass(frozen=True, slots=True)
class Normalised(Generic[_Value]):
    """Logits, and the function that made probabilities of them: `softmax` or `sigmoid`."""

    by: str
    logits: _Value


def normalised(
    value: _Value, made_from: Callable[[_Value], tuple[str, _Value] | None]
) -> Normalised[_Value] | None:
    """Return the logits that a Value holds the probabilities of, None where it holds none.

    `made_from` tells what kind of operator a Value comes from, and the first Value that it reads.
    """
    made = made_from(value)
    while made is not None and made[0] in _PASSING:
        made = made_from(made[1])
    if made is None or made[0] not in _NORMALISING:
        return None
    return Normalised(_NORMALISING[made[0]], made[1])
