"""A training Program answers what its loss reads, whatever the loss is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool import read, suggest_pairs
from graphtool.structure import analyse
from tests.checks.programs import data, program

pytestmark = pytest.mark.pir

_ANCHORS = [10, 13, 16, 30, 33, 23]


def _detector(*, loss: bool = True) -> None:
    shallow = F.relu(nn.Conv2D(3, 8, 3, 2, 1)(data("image", -1, 3, 32, 32)))
    deep = F.relu(nn.Conv2D(8, 16, 3, 2, 1)(shallow))
    heads = nn.Conv2D(8, 24, 1)(shallow), nn.Conv2D(16, 24, 1)(deep)
    if loss:
        boxes, classes = data("boxes", -1, 5, 4), data("classes", -1, 5, dtype="int32")
        totals = [
            paddle.vision.ops.yolo_loss(one, boxes, classes, _ANCHORS, [0, 1, 2], 3, 0.7, 32).mean()
            for one in heads
        ]
        totals[0] + totals[1]


@pytest.mark.parametrize("mode", ["pir", "legacy"])
def test_a_detector_answers_the_same_with_its_losses_and_without(mode: str) -> None:
    trained, plain = (
        read(program(build, mode)[0]) for build in (_detector, lambda: _detector(loss=False))
    )
    pairs = suggest_pairs(trained, trained)

    assert [head.answer for head in analyse(trained).heads] == [
        head.output for head in analyse(plain).heads
    ]
    assert [pair.student.name for pair in pairs] == [
        pair.student.name for pair in suggest_pairs(plain, plain)
    ]


def _squared(answer: Any, label: Any) -> Any:
    apart = answer - label
    return (apart * apart).mean()


def _dice(answer: Any, label: Any) -> Any:
    likely = F.sigmoid(answer)
    return 1 - 2 * (likely * label).sum() / (likely.sum() + label.sum())


@pytest.mark.parametrize(
    "loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.kl_div, _squared, _dice]
)
def test_what_a_loss_compares_with_a_label_is_the_answer(loss: Callable[..., Any]) -> None:
    def build() -> None:
        answer = nn.Linear(8, 4)(F.relu(nn.Linear(6, 8)(data("x", -1, 6))))
        loss(answer, data("label", -1, 4))

    (head,) = analyse(read(program(build)[0])).heads

    assert head.logits == "add_1"


def test_one_number_for_each_sample_is_in_no_pair() -> None:
    def build() -> None:
        nn.Linear(6, 4)(data("x", -1, 6))[:, 0].exp()

    graph = read(program(build)[0])

    assert analyse(graph).heads[0].logits == "exp_0"
    assert [pair.student.name for pair in suggest_pairs(graph, graph)] == []
