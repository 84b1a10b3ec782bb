"""A student of digits with suggested pairs against one alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.tables import means_of


@pytest.mark.nightly
def test_the_short_form_prints_three_rows_and_draws_them(tmp_path: Path) -> None:
    plot = tmp_path / "digits.svg"
    teacher, alone, taught = means_of("distill_digits.py", plot, "--quick", "--validate")
    # Ten classes: better than chance after a few epochs.
    assert min(alone, taught) > 20
    assert teacher > alone
    assert plot.read_text().rstrip().endswith("</svg>")


@pytest.mark.first
@pytest.mark.longest
def test_the_student_with_pairs_is_better_on_images_it_never_saw(tmp_path: Path) -> None:
    teacher, alone, taught = means_of("distill_digits.py", tmp_path / "digits.svg")
    assert alone + 1 < taught < teacher
