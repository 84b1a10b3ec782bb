"""Bad input to a loss: one diagnostic each, and not an operator left behind."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import paddle
import pytest

import graphtool as gt
from graphtool import losses
from graphtool.losses._building import rollback_on_error
from graphtool.merging import Merged
from tests.checks.programs import MODES
from tests.losses.merges import built, inside, merged_with, sizes
from tests.merging.networks import Built


@pytest.fixture(scope="module")
def shared() -> tuple[Merged, Built]:
    return merged_with(built(8, probabilities=True))


@pytest.fixture
def pair(shared: tuple[Merged, Built]) -> Iterator[tuple[Merged, Built]]:
    """Build in one merged Program; what a test has built is taken out again."""
    paddle.enable_static()
    student = shared[1]
    with suppress(_Done), inside(student), rollback_on_error(student.program, student.startup):
        yield shared
        raise _Done


class _Done(Exception):  # noqa: N818  # nothing is wrong
    pass


def refused(student: Built, call: Callable[[], Any]) -> gt.GraphtoolError:
    """Return what a call raises, when it has built nothing."""
    before = sizes(student)
    with pytest.raises(gt.GraphtoolError) as caught:
        call()
    assert sizes(student) == before
    return caught.value


def codes(error: gt.GraphtoolError) -> list[str]:
    return [found.code for found in error.report]


def value(*shape: int, dtype: str = "float32", learns: bool = True) -> Any:
    made = paddle.static.data(
        f"v{len(paddle.static.default_main_program().global_block().ops)}", list(shape), dtype
    )
    made.stop_gradient = not learns
    return made


def typed(code: str | None, **names: Any) -> tuple[int, ...]:
    """Run the code of a help, and return the shape of the loss that it builds."""
    return tuple(eval(code or "", {"gt": gt, **names}).shape)


@pytest.mark.pir
def test_names_that_both_networks_lack_are_told_at_once_with_the_nearest(pair: Any) -> None:
    error = refused(pair[1], lambda: losses.l2("relu_7", "rellu_0"))

    assert isinstance(error, gt.ReadError)
    assert codes(error) == ["GT101", "GT101"]
    for found in error.report:
        assert found.notes[0].startswith("nearest: `relu_0`")
        assert found.notes[0].count("`") == 6


@pytest.mark.pir
def test_a_shape_message_names_both_values_as_they_can_be_typed_and_the_adapter(pair: Any) -> None:
    error = refused(pair[1], lambda: losses.l2("relu_0", "relu_0"))

    assert str(error) == (
        "error[GT333] pair-shape: `teacher_relu_0` and `relu_0` are [-1, 8, 8, 8] and "
        "[-1, 4, 8, 8]; `l2` wants equal shapes\n"
        "  --> teacher  teacher_relu_0  [-1, 8, 8, 8]\n"
        "  --> student  relu_0  [-1, 4, 8, 8]\n"
        '  = help: gt.losses.l2("teacher_relu_0", gt.losses.adapters.conv1x1("relu_0", 8))'
    )
    assert typed(error.report.errors[0].help) == ()


@pytest.mark.pir
def test_fsp_wants_one_size_on_each_side_and_equal_channels_between_them(pair: Any) -> None:
    first, second = value(-1, 4, 6, 6), value(-1, 8, 6, 6)
    other_size, other_channels = value(-1, 8, 3, 3), value(-1, 7, 6, 6)
    fixed = value(-1, 4, 6, 6, learns=False)

    for ends, fix in (
        ((first, other_size, first, second), "resize(teacher_1, teacher_2)"),
        ((first, second, first, other_size), f'resize("{first.name}", "{other_size.name}")'),
        ((first, second, first, other_channels), f'conv1x1("{other_channels.name}", 8)'),
        ((first, second, other_channels, second), f'conv1x1("{other_channels.name}", 4)'),
    ):
        error = refused(pair[1], partial(losses.fsp, *ends))
        assert codes(error) == ["GT333"]
        assert error.report.errors[0].help == f"gt.losses.adapters.{fix}"
    assert codes(refused(pair[1], lambda: losses.fsp(fixed, fixed, fixed, fixed))) == ["GT348"]
    losses.fsp(first, second, fixed, second)


@pytest.mark.pir
@pytest.mark.parametrize(
    ("loss", "ends"), [(losses.attention, 1), (losses.fsp, 2), (losses.adapters.conv1x1, 0)]
)
def test_a_student_of_frozen_parameters_is_refused(loss: Any, ends: int) -> None:
    """Paddle lets a gradient pass through them: to nothing that learns."""
    merged, student = merged_with(built(4))
    for parameter in student.program.global_block().all_parameters():
        parameter.trainable = False
    names = ["relu_0"] * 2 * ends or ["relu_0", 8]

    with inside(student):
        error = refused(student, lambda: loss(*names))

    (found,) = error.report
    assert not merged.student("relu_0").stop_gradient
    assert found.code == ("GT348" if ends else "GT357")
    before = 'student = gt.for_training("student.json")  # before the merge'
    assert not ends or found.help == before


@pytest.mark.pir
@pytest.mark.parametrize("mode", MODES)
def test_a_student_that_is_a_feed_is_told_that_a_feed_has_no_parameters(mode: str) -> None:
    """A student made trainable again, which other frozen Values need, would not help."""
    with MODES[mode](), paddle.static.program_guard(paddle.static.Program()):
        teacher, student = (paddle.static.data(name, [-1, 4]) for name in ("t", "s"))
        with pytest.raises(gt.PairError) as error:
            losses.l2(teacher, student)
        with pytest.raises(gt.PairError) as computed:
            losses.l2(teacher, student * 2.0)

    assert codes(error.value) == codes(computed.value) == ["GT348"]
    assert "a feed is computed from no parameter" in str(error.value.report.errors[0].help)
    assert "for_training" in str(computed.value.report.errors[0].help)


@pytest.mark.pir
@pytest.mark.parametrize("name", ["teacher_softmax_0", "softmax_0"])
def test_a_teachers_name_in_the_students_place_is_said_to_be_one(pair: Any, name: str) -> None:
    (found,) = refused(pair[1], lambda: losses.l2("softmax_0", name)).report

    assert found.code == "GT101"
    assert found.message == f"the student has no `{name}`: it is the teacher's `softmax_0`"
    assert found.help == f"merged.teacher('{name}')"


@pytest.mark.pir
def test_swapped_ends_are_refused_with_the_right_order(pair: Any) -> None:
    merged, student = pair
    one, other = merged.student("relu_0"), merged.teacher("relu_0")
    for loss, count in (("attention", 1), ("fsp", 2)):
        call = partial(losses.BY_NAME[loss], *[one] * count, *[other] * count)
        found = refused(student, call).report.errors[-1]
        assert (found.code, found.where[0].value) == ("GT348", "teacher_relu_0")
        ends = ['"teacher_relu_0"'] * count + ['"relu_0"'] * count
        assert found.help == f"gt.losses.{loss}({', '.join(ends)})"
    assert typed('gt.losses.attention("teacher_relu_0", "relu_0")') == ()


@pytest.mark.pir
def test_l2_of_probabilities_is_built_with_a_warning_and_in_the_report_of_pairs(pair: Any) -> None:
    merged, _ = pair
    with pytest.warns(UserWarning, match=r"warning\[GT228\].*`teacher_softmax_0` holds") as caught:
        losses.l2("softmax_0", "add_2")

    (warned,) = caught
    assert warned.filename == __file__
    fix = 'gt.losses.kl("teacher_add_2", "add_2", temperature=4.0)'
    assert f"= help: {fix}" in str(warned.message)
    assert typed(fix) == ()
    pairs, graphs = [("softmax_0", "add_2")], (merged.plan.teacher, merged.plan.student)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = gt.distill_loss(merged, pairs)
    for report in (loss.report, gt.check_pairs(pairs, *graphs)):
        (found,) = report
        assert (found.code, found.severity.value) == ("GT228", "warning")
        assert (found.where[0].value, found.help) == ("softmax_0", '("add_2", "add_2", "kl")')


@pytest.mark.pir
def test_a_loss_that_paddle_fails_to_build_leaves_nothing(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What raises stands in for an operator that a release of Paddle lacks."""
    before = sizes(pair[1])
    monkeypatch.setattr(losses.features.ops, "mean_square", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        losses.l2("add_2", "add_2")
    assert sizes(pair[1]) == before


@pytest.mark.pir
@pytest.mark.parametrize(
    "loss", [losses.soft_label, losses.kl, losses.dkd, losses.skd, losses.dist]
)
def test_a_teacher_that_ends_in_softmax_is_refused_unless_it_is_said(pair: Any, loss: Any) -> None:
    (found,) = refused(pair[1], lambda: loss("softmax_0", "add_2")).report

    assert (found.code, found.notes) == ("GT228", ("the input of softmax is `teacher_add_2`",))
    call = f'gt.losses.{loss.__name__}("teacher_softmax_0", "add_2", from_probs="teacher")'
    assert found.help == call
    assert typed(call) == ()
    loss("teacher_add_2", "add_2")


@pytest.mark.pir
@pytest.mark.parametrize("key", ["soft_label", "soft_label_add_2"])
def test_a_pair_of_probabilities_is_refused_unless_the_options_say_so(pair: Any, key: str) -> None:
    merged, student = pair
    pairs = [("softmax_0", "add_2", "soft_label")]

    (found,) = refused(student, lambda: gt.distill_loss(merged, pairs)).report.errors
    call = 'gt.distill_loss(merged, pairs, options={"soft_label": {"from_probs": "teacher"}})'
    assert (found.code, found.help) == ("GT228", call)
    made = eval(call, {"gt": gt, "merged": merged, "pairs": pairs})
    assert list(made.parts) == ["soft_label_add_2"]
    gt.distill_loss(merged, pairs, options={key: {"from_probs": "both"}})
    wrong = {key: {"from_probs": "none"}}
    error = refused(student, lambda: gt.distill_loss(merged, pairs, options=wrong))
    assert codes(error) == ["GT347"]


_NO_NUMBERS = [0, -1.0, float("nan"), float("inf"), 10**400, True, "2", None]
_OPTIONS = [
    *((losses.kl, {"temperature": given}) for given in _NO_NUMBERS),
    *((loss, {"temperature": 0}) for loss in (losses.dkd, losses.channel_wise, losses.dist)),
    (losses.skd, {"multiplier": 0}),
    (losses.dkd, {"alpha": -1}),
    (losses.dist, {"gamma": float("nan")}),
    (losses.relational, {"distance": -1}),
    (losses.relational, {"distance": 0, "angle": 0}),
    (losses.dkd, {"alpha": 0, "beta": 0}),
    (losses.attention_scores, {"by": "cosine"}),
    (losses.kl, {"from_probs": 3}),
]


@pytest.mark.parametrize(("loss", "options"), _OPTIONS)
def test_options_that_a_formula_does_not_allow_are_refused(
    pair: Any, loss: Any, options: Any
) -> None:
    end = value(-1, 4, 5)

    error = refused(pair[1], lambda: loss(end, end, **options))

    assert isinstance(error, gt.UsageError)
    (found,) = error.report
    assert (found.code, found.help) == ("GT347", f"help(gt.losses.{loss.__name__})")


def test_all_options_of_a_loss_are_told_at_once(pair: Any) -> None:
    options = {"teacher_temperature": 0, "student_temperature": -1, "from_probs": "all"}

    error = refused(pair[1], lambda: losses.soft_label("add_2", "add_2", **options))

    assert codes(error) == ["GT347", "GT347", "GT347"]


@pytest.mark.pir
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((-1,), "float32"), ((-1, 5), "int64"), ((-1, 1, 1), "int64"), ((-1,), "bool"), ((), "int64")],
)
def test_labels_are_class_numbers_one_for_each_sample(pair: Any, shape: Any, dtype: str) -> None:
    labels = value(*shape, dtype=dtype)

    error = refused(pair[1], lambda: losses.dkd("add_2", "add_2", labels=labels))

    assert codes(error) == ["GT346"]
    assert "wanted int64 [-1], a class number per sample" in error.report.errors[0].message


