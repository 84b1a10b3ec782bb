"""What stands before a softmax, in a Graph and in a live Program."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["softmax_input"]

_Value = TypeVar("_Value")

# What hands a tensor on with other dims, or in another dtype, and none of its numbers changed.
_PASSING = frozenset({"assign", "cast", "flatten", "reshape", "squeeze", "transpose", "unsqueeze"})
_SOFTMAX = frozenset({"softmax", "softmax_with_cross_entropy", "cross_entropy_with_softmax"})


def softmax_input(
    value: _Value, made_from: Callable[[_Value], tuple[str, _Value] | None]
) -> _Value | None:
    """Return what went into the softmax that a Value comes from, None where it comes from none.

    `made_from` tells what kind of operator a Value comes from, and the first Value that it reads.
    """
    made = made_from(value)
    while made is not None and made[0] in _PASSING:
        made = made_from(made[1])
    return made[1] if made is not None and made[0] in _SOFTMAX else None
