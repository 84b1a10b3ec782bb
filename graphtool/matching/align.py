"""Which stages go together: an exact alignment in order, so that pairs never cross."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["align"]

_T = TypeVar("_T")
# Summed part by part, compared from the left: a reason decides where all before it leave a tie.
_Gain = tuple[float, ...]


def align(
    teacher: Sequence[_T], student: Sequence[_T], gain: Callable[[_T, _T], _Gain]
) -> list[tuple[_T, _T]]:
    """Match two sequences in order so that the summed gain is largest.

    Takes len(teacher) · len(student) gains.
    """
    best = _best(teacher, student, gain)
    pairs: list[tuple[_T, _T]] = []
    row, column = len(teacher), len(student)
    while row and column:
        if best[row][column] == best[row - 1][column]:
            row -= 1
        elif best[row][column] == best[row][column - 1]:
            column -= 1
        else:
            row, column = row - 1, column - 1
            pairs.append((teacher[row], student[column]))
    return pairs[::-1]


def _best(
    teacher: Sequence[_T], student: Sequence[_T], gain: Callable[[_T, _T], _Gain]
) -> list[list[_Gain]]:
    """Fill the table of largest gains of the first `row` and `column` items."""
    table: list[list[_Gain]] = [[()] * (len(student) + 1) for _ in range(len(teacher) + 1)]
    for row, left in enumerate(teacher, 1):
        for column, right in enumerate(student, 1):
            both = _plus(table[row - 1][column - 1], gain(left, right))
            table[row][column] = max(table[row - 1][column], table[row][column - 1], both)
    return table


def _plus(a: _Gain, b: _Gain) -> _Gain:
    return tuple(x + y for x, y in zip(a, b, strict=True)) if a else b