@pytest.mark.pir
def test_labels_and_a_mask_of_a_scalar_are_told_with_its_rank(pair: Any) -> None:
    scalar, each = value(), value(-1, dtype="int64", learns=False)

    for call in (
        partial(losses.dkd, "add_2", scalar, labels=each),
        partial(losses.attention_relation, scalar, scalar, mask=each),
    ):
        assert codes(refused(pair[1], call)) == ["GT333", "GT346"]


@pytest.mark.pir
@pytest.mark.parametrize("heads", [0, -2, 5, 2.0, True, "2"])
def test_relation_heads_divide_both_widths(pair: Any, heads: Any) -> None:
    ends = value(-1, 4, 7, 6), value(-1, 3, 7, 4)

    error = refused(pair[1], lambda: losses.attention_relation(*ends, heads=heads))

    assert codes(error) == ["GT347"]
    assert "a number that divides the widths, 24 and 12" in error.report.errors[0].message


@pytest.mark.pir
@pytest.mark.parametrize("shape", [(-1,), (-1, 7), (-1, 6, 1), (-1, 6, 6)])
def test_a_mask_is_a_number_for_each_token(pair: Any, shape: Any) -> None:
    states, scores, mask = value(-1, 6, 8), value(-1, 2, 6, 6), value(*shape, learns=False)

    for loss, end in (
        (losses.hidden_state, states),
        (losses.attention_scores, scores),
        (losses.attention_relation, scores),
    ):
        assert "GT346" in codes(refused(pair[1], partial(loss, end, end, mask=mask)))


