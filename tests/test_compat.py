"""The tutorial's and PaddleSlim's lines, as they stand in old scripts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

import graphtool as gt
from graphtool.compat import (
    dkd,
    fsp,
    fsp_loss,
    l2,
    l2_loss,
    loss,
    merge,
    skd,
    soft_label,
    soft_label_loss,
)
from graphtool.merging import merged_of
from tests import legacy_compat
from tests.legacy_compat import FEED, Script, network


def test_merge_returns_the_students_program_and_takes_arguments_in_paddleslims_order() -> None:
    script = Script()

    # As PaddleSlim's scripts write it.
    program = merge(*script.ends, script.scope, "taught_by_", True)  # noqa: FBT003

    assert program is script.student
    merged = merged_of(program)
    assert merged is not None
    assert merged.prefix == "taught_by_"
    assert merged.feed_map == {"data": "image"}


def test_the_older_order_with_the_prefix_in_the_sixth_place_is_understood() -> None:
    script = Script()

    merge(*script.ends, "old_")

    merged = merged_of(script.student)
    assert merged is not None
    assert merged.prefix == "old_"


@pytest.fixture
def merged() -> Script:
    script = Script()
    merge(*script.ends)
    return script


@pytest.mark.pir
@pytest.mark.slow
def test_losses_of_names_are_built_in_the_program_that_is_named(merged: Script) -> None:
    found = [
        l2_loss("teacher_relu_1", "relu_1", merged.student),
        l2("teacher_relu_1", "relu_1", program=merged.student),
        soft_label_loss("teacher_add_2", "add_2", merged.student, 2.0, 3.0),
        soft_label("teacher_add_2", "add_2", merged.student, student_temperature=3.0),
        fsp_loss("teacher_relu_0", "teacher_relu_1", "relu_0", "relu_1", merged.student),
        fsp("teacher_relu_0", "teacher_relu_1", "relu_0", "relu_1", merged.student),
        dkd("teacher_add_2", "add_2", merged.student, 4.0, 1.0, 8.0),
        skd("teacher_add_2", "add_2", merged.student, 2.0),
        loss(_own, merged.student, t_feature="teacher_relu_1", s_feature="relu_1", power=2),
    ]
    taught = merged_of(merged.student)
    assert taught is not None
    ends = taught.teacher("relu_1"), taught.student("relu_1")

    *numbers, theirs, ours = merged.values(*found, *ends)

    square = np.square(theirs - ours).mean()
    assert np.allclose([numbers[0], numbers[1], numbers[8]], square, rtol=1e-5)
    assert numbers[4] == numbers[5]
    assert numbers[2] != numbers[3]
    assert all(np.isfinite(number).all() for number in numbers)


def _own(t_feature: Any, s_feature: Any, power: int) -> Any:
    return ((t_feature - s_feature) ** power).mean()


@pytest.mark.pir
def test_without_a_program_the_current_one_is_meant_and_another_is_left_alone(
    merged: Script,
) -> None:
    other = paddle.static.Program()
    with paddle.static.program_guard(merged.student, merged.startup):
        first = l2("teacher_relu_1", "relu_1")
    with paddle.static.program_guard(other):
        second = l2("teacher_relu_1", "relu_1", merged.student)
        assert paddle.static.default_main_program() is other

    one, same = merged.values(first, second)
    assert one == same
    assert other.global_block().ops == []


@pytest.mark.pir
def test_identical_logits_give_no_decoupled_loss() -> None:
    paddle.enable_static()
    teacher, startup, _ = network("data", 4)
    student, *_ = network("image", 4, names="student_")
    scope = paddle.static.Scope()
    paddle.static.Executor().run(startup, scope=scope)
    weights = zip(gt.read(teacher).parameters, gt.read(student).parameters, strict=True)
    for theirs, ours in weights:
        held = np.array(scope.find_var(theirs.name).get_tensor())
        scope.var(ours.name).get_tensor().set(held, paddle.CPUPlace())
    merge(teacher, student, {"data": "image"}, paddle.CPUPlace(), scope)

    found = dkd("teacher_add_2", "add_2", student)

    (number,) = paddle.static.Executor().run(student, feed=FEED, fetch_list=[found], scope=scope)
    assert abs(float(number)) < 1e-6


@pytest.mark.pir
def test_a_teacher_that_was_never_started_is_merged_with_a_warning_and_loaded_later() -> None:
    script = Script(start_teacher=False)

    with pytest.warns(UserWarning, match="GT235") as said:
        merge(*script.ends)

    assert {one.filename for one in said} == {__file__}
    taught = merged_of(script.student)
    assert taught is not None
    shapes = {value.name: value.shape for value in gt.read(script.teacher).parameters}
    taught.load_teacher({name: np.ones(shape, "float32") for name, shape in shapes.items()})
    (logits,) = script.values(taught.teacher("add_2"))
    assert np.isfinite(logits).all()
    assert (logits > 1).all()


@pytest.mark.pir
def test_weights_of_which_some_are_missing_come_later_where_that_is_said() -> None:
    script = Script()
    script.scope.erase(["conv2d_0.b_0"])
    with pytest.raises(gt.MergeError, match="GT235") as caught:
        merge(*script.ends)

    typed = caught.value.report.errors[0].help
    assert typed is not None
    assert typed.startswith('merge(..., parameters="later")')
    assert merge(*script.ends, parameters="later") is script.student


@pytest.mark.pir
def test_what_a_warning_of_probabilities_names_is_what_a_loss_takes() -> None:
    script = Script()
    with paddle.static.program_guard(script.teacher):
        F.softmax(script.teacher.global_block().ops[-1].result(0))

    with pytest.warns(UserWarning, match="GT228") as told:
        merge(*script.ends)

    assert 'help: soft_label("teacher_add_2", ...)' in str(told[0].message)
    assert tuple(soft_label("teacher_add_2", "add_2", script.student).shape) == ()


def test_a_teacher_that_was_started_gives_no_warning() -> None:
    script = Script()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(*script.ends)


def _tutorial(*, start_student: bool) -> dict[str, Any]:
    """Merge two networks that both name `conv1_weights`, in one Scope, as the tutorial does."""
    paddle.enable_static()
    programs = [_named("conv1_weights", own, value) for own, value in (("t", 2.0), ("s", 0.5))]
    (teacher, teacher_startup), (student, startup) = programs
    executor, scope = paddle.static.Executor(), paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        if start_student:
            executor.run(startup)
        executor.run(teacher_startup)
        merge(teacher, student, {"image": "image"}, paddle.CPUPlace())
        executor.run(startup)
    names = ("conv1_weights", "teacher_conv1_weights", "teacher_t", "s")
    return {name: np.unique(scope.find_var(name).get_tensor()).tolist() for name in names}


def _named(common: str, own: str, weight: float) -> tuple[Any, Any]:
    main, startup = paddle.static.Program(), paddle.static.Program()
    constant = nn.initializer.Constant(weight)
    with paddle.static.program_guard(main, startup):
        value = paddle.static.data("image", [-1, 3, 8, 8])
        for name in (common, own):
            attribute = paddle.ParamAttr(name, initializer=constant)
            value = nn.Conv2D(3, 3, 3, weight_attr=attribute, bias_attr=False)(value)
    return main, startup


def test_a_name_of_both_networks_is_the_teachers_until_the_students_startup_program_runs() -> None:
    assert _tutorial(start_student=False) == {
        "conv1_weights": [0.5],
        "teacher_conv1_weights": [2.0],
        "teacher_t": [2.0],
        "s": [0.5],
    }


def test_a_name_of_both_networks_is_refused_once_the_student_has_started() -> None:
    with pytest.raises(gt.MergeError, match="GT202"):
        _tutorial(start_student=True)


def test_what_is_wrong_raises_before_anything_has_changed() -> None:
    script = Script()
    before = str(script.student)

    with pytest.raises(gt.MergeError):
        merge(script.teacher, script.student, {"dat": "image"}, script.place, script.scope)

    assert str(script.student) == before
    assert script.scope.find_var("teacher_conv2d_0.w_0") is None


@pytest.mark.pir
def test_a_teacher_that_ends_in_softmax_is_refused_unless_that_is_said() -> None:
    paddle.enable_static()
    script = Script()
    with paddle.static.program_guard(script.teacher):
        F.softmax(script.teacher.global_block().ops[-1].result(0))
    merge(*script.ends)

    with pytest.raises(gt.PairError, match="GT228"):
        soft_label("teacher_softmax_0", "add_2", script.student)

    said = soft_label("teacher_softmax_0", "add_2", script.student, from_probs="teacher")
    logits = soft_label("teacher_add_2", "add_2", script.student)
    one, other = script.values(said, logits)
    assert np.allclose(one, other, rtol=1e-5)


@pytest.mark.slow
def test_legacy_programs_take_the_same_lines() -> None:
    assert legacy_compat.outcome() == legacy_compat.WANTED


@pytest.mark.slow
def test_paddle_2_6_takes_the_same_lines(on_paddle26: Callable[..., str]) -> None:
    assert json.loads(on_paddle26("tests.legacy_compat")) == legacy_compat.WANTED


def test_what_is_no_program_is_said(merged: Script) -> None:
    for call in (
        lambda: l2("teacher_relu_1", "relu_1", "main"),
        lambda: loss(merged.student, F.mse_loss, input="teacher_relu_1", label="relu_1"),
        lambda: merge(merged.teacher, merged.student, {"data": "image"}, scope="scope"),
        lambda: merge(merged.teacher, merged.student, {"data": "image"}, teacher_scope=3),
    ):
        with pytest.raises(gt.UsageError) as raised:
            call()
        assert [found.code for found in raised.value.report] == ["GT248"]
