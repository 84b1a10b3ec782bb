"""The running mean and variance of a batch norm: parameters by storage, but nothing learns them."""

from __future__ import annotations

from collections.abc import Iterator

from graphtool.graph import Operator
from graphtool.structure._vocabulary import kind_of

__all__ = ["statistics_of"]

# Of a PIR operator's operands, which have no slots.
_PLACES = slice(1, 3)
_SLOTS = ("Mean", "Variance")


def statistics_of(operator: Operator) -> Iterator[str]:
    """Yield the running mean and variance: by slot in legacy programs, second and third in PIR."""
    if kind_of(operator) != "batch_norm":
        return
    places = (
        tuple(
            name
            for slot, name in zip(operator.slots, operator.operands, strict=True)
            if slot in _SLOTS
        )
        if operator.slots
        else operator.operands[_PLACES]
    )
    yield from (name for name in places if name is not None)
