"""The tutorial's script runs whole, and its student learns."""

from __future__ import annotations

import pytest

from tests.examples.running import lines_of, numbers_in


@pytest.mark.nightly
def test_the_tutorial_loads_lists_merges_trains_and_evaluates() -> None:
    lines = lines_of("tutorial.py", "--steps", "61")

    assert lines[0].endswith("resnet18.pdparams: 102 loaded, 0 missing, 0 unexpected")
    assert "teacher  relu_12    [-1, 256, 2, 2]" in lines
    assert "student  relu_22    [-1, 256, 2, 2]" in lines
    first, *_, last = [numbers_in(line) for line in lines if line.startswith("step")]
    assert last[0] < first[0]
    assert last[1] < first[1]
    assert numbers_in(lines[-1])[0] > 0.5
