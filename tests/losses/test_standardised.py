"""lskd against NumPy, on its own terms, and by name in pairs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

import graphtool as gt
from graphtool import losses
from graphtool.diagnostics import PairError
from tests.losses import reference
from tests.losses.cases import LOGITS, TOKENS, Case, evaluate, one, probabilities, run
from tests.losses.merges import FEED, built, inside, merged_with
from tests.losses.test_runs import run as once


def lskd(t: Any, s: Any, temperature: float = 2.0) -> float:
    """Compute it as the authors' code does, but for the 1e-7 that it adds to a deviation."""
    z, y = ((x - x.mean(-1, keepdims=True)) / x.std(-1, ddof=1, keepdims=True) for x in (t, s))
    return reference.kl(z, y, temperature)


CASES = [
    one("lskd", losses.lskd, lskd, LOGITS),
    one(
        "lskd at a temperature of tokens",
        partial(losses.lskd, temperature=4, axis=2),
        partial(lskd, temperature=4),
        TOKENS,
    ),
    one(
        "lskd from probabilities",
        partial(losses.lskd, from_probs="both"),
        lambda t, s: lskd(np.log(t), np.log(s)),
        LOGITS,
        make=probabilities,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(
    "legacy", [False, pytest.param(True, marks=[pytest.mark.pir, pytest.mark.slow])]
)
def test_it_and_its_gradient_are_those_of_numpy(case: Case, legacy: bool) -> None:  # noqa: FBT001
    with paddle.pir_utils.OldIrGuard() if legacy else nullcontext():
        outcome = run(case)

    np.testing.assert_allclose(outcome.value, outcome.wanted, rtol=1e-9, atol=1e-12)
    for found, wanted in zip(outcome.gradients, outcome.wanted_gradients, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-8)
        assert np.abs(wanted).max() > 1e-4


def test_a_students_own_scale_and_shift_do_not_matter() -> None:
    teacher = np.random.default_rng(0).normal(size=(6, 5))

    value, gradient = evaluate(losses.lskd, [teacher], [3.7 * teacher - 2])

    assert abs(float(value)) < 1e-12
    assert np.abs(gradient).max() < 1e-12


def test_a_student_whose_classes_are_not_known_is_compared_with_the_teachers() -> None:
    teacher, student = np.random.default_rng(0).normal(size=(2, 4, 5)).astype("float32")
    feed = {"teacher": teacher, "student": student}

    value = once(losses.lskd, feed, {"teacher": [-1, 5], "student": [-1, -1]})

    assert value == pytest.approx(lskd(teacher, student), rel=1e-5)
    assert value > 0.1


def test_equal_logits_and_those_far_apart_have_a_finite_loss_and_gradient() -> None:
    flat, far = np.zeros((1, 3), "float32"), np.array([[300.0, 0.0, -300.0]], "float32")

    for teacher, student in ((flat, flat), (flat, far), (far, -far)):
        value, gradient = evaluate(losses.lskd, [teacher], [student])
        assert np.isfinite(value)
        assert np.abs(gradient).max() < 10


@pytest.mark.pir
def test_a_recipe_names_it_and_gives_it_options(tmp_path: Path) -> None:
    merged, student = merged_with(built(4))
    suggested = gt.suggest_pairs(merged.plan.teacher, merged.plan.student)
    logits = replace(suggested.pairs[0], loss="lskd", weight=9.0)
    gt.write_recipe(replace(suggested, pairs=(logits,)), tmp_path / "pairs.toml")
    with inside(student):
        made = gt.distill_loss(
            merged, tmp_path / "pairs.toml", options={"lskd": {"temperature": 3.0}}
        )
        ends = merged.teacher(logits.teacher.name), merged.student(logits.student.name)

    total, theirs, ours = student.run(FEED, made.total, *ends)

    assert dict(made.weights) == {f"lskd_{logits.student.name}": 9.0}
    np.testing.assert_allclose(float(total), 9 * lskd(theirs, ours, 3.0), rtol=1e-4)


@pytest.mark.pir
def test_what_it_cannot_compare_is_refused_by_name() -> None:
    merged, student = merged_with(built(4))
    with inside(student), pytest.raises(PairError) as caught:
        gt.distill_loss(merged, [("mean_0", "relu_0", "lskd")])

    assert [found.code for found in caught.value.report] == ["GT333"]
    assert "`lskd` wants the same rank, 2 or more" in str(caught.value)
