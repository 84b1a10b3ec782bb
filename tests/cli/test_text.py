"""How numbers and shapes are written."""

from __future__ import annotations

from graphtool.cli._console import magnitude, percent
from graphtool.diagnostics import counted
from graphtool.graph import shape_text


def test_numbers_have_three_digits_and_a_letter() -> None:
    numbers = [0, 812, 1_000, 999_400, 999_999, 25_557_032, 4_089_184_256, 3 * 10**12]

    assert [*map(magnitude, numbers)] == [
        *("0", "812", "1 k", "999 k", "1 M", "25.6 M", "4.09 G", "3 T")
    ]


def test_unknown_dims_are_question_marks() -> None:
    assert [*map(shape_text, ((-1, 512, 7, 7), (), None))] == ["[?, 512, 7, 7]", "[]", "?"]


def test_small_shares_are_not_written_as_none() -> None:
    assert [percent(share) for share in (0.0, 0.001, 0.005, 1.0)] == ["0%", "<1%", "0%", "100%"]


def test_one_is_singular() -> None:
    assert [counted(number, "pair") for number in (0, 1, 2048)] == [
        "0 pairs",
        "1 pair",
        "2,048 pairs",
    ]
