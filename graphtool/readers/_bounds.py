"""What a file may hold at most: honest ones are far from it, others would cost without end."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from graphtool.graph import UNKNOWN, Shape

__all__ = ["LONGEST_PATH", "MOST_BLOCKS_AROUND", "ImpossibleShapeError", "shape_of"]

# Every name inside of a Block begins with its path: `while_0/0/if_3/1`.
LONGEST_PATH = 4_000
# Each `else` of `static.nn.case` is one more.
MOST_BLOCKS_AROUND = 500
# Paddle's own tensors have at most 9 dims, and count their elements in 64 bits.
_MOST_DIMS = 32
_MOST_ELEMENTS = 2**63 - 1


class ImpossibleShapeError(ValueError):
    """No tensor has that shape; the message says what it has."""


@lru_cache(maxsize=4096)
def shape_of(dims: Shape) -> Shape:
    """Return a shape for the dims that a file gives, negative ones as unknown.

    Paddle before 2.0 computed with an unknown dim, -1, as if it were a size: its files have others.

    Raises ImpossibleShapeError.
    """
    if len(dims) > _MOST_DIMS:
        raise ImpossibleShapeError(f"{len(dims):,} dims")
    if prod(dim for dim in dims if dim > 0) > _MOST_ELEMENTS:
        raise ImpossibleShapeError("more elements than 64 bits count")
    return tuple(max(dim, UNKNOWN) for dim in dims)
