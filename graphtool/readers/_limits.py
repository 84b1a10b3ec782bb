"""Limits on files, far above those of real models, that bound the cost of malicious ones."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from graphtool.graph import UNKNOWN_DIM, Shape

__all__ = ["MAX_ENCLOSING_BLOCKS", "MAX_PATH_LENGTH", "ImpossibleShapeError", "checked_shape"]

# Every name inside a Block begins with its path: `while_0/0/if_3/1`.
MAX_PATH_LENGTH = 4_000
# Each `else` of `static.nn.case` adds one.
MAX_ENCLOSING_BLOCKS = 500
# Paddle's own tensors have at most 9 dims, and count their elements in 64 bits.
_MAX_DIMS = 32
_MAX_ELEMENTS = 2**63 - 1


class ImpossibleShapeError(ValueError):
    """No tensor can have this shape; the message says why."""


@lru_cache(maxsize=4096)
def checked_shape(dims: Shape) -> Shape:
    """Return the dims of a file as a shape, negative ones as unknown.

    Paddle before 2.0 computed with an unknown dim, -1, as if it were a size, so its files contain
    other negative dims.

    Raises ImpossibleShapeError.
    """
    if len(dims) > _MAX_DIMS:
        raise ImpossibleShapeError(f"{len(dims):,} dims")
    if prod(dim for dim in dims if dim > 0) > _MAX_ELEMENTS:
        raise ImpossibleShapeError("more elements than 64 bits count")
    return tuple(max(dim, UNKNOWN_DIM) for dim in dims)
