"""Two workers against one process with the joint batch."""

from __future__ import annotations

import pytest

from tests.examples.running import lines_of

pytestmark = pytest.mark.nightly


def test_two_workers_end_with_the_same_bytes_and_the_curve_of_one_process() -> None:
    lines = lines_of("two_workers.py", "--steps", "12")
    assert "14 of 14 parameters, adapters among them, have the same bytes on both" in lines
    differences = [float(line.split("│")[6]) for line in lines if line.startswith("│")]
    assert len(differences) == 12
    assert max(differences) < 1e-6
