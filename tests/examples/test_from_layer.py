"""Two Layers in, the student's parameters back in its Layer."""

from __future__ import annotations

import pytest

from tests.examples.running import lines_of, numbers_in


@pytest.mark.nightly
def test_the_layer_answers_better_in_dynamic_mode_than_before_it_was_distilled() -> None:
    lines = lines_of("from_layer.py", "--steps", "61")

    assert lines[0].startswith("DistillLoss(1 · soft_label_")
    assert lines[1].endswith("student.pdparams: 20 loaded, 0 missing, 0 unexpected")
    steps = [numbers_in(line)[0] for line in lines if line.startswith("step")]
    assert steps == sorted(steps, reverse=True)
    teacher, before, after = numbers_in(lines[-1])
    assert before < 0.3 < after < teacher