def _tensor() -> Any:
    paddle.disable_static()
    tensor = paddle.ones([2, 4])
    paddle.enable_static()
    return tensor


@pytest.mark.pir
@pytest.mark.parametrize(
    "given",
    [np.zeros((2, 3)), 3, None, ("relu_0",), _tensor],
    ids=["array", "number", "none", "tuple", "tensor"],
)
def test_what_is_neither_a_value_nor_a_name_is_refused(pair: Any, given: Any) -> None:
    given = given() if callable(given) else given

    assert codes(refused(pair[1], lambda: losses.l2(given, "relu_0"))) == ["GT248"]


def test_dynamic_mode_is_refused(pair: Any) -> None:
    paddle.disable_static()
    for call in (
        lambda: losses.l2("relu_0", "relu_0"),
        lambda: gt.distill_loss(pair[0], [("relu_0", "relu_0")]),
    ):
        (found,) = refused(pair[1], call).report
        assert (found.code, found.help) == ("GT352", "paddle.enable_static()")


def test_a_name_outside_of_the_merged_program_says_which_guard_to_open(pair: Any) -> None:
    with paddle.static.program_guard(paddle.static.Program()):
        for call in (
            lambda: losses.l2("relu_0", "relu_0"),
            lambda: gt.distill_loss(pair[0], [("relu_0", "relu_0")]),
        ):
            (found,) = refused(pair[1], call).report
            assert found.code == "GT340"
            assert found.help == "with paddle.static.program_guard(merged.program, startup):"


