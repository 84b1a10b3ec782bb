"""What only a run can tell: shapes that were not known, labels and masks; it stops, or is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import paddle
import pytest

from graphtool import losses
from tests.losses import reference
from tests.losses.merges import FEED, built, inside, merged_with

UNKNOWN = [-1, 3, -1, -1]


def run(
    loss: Callable[..., Any],
    feed: Mapping[str, Any],
    shapes: Mapping[str, list[int]],
    learns: str = "student",
) -> float:
    """Declare feeds in the shapes given, and run a loss of them once."""
    paddle.enable_static()
    main = paddle.static.Program()
    with paddle.static.program_guard(main, paddle.static.Program()):
        ends = {
            name: paddle.static.data(name, shapes[name], str(array.dtype))
            for name, array in feed.items()
        }
        ends[learns].stop_gradient = False
        built = loss(**ends)
    (value,) = paddle.static.Executor(paddle.CPUPlace()).run(
        main, feed=dict(feed), fetch_list=[built]
    )
    return float(value)


def ones(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(5).normal(size=shape).astype(dtype)


def feed_of(teacher: tuple[int, ...], student: tuple[int, ...]) -> dict[str, Any]:
    return {"teacher": ones(*teacher), "student": ones(*student)}


@pytest.mark.filterwarnings("error::UserWarning")
def test_building_a_loss_warns_of_nothing() -> None:
    run(losses.dkd, feed_of((2, 3), (2, 3)), {"teacher": [2, 3], "student": [2, 3]})


HEADS = [-1, 3, -1, 6]
BY_KEYS = partial(losses.attention_scores, by="divergence")
# What would broadcast: the shapes that are fed for one that is declared.
BROADCAST = [
    (losses.l2, (2, 3, 4, 4), (2, 3, 1, 1), UNKNOWN),
    (losses.l2, (2, 3, 4, 4), (2, 3, 1, 16), UNKNOWN),
    (losses.l2, (2, 3, 4, 4), (1, 3, 4, 4), UNKNOWN),
    (losses.hint, (2, 3, 4, 4), (2, 3, 4, 1), UNKNOWN),
    (losses.channel_wise, (2, 3, 4, 4), (2, 3, 1, 1), UNKNOWN),
    (losses.attention, (2, 3, 4, 4), (2, 3, 1, 1), UNKNOWN),
    (losses.attention, (2, 3, 4, 4), (1, 3, 4, 4), UNKNOWN),
    (losses.pkd, (2, 3, 4, 4), (2, 3, 4, 1), UNKNOWN),
    (losses.similarity, (2, 3, 4, 4), (1, 3, 4, 4), UNKNOWN),
    (losses.relational, (2, 3, 4, 4), (1, 3, 4, 4), UNKNOWN),
    *(
        (losses.BY_NAME[name], (4, 5), (1, 5), [-1, 5])
        for name in ("soft_label", "kl", "dkd", "skd", "dist")
    ),
    (losses.hidden_state, (2, 4, 6), (2, 1, 6), [-1, -1, 6]),
    (losses.attention_scores, (2, 3, 4, 4), (2, 3, 4, 1), UNKNOWN),
    (BY_KEYS, (2, 3, 4, 4), (2, 3, 4, 1), UNKNOWN),
    (losses.attention_relation, (2, 3, 4, 6), (2, 3, 1, 6), HEADS),
    (partial(losses.attention_relation, heads=2), (2, 3, 4, 6), (2, 3, 1, 6), HEADS),
]


@pytest.mark.parametrize(("loss", "teacher", "student", "declared"), BROADCAST)
def test_a_run_with_shapes_that_would_broadcast_stops_with_both_of_them(
    loss: Any, teacher: tuple[int, ...], student: tuple[int, ...], declared: list[int]
) -> None:
    shapes = {"teacher": declared, "student": declared}
    run(loss, feed_of(teacher, teacher), shapes)

    with pytest.raises(ValueError, match="must have same shape") as caught:
        run(loss, feed_of(teacher, student), shapes)

    assert str(caught.value).count("'s shape = [") == 2


@pytest.mark.parametrize("mask", [(1, 4), (2, 1), (1, 1)])
def test_a_mask_that_would_broadcast_stops_the_run(mask: tuple[int, int]) -> None:
    shapes = {"teacher": [-1, -1, 6], "student": [-1, -1, 6], "mask": [-1, -1]}
    feed = {**feed_of((2, 4, 6), (2, 4, 6)), "mask": np.ones(mask, "int64")}

    with pytest.raises(ValueError, match="must have same shape"):
        run(losses.hidden_state, feed, shapes)

    scores = {"teacher": [-1, 3, -1, -1], "student": [-1, 3, -1, -1], "mask": [-1, -1]}
    feed.update(feed_of((2, 3, 4, 4), (2, 3, 4, 4)))
    for by in ("squares", "divergence"):
        with pytest.raises(ValueError, match="must have same shape"):
            run(partial(losses.attention_scores, by=by), feed, scores)


def test_a_mask_that_keeps_nothing_gives_zero() -> None:
    shapes = {"teacher": [-1, -1, 6], "student": [-1, -1, 6], "mask": [-1, -1]}
    feed = {**feed_of((2, 4, 6), (2, 4, 6)), "mask": np.zeros((2, 4), "bool")}
    feed["student"] = feed["student"] + 1

    assert run(losses.hidden_state, feed, shapes) == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        *(([0, label], "Input") for label in (-1, 5, 100)),
        *(([0] * count, "must have same shape") for count in (1, 3)),
    ],
)
def test_labels_that_are_no_classes_or_of_other_samples_stop_the_run(
    labels: list[int], message: str
) -> None:
    shapes = {"teacher": [-1, 5], "student": [-1, 5], "labels": [-1]}
    feed = {**feed_of((2, 5), (2, 5)), "labels": np.array(labels)}

    with pytest.raises(ValueError, match=message):
        run(losses.dkd, feed, shapes)


def test_a_student_whose_classes_are_not_known_is_compared_with_the_teachers() -> None:
    shapes, feed = {"teacher": [-1, 5], "student": [-1, -1]}, feed_of((4, 5), (4, 5))
    feed["student"] = feed["student"][::-1].copy()

    wanted = reference.lskd(*feed.values())
    np.testing.assert_allclose(run(losses.lskd, feed, shapes), wanted, rtol=1e-5)
    assert wanted > 0.1


@pytest.mark.pir
def test_two_batches_and_sizes_that_are_not_known_go_together() -> None:
    """Paddle's reshape takes but one dim of -1."""
    shapes = {"teacher": [1, 3, -1, -1], "student": [8, 3, -1, -1]}
    feed = feed_of((8, 3, 4, 5), (8, 3, 4, 5))

    np.testing.assert_allclose(run(losses.l2, feed, shapes), reference.l2(*feed.values()), 1e-5)


@pytest.mark.pir
@pytest.mark.parametrize("batch", [-1, 8])
def test_the_batch_that_a_teacher_was_exported_with_does_not_matter(batch: int) -> None:
    """A merged teacher runs at any batch, while its Values keep saying the old one."""
    merged, student = merged_with(built(4, batch=1), batch=batch)
    ends = merged.teacher("relu_0"), merged.student("relu_0")
    with inside(student):
        loss = losses.l2(*ends)
    feed = {"image": np.repeat(FEED["image"], 2, axis=0)}

    value, *arrays = student.run(feed, loss, *ends)

    assert ends[0].shape[0] == 1
    np.testing.assert_allclose(float(value), reference.l2(*arrays), rtol=1e-5)
