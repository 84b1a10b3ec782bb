"""What is stored holds on every processor, and nothing else does."""

from __future__ import annotations

import pytest

from tests.printed import as_stored


@pytest.mark.parametrize(
    ("stored", "printed"),
    [
        # AVX-512 beside SSE2, after 1 and after 10 steps.
        ("step 10: 27.5 14.5\n", "step 10: 27.6 14.6\n"),
        ("27.505337 14.523839", "27.575588 14.570838"),
        ("1.0e-05, -0.143", "9.9e-06, -0.144"),
        ("0.25 is round(x, 4)", "0.2501 is round(x, 4)"),
        ("0.000", "-0.000"),
        ("took … s at 0.513\ndone", "took 3.2 s at 0.514\ndone"),
        ("15.234…", "15.23417"),
    ],
)
def test_another_order_of_sums_prints_the_same(stored: str, printed: str) -> None:
    assert as_stored(stored, printed)


@pytest.mark.parametrize(
    ("stored", "printed"),
    [
        ("loss 27.5", "loss 27.9"),
        ("loss 27.5", "cost 27.5"),
        ("loss 2.00", "loss 2.03"),
        ("1 of 20", "2 of 20"),
        ("98%", "97%"),
        ("weight: 0.5", "weight: 0.6"),
        ("temperature: 1.0", "temperature: 1.1"),
        ("kl 0.000", "kl 0.001"),
        ("-0.143", "0.143"),
        ("Paddle 3.3.1", "Paddle 3.3.2"),
        ("0.513", "nan"),
        ("0.513\n", "0.513"),
        ("took … s\n", "took 3.2 s\nand more s\n"),
    ],
)
def test_another_result_does_not(stored: str, printed: str) -> None:
    assert not as_stored(stored, printed)
