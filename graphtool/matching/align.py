"""Align two sequences in order, exactly, so that pairs never cross."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["align"]

_T = TypeVar("_T")


def align(
    teacher: Sequence[_T], student: Sequence[_T], gain: Callable[[_T, _T], float]
) -> list[tuple[_T, _T]]:
    """Match two sequences in order so that the sum of gains is largest.

    Items without a positive gain stay unmatched. Computes len(teacher) · len(student) gains
    (Needleman and Wunsch 1970). Among equal sums the later items match, the student's before the
    teacher's.
    """
    gains = [
        [max(0.0, gain(of_teacher, of_student)) for of_student in student] for of_teacher in teacher
    ]
    best = _largest_sums(gains)
    pairs: list[tuple[_T, _T]] = []
    row, column = len(teacher), len(student)
    while row and column:
        here = gains[row - 1][column - 1]
        if here and best[row][column] == best[row - 1][column - 1] + here:
            row, column = row - 1, column - 1
            pairs.append((teacher[row], student[column]))
        elif best[row][column] == best[row - 1][column]:
            row -= 1
        else:
            column -= 1
    return pairs[::-1]


def _largest_sums(gains: Sequence[Sequence[float]]) -> list[list[float]]:
    """Fill the table of largest sums over the first `row` and `column` items."""
    width = len(gains[0]) if gains else 0
    table = [[0.0] * (width + 1) for _ in range(len(gains) + 1)]
    for row, line in enumerate(gains, 1):
        for column, here in enumerate(line, 1):
            matched = table[row - 1][column - 1] + here
            table[row][column] = max(table[row - 1][column], table[row][column - 1], matched)
    return table
