"""Where theory says that a loss is zero, at its least, or blind to a change."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import paddle
import pytest

from graphtool import losses
from tests.losses import reference
from tests.losses.cases import evaluate

pytestmark = pytest.mark.slow

LOGITS, MAP, TOKENS, SCORES = (6, 5), (4, 3, 4, 2), (3, 4, 5), (2, 2, 4, 4)
HEADS = (2, 2, 4, 6)
LABELS = np.array([0, 4, 2, 2, 1, 3])


def samples(shape: tuple[int, ...], dtype: str = "float64") -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


ZERO_IF_EQUAL = [
    (losses.l2, MAP),
    (losses.hint, MAP),
    (losses.kl, LOGITS),
    (partial(losses.kl, temperature=1), LOGITS),
    (losses.dkd, LOGITS),
    (losses.lskd, LOGITS),
    (losses.dist, LOGITS),
    (losses.attention, MAP),
    (losses.channel_wise, MAP),
    (losses.similarity, MAP),
    (losses.relational, (5, 3)),
    (losses.pkd, LOGITS),
    (losses.pkd, TOKENS),
    (losses.pkd, MAP),
    (losses.hidden_state, TOKENS),
    (losses.attention_scores, SCORES),
    (partial(losses.attention_scores, by="divergence"), SCORES),
    (losses.attention_relation, HEADS),
    (partial(losses.attention_relation, heads=4), HEADS),
]


def name_of(given: Any) -> str | None:
    return getattr(given, "__name__", None) or getattr(
        getattr(given, "func", None), "__name__", None
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "shape"), ZERO_IF_EQUAL, ids=name_of)
def test_equal_values_are_zero_apart_and_leave_the_student_where_it_is(
    loss: Callable[..., Any], shape: tuple[int, ...], dtype: str
) -> None:
    array = samples(shape, dtype)

    value, gradient = evaluate(loss, [array], [array])

    assert abs(float(value)) < 1e-12
    assert np.abs(gradient).max() < (1e-12 if dtype == "float64" else 1e-6)


def test_equal_flows_are_zero_apart() -> None:
    arrays = [samples(MAP), samples(MAP) + 1]

    value, *gradients = evaluate(losses.fsp, arrays, arrays)

    assert float(value) == 0
    assert all(np.abs(gradient).max() == 0 for gradient in gradients)


@pytest.mark.parametrize("loss", [losses.soft_label, losses.skd])
def test_a_cross_entropy_of_equal_logits_is_the_entropy_and_has_no_gradient(loss: Any) -> None:
    logits = samples(LOGITS)
    p = reference.softmax(logits)

    value, gradient = evaluate(loss, [logits], [logits])

    # `skd` keeps the teacher's scale up to the n - 1 of the deviation.
    if loss is losses.soft_label:
        np.testing.assert_allclose(float(value), -(p * np.log(p)).sum(1).mean(), rtol=1e-12)
    np.testing.assert_allclose(float(value), reference.__dict__[loss.__name__](logits, logits))
    assert np.abs(gradient).max() < 1e-12


@pytest.mark.parametrize(
    ("loss", "shape", "change"),
    [
        (losses.attention, MAP, lambda x: 3.7 * x),
        (losses.attention, MAP, lambda x: -x),
        (losses.similarity, MAP, lambda x: 3.7 * x),
        (losses.similarity, (4, 6), lambda x: x[:, ::-1].copy()),
        (losses.channel_wise, MAP, lambda x: x + samples((4, 3, 1, 1)) * 9),
        (losses.kl, LOGITS, lambda x: x + samples((6, 1)) * 9),
        (losses.dkd, LOGITS, lambda x: x + samples((6, 1)) * 9),
        (losses.lskd, LOGITS, lambda x: 3.7 * x - 2),
        (losses.dist, LOGITS, lambda x: x + samples((6, 1)) * 9),
        (losses.relational, (5, 2), lambda x: x @ np.array([[0.0, -2.0], [2.0, 0.0]]) + 7),
        (losses.pkd, TOKENS, lambda x: x * np.abs(samples((3, 4, 1)))),
        (losses.pkd, MAP, lambda x: x * 2 + samples((1, 3, 1, 1))),
        (partial(losses.attention_scores, by="divergence"), SCORES, lambda x: x + 5),
        (losses.attention_relation, HEADS, lambda x: x[..., [3, 0, 5, 1, 2, 4]] * -1),
    ],
    ids=name_of,
)
def test_what_a_loss_does_not_look_at_leaves_it_at_zero(
    loss: Any, shape: tuple[int, ...], change: Callable[[Any], Any]
) -> None:
    array = samples(shape)

    value, _ = evaluate(loss, [array], [change(array)])

    assert abs(float(value)) < 1e-11


def test_the_scale_and_shift_of_the_students_logits_do_not_matter_to_skd() -> None:
    teacher, student = samples(LOGITS), samples(LOGITS)[::-1].copy()

    values = [
        float(evaluate(losses.skd, [teacher], [logits])[0]) for logits in (student, 5 * student - 3)
    ]

    np.testing.assert_allclose(*values, rtol=1e-6)


ALL = [
    *ZERO_IF_EQUAL,
    (losses.soft_label, LOGITS),
    (partial(losses.soft_label, from_probs="both"), LOGITS),
    (losses.skd, LOGITS),
]


@pytest.mark.parametrize("teacher_is", ["zero", "random"])
@pytest.mark.parametrize(("loss", "shape"), ALL, ids=name_of)
def test_a_student_that_is_zero_has_a_finite_loss_and_gradient(
    loss: Any, shape: tuple[int, ...], teacher_is: str
) -> None:
    student = np.zeros(shape, "float32")
    teacher = student if teacher_is == "zero" else np.abs(samples(shape, "float32"))

    value, gradient = evaluate(loss, [teacher], [student])

    assert np.isfinite(value)
    # A step of such a gradient must not throw the student away either.
    assert np.abs(gradient).max() < 1e4


@pytest.mark.parametrize("loss", [losses.relational, losses.similarity, losses.dist, losses.pkd])
def test_a_batch_of_one_gives_a_number(loss: Any) -> None:
    value, gradient = evaluate(loss, [samples((1, 5))], [samples((1, 5)) * 2])

    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "loss", [losses.kl, losses.dkd, losses.soft_label, losses.skd, losses.lskd, losses.dist]
)
def test_logits_far_apart_give_a_finite_loss_and_gradient(loss: Any) -> None:
    teacher = np.array([[300.0, 0.0, -300.0]], "float32")

    for one, other in ((teacher, -teacher), (teacher * 0, teacher)):
        value, gradient = evaluate(loss, [one], [other])
        assert np.isfinite(value)
        assert np.abs(gradient).max() < 1e3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_that_are_hundreds_apart_are_compared_as_they_are(dtype: str) -> None:
    """Paddle's log_softmax stops at -64 on CPUs."""
    teacher, student = (np.array([row], dtype) for row in ([300, 0, -300], [-50, 70, 0]))

    value, gradient = evaluate(losses.soft_label, [teacher], [student])

    np.testing.assert_allclose(float(value), 120, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("loss", [losses.kl, losses.soft_label])
def test_classes_that_a_mask_leaves_out_of_both_do_not_count(loss: Any) -> None:
    both = [samples(LOGITS), samples(LOGITS)[::-1].copy()]
    masked = [np.insert(logits, 2, -np.inf, axis=1) for logits in both]

    value, gradient = evaluate(loss, [masked[0]], [masked[1]])

    wanted, slope = evaluate(loss, [both[0]], [both[1]])
    np.testing.assert_allclose(float(value), float(wanted), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.insert(slope, 2, 0, axis=1), atol=1e-12)


def test_dkd_of_identical_logits_is_zero_with_labels_too() -> None:
    """The incumbent gives -0.907."""
    logits = samples(LOGITS, "float32")

    value, gradient = evaluate(losses.dkd, [logits], [logits], {"labels": LABELS})

    assert abs(float(value)) < 1e-6
    assert np.abs(gradient).max() < 1e-5


def test_a_student_that_agrees_with_a_teacher_of_probabilities_has_next_to_no_soft_label() -> None:
    """The incumbent takes softmax of the probabilities again, and gives 5.95 for 1000 classes."""
    logits = np.zeros((4, 1000))
    logits[np.arange(4), [1, 9, 500, 999]] = 16.0
    p = reference.softmax(logits)

    value, gradient = evaluate(partial(losses.soft_label, from_probs="teacher"), [p], [logits])

    np.testing.assert_allclose(float(value), -(p * np.log(p)).sum(1).mean(), rtol=1e-9)
    assert 0.001 < float(value) < 0.003
    assert np.abs(gradient).max() < 1e-12


def test_low_precision_is_computed_in_float32() -> None:
    teacher, student = (samples((2, 3, 40, 40)) * scale for scale in (60, -60))

    value, gradient = evaluate(losses.l2, [teacher.astype("float16")], [student.astype("float16")])

    assert value.dtype == np.float32
    assert gradient.dtype == np.float16
    np.testing.assert_allclose(float(value), reference.l2(teacher, student), rtol=1e-3)


def test_a_teacher_of_float32_goes_with_a_student_of_float16() -> None:
    teacher, student = samples(MAP), samples(MAP)[::-1].copy()

    value, _ = evaluate(losses.l2, [teacher.astype("float32")], [student.astype("float16")])

    np.testing.assert_allclose(float(value), reference.l2(teacher, student), rtol=1e-3)


@pytest.mark.pir
def test_a_loss_is_float32_inside_of_auto_cast() -> None:
    paddle.enable_static()
    with paddle.static.program_guard(paddle.static.Program()):
        teacher = paddle.static.data("teacher", [-1, 4])
        student = paddle.static.data("student", [-1, 6])
        student.stop_gradient = False
        with paddle.amp.auto_cast(dtype="bfloat16", level="O2"):
            loss = losses.similarity(teacher, student)

        assert loss.dtype == paddle.float32
