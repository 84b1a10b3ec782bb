"""Losses by name in a merged Program: which Value is meant, and who learns from it."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import paddle
import pytest

import graphtool as gt
from graphtool import losses
from graphtool.loss_specs import named_losses
from tests.losses import reference
from tests.losses.merges import FEED, built, inside, merged_with


@pytest.mark.pir
def test_every_spelling_of_a_name_and_the_value_itself_are_one_loss() -> None:
    merged, student = merged_with(built(4))
    ends = merged.teacher("relu_0"), merged.student("relu_0")
    with inside(student):
        spelt = [
            losses.l2("relu_0", "relu_0"),
            losses.l2("teacher_relu_0", "relu_0"),
            losses.l2(ends[0], "relu_0"),
            losses.l2("teacher_relu_0", ends[1]),
            losses.l2(*ends),
        ]

    *values, theirs, ours = student.run(FEED, *spelt, *ends)

    np.testing.assert_allclose(values, [reference.l2(theirs, ours)] * 5, rtol=1e-5)
    assert reference.l2(theirs, ours) > 0


@pytest.fixture
def two() -> Any:
    return merged_with(built(4), built(4, relus=2, seed=2))


@pytest.mark.pir
def test_the_prefix_says_which_of_two_teachers_is_meant(two: Any) -> None:
    last, student = two
    first = last.teachers[0]
    ends = first.teacher("relu_0"), last.teacher("relu_0"), last.student("relu_0")
    with inside(student):
        spelt = [losses.l2("t1_relu_0", "relu_0"), losses.l2("t2_relu_0", "relu_0")]

    one, other, *arrays = student.run(FEED, *spelt, *ends)

    np.testing.assert_allclose(float(one), reference.l2(arrays[0], arrays[2]), rtol=1e-5)
    np.testing.assert_allclose(float(other), reference.l2(arrays[1], arrays[2]), rtol=1e-5)
    assert abs(float(one) - float(other)) > 1e-6


@pytest.mark.pir
def test_without_a_prefix_the_only_teacher_that_knows_the_name_is_meant(two: Any) -> None:
    last, student = two
    end = last.teacher("relu_1")
    with inside(student):
        spelt = losses.l2("relu_1", "relu_0"), losses.l2(end, "relu_0")

    values = student.run(FEED, *spelt)

    assert float(values[0]) == float(values[1])


@pytest.mark.pir
def test_a_name_that_could_be_of_two_teachers_lists_their_prefixes(two: Any) -> None:
    with inside(two[1]), pytest.raises(gt.ReadError) as caught:
        losses.l2("relu_0", "relu_0")

    (found,) = caught.value.report
    assert found.code == "GT102"
    assert found.message == "`relu_0` has no teacher's prefix, and 2 teachers have it"
    assert found.notes == ("their prefixes are `t1_`, `t2_`",)
    assert found.help == '"t1_relu_0"'


@pytest.mark.pir
def test_a_name_that_no_teacher_has_comes_with_the_nearest_of_each(two: Any) -> None:
    with inside(two[1]), pytest.raises(gt.ReadError) as caught:
        losses.l2("relu_9", "relu_0")

    assert [found.code for found in caught.value.report] == ["GT101", "GT101"]
    one, other = (found.notes[0] for found in caught.value.report)
    assert "`relu_0`" in one
    assert "`relu_1`" not in one
    assert "`relu_1`" in other


@pytest.mark.pir
def test_custom_takes_names_of_both_sides_values_and_anything_else() -> None:
    merged, student = merged_with(built(4))
    ends = merged.teacher("relu_0"), merged.student("relu_0")
    with inside(student):
        loss = losses.custom(
            lambda a, b, c, factor: paddle.abs(a - b).mean() * factor + 0 * c.mean(),
            a="teacher_relu_0",
            b="relu_0",
            c=ends[0],
            factor=2.0,
        )

    value, theirs, ours = student.run(FEED, loss, *ends)

    np.testing.assert_allclose(float(value), 2 * np.abs(theirs - ours).mean(), rtol=1e-5)


def test_custom_tells_all_wrong_names_at_once() -> None:
    _, student = merged_with(built(4))

    with inside(student), pytest.raises(gt.ReadError) as caught:
        losses.custom(max, a="teacher_relu_7", b="rellu_0")

    assert [found.code for found in caught.value.report] == ["GT101", "GT101"]


def adapter_of(program: Any) -> list[Any]:
    """Return the bias and the weight of the one adapter."""
    parameters = program.global_block().all_parameters()
    found = [value for value in parameters if value.name.startswith("graphtool_adapter_")]
    return sorted(found, key=lambda value: value.name)


@pytest.mark.pir
def test_a_hint_to_more_channels_is_l2_through_a_convolution_of_its_own() -> None:
    merged, student = merged_with(built(8), width=4)
    ends = merged.teacher("relu_0"), merged.student("relu_0")
    with inside(student):
        loss = losses.hint(*ends)
        bias, weight = adapter_of(student.program)
    paddle.static.Executor().run(student.startup, scope=student.scope)

    value, theirs, ours, w, b = student.run(FEED, loss, *ends, weight, bias)

    assert w.shape == (8, 4, 1, 1)
    adapted = np.einsum("oi,nihw->nohw", w[:, :, 0, 0], ours) + b[:, None, None]
    np.testing.assert_allclose(float(value), reference.l2(theirs, adapted), rtol=1e-5)


def test_hidden_states_of_more_features_are_l2_through_a_linear_layer() -> None:
    paddle.enable_static()
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    with paddle.static.program_guard(main, startup):
        ends = [paddle.static.data(*feed) for feed in (("t", [-1, 3, 6]), ("s", [-1, 3, 4]))]
        ends[1].stop_gradient = False
        loss = losses.hidden_state(*ends)
        bias, weight = adapter_of(main)
    executor = paddle.static.Executor()
    executor.run(startup, scope=scope)
    random = np.random.default_rng(8)
    feed = {"t": random.normal(size=(2, 3, 6)), "s": random.normal(size=(2, 3, 4))}
    feed = {name: array.astype("float32") for name, array in feed.items()}

    value, w, b = executor.run(main, feed=feed, fetch_list=[loss, weight, bias], scope=scope)

    assert w.shape == (4, 6)
    np.testing.assert_allclose(float(value), reference.l2(feed["t"], feed["s"] @ w + b), rtol=1e-5)


@pytest.mark.pir
def test_a_teachers_end_that_could_learn_is_held_fast() -> None:
    """A deeper map of a network teaches a shallower one: no gradient goes the other way."""
    paddle.enable_static()
    with paddle.static.program_guard(paddle.static.Program()):
        teacher = paddle.static.data("teacher", [-1, 3])
        student = paddle.static.data("student", [-1, 3])
        teacher.stop_gradient = student.stop_gradient = False
        loss = losses.l2(teacher, student)

        assert paddle.static.gradients([loss], [teacher]) == [None]
        assert not teacher.stop_gradient


def test_the_losses_that_pairs_can_name_are_public_here() -> None:
    assert len(losses.BY_NAME) >= 17
    assert losses.BY_NAME.keys() <= set(losses.__all__)
    assert len(losses.__all__) == len(set(losses.__all__))
    assert all(loss is getattr(losses, name) for name, loss in losses.BY_NAME.items())
    assert gt.losses is losses


def test_the_table_says_which_options_each_formula_has() -> None:
    assert list(named_losses()) == list(losses.BY_NAME)
    for name, spec in named_losses().items():
        parameters = signature(losses.BY_NAME[name]).parameters.values()
        options = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
        assert list(spec.options) == options, name


@pytest.mark.pir
def test_under_an_empty_prefix_custom_means_the_student() -> None:
    paddle.enable_static()
    (teacher, _), (student, answer) = (_answering(feed) for feed in ("there", "here"))
    gt.merge(teacher, student, {"there": "here"}, name_prefix="", parameters="later")
    seen: list[Any] = []

    with paddle.static.program_guard(student):
        losses.custom(lambda x: seen.append(x) or paddle.mean(x), x="tanh_0")

    assert seen[0].is_same(answer)


def _answering(feed: str) -> tuple[Any, Any]:
    program = paddle.static.Program()
    names = paddle.utils.unique_name.guard(f"{feed}_")
    with paddle.static.program_guard(program, paddle.static.Program()), names:
        linear = paddle.nn.Linear(4, 3, bias_attr=False)
        return program, paddle.tanh(linear(paddle.static.data(feed, [-1, 4])))
