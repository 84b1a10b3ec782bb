"""A `.pdmodel` teaches a student of today's Paddle, whichever release wrote it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.examples.running import lines_of, numbers_in


@pytest.mark.nightly
def test_the_student_agrees_more_with_a_teacher_that_the_script_makes() -> None:
    lines = lines_of("legacy_teacher.py", "--steps", "61")

    assert ": legacy, x [3, 32, 32] -> linear_0.tmp_1 [10]" in lines[0]
    before, after = numbers_in(lines[-1])
    assert before < 0.3
    assert after > before + 0.3


_SAVED_BY_2_6 = """
import sys, zlib
import paddle
from paddle import nn
paddle.enable_static()
paddle.seed(0)
image = paddle.static.data("picture", [None, 3, 24, 20])
net = nn.Sequential(nn.Conv2D(3, 8, 3, 2), nn.BatchNorm2D(8), nn.ReLU(), nn.AdaptiveAvgPool2D(2),
                    nn.Flatten(), nn.Linear(32, 7), nn.Softmax())
net.eval()
answer = net(image)
executor = paddle.static.Executor()
executor.run(paddle.static.default_startup_program())
paddle.static.save_inference_model(sys.argv[1], [image], [answer], executor)
"""


@pytest.mark.nightly
def test_a_file_of_paddle_2_6_with_another_shape_and_a_softmax_teaches_as_well(
    tmp_path: Path, paddle26: str
) -> None:
    model = tmp_path / "inference"
    subprocess.run([paddle26, "-c", _SAVED_BY_2_6, str(model)], check=True, capture_output=True)

    lines = lines_of(
        "legacy_teacher.py", "--steps", "41", "--teacher", f"{model}.pdmodel", "--softmax"
    )

    assert "picture [3, 24, 20]" in lines[0]
    steps = [numbers_in(line)[0] for line in lines if line.startswith("step")]
    assert steps[-1] < steps[0]
