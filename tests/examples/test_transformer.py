"""A student of a made-up language with suggested pairs against one alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.tables import means_of


@pytest.mark.nightly
def test_the_short_form_prints_three_rows_and_draws_them(tmp_path: Path) -> None:
    plot = tmp_path / "sentences.svg"
    means = means_of("distill_transformer.py", plot, "--quick", "--validate")
    # Six classes, and hardly any training: about chance.
    assert len(means) == 3
    assert all(8 < mean < 60 for mean in means)
    assert plot.read_text().rstrip().endswith("</svg>")