@pytest.mark.pir
def test_a_value_of_another_program_or_inside_of_a_branch_is_refused(pair: Any) -> None:
    other = paddle.static.Program()
    with paddle.static.program_guard(other):
        foreign = value(-1, 4, 8, 8)
    inner: list[Any] = []

    def branch(scale: int) -> Any:
        inner.append(pair[0].student("add_2") * scale)
        return inner[-1]

    paddle.static.nn.cond(paddle.full([1], 1.0) > 0, lambda: branch(2), lambda: branch(3))

    (found,) = refused(pair[1], lambda: losses.l2(foreign, "relu_0")).report
    assert (found.code, found.help) == ("GT340", 'merged.teacher("relu_22")')
    for call in (lambda: losses.custom(len, x=foreign), lambda: losses.l2("add_2", inner[0])):
        assert codes(refused(pair[1], call)) == ["GT340"]


_DEAD = """
import gc, paddle
from graphtool import GraphtoolError, losses
paddle.enable_static()
def orphan():
    program = paddle.static.Program()
    with paddle.static.program_guard(program):
        return paddle.static.data("x", [-1, 4]) + 1
with paddle.static.program_guard(paddle.static.Program()):
    alive = paddle.static.data("y", [-1, 4])
    alive.stop_gradient = False
    dead = orphan()
    gc.collect()
    try:
        losses.l2(dead, alive)
    except GraphtoolError as error:
        print(error.report.errors[0].code)
"""


@pytest.mark.slow
def test_a_value_whose_program_is_gone_is_refused_and_does_not_crash() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DEAD], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip()) == (0, "GT340"), done.stderr


@pytest.mark.pir
def test_nothing_is_built_after_minimize() -> None:
    merged, student = merged_with(built(8))
    end = merged.student("add_2")
    with inside(student):
        paddle.optimizer.SGD(0.1).minimize(paddle.mean(end))
        for call in (
            lambda: losses.l2("add_2", end),
            lambda: losses.custom(paddle.mean, x=end),
            lambda: losses.adapters.conv1x1("relu_0", 5),
            lambda: gt.distill_loss(merged, [("add_2", "add_2")]),
        ):
            (found,) = refused(student, call).report
            assert found.code == "GT231"
            assert found.help == "gt.minimize(optimizer, task_loss + distillation_loss)"


@pytest.mark.pir
@pytest.mark.parametrize("result", [None, 3.0, "loss"])
def test_a_custom_function_returns_a_value(pair: Any, result: Any) -> None:
    def function(x: Any) -> Any:
        paddle.mean(x)
        return result

    assert codes(refused(pair[1], lambda: losses.custom(function, x="relu_0"))) == ["GT353"]


@pytest.mark.pir
def test_what_a_custom_function_raises_comes_through_and_nothing_stays(pair: Any) -> None:
    before = sizes(pair[1])

    def function(x: Any) -> Any:
        paddle.nn.Linear(8, 3)(x)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        losses.custom(function, x="relu_0")
    assert sizes(pair[1]) == before
