"""What a network returns besides tensors, which a Program has no place for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

__all__ = ["left_out"]

# What `forward` returns may be anything; the tensors in it are Paddle's.
_Returned: TypeAlias = Any


def left_out(outputs: _Returned, place: str = "") -> Iterator[str]:
    """Name what is neither a tensor nor None nor a list, tuple or dict of such: `["a"][2]: int`."""
    if outputs is None or hasattr(outputs, "stop_gradient"):
        return
    if isinstance(outputs, dict):
        listed = cast("Mapping[_Returned, _Returned]", outputs).items()
    elif isinstance(outputs, list | tuple):
        listed = enumerate(cast("Sequence[_Returned]", outputs))
    else:
        yield f"`{place}`: {type(outputs).__name__}" if place else type(outputs).__name__
        return
    for key, item in listed:
        yield from left_out(item, f"{place}[{key!r}]")
