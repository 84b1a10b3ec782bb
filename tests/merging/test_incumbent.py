"""What merging with paddleslim.dist gets wrong: here the right numbers, or a refusal beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.backend.live import LiveProgram
from graphtool.diagnostics import MergeError, Severity
from graphtool.merging import Merged, check_merge
from tests.merging import networks
from tests.merging.networks import Built, build, merge_built, run, samples, small


def _state(built: Built) -> tuple[Any, ...]:
    """Return all that a merge could change: operations, Values, and each tensor of the Scope."""
    live = LiveProgram.of(built.program)
    # What Paddle's Executor keeps for feeds and fetches is no tensor.
    names = sorted({*built.scope.local_var_names()} - {"feed", "fetch"})
    tensors = [built.scope.find_var(name).get_tensor() for name in names]
    held = [np.asarray(tensor).tobytes() if tensor._is_initialized() else b"" for tensor in tensors]
    return live.graph, dict(live.keys), list(zip(names, held, strict=True))


def _refused(teacher: Built, student: Built, feed_map: dict[str, str], **options: Any) -> list[str]:
    """Return the codes of the errors that a merge is refused with; nothing has changed."""
    before = _state(teacher), _state(student)
    with pytest.raises(MergeError) as caught:
        merge_built(teacher, student, feed_map, **options)
    assert (_state(teacher), _state(student)) == before
    return [found.code for found in caught.value.report.errors]


def _named(name: str, value: float, wide: int = 5) -> networks.Forward:
    def forward(x: Any) -> Any:
        attr = paddle.ParamAttr(name=name, initializer=nn.initializer.Constant(value))
        return nn.Linear(8, wide, weight_attr=attr, bias_attr=False)(x)

    return forward


_ONES = {"data": np.ones([1, 8], "float32")}
X = {"x": "data"}


def _plain(feed: str = "data", **options: Any) -> Built:
    return small(networks.plain, feed, **options)


def _fc(feed: str, seed: int) -> Built:
    return small(lambda x: paddle.static.nn.fc(x, 5), feed, kind="legacy", seed=seed)


def _twice(*feed: Any) -> Built:
    return build(lambda x: x * 2.0, ("data", *feed))


@pytest.mark.pir
@pytest.mark.parametrize(
    ("make", "feed_map", "code"),
    [
        (lambda: (_plain("x"), _plain()), {"x": "tanh_0"}, "GT210"),
        (lambda: (_plain("x"), _plain()), {"x": "dta"}, "GT210"),
        (lambda: (_plain("x"), _plain()), {"y": "data"}, "GT210"),
        (lambda: (_plain("x"), _plain()), {}, "GT213"),
        (lambda: (_plain("x"), _twice([-1, 9], "float32")), X, "GT217"),
        (lambda: (_plain("x"), _twice([-1, 1, 8], "float32")), X, "GT217"),
        (lambda: (_plain("x"), _twice([-1, 8], "float64")), X, "GT218"),
        (lambda: (_plain("x", start=False), _plain()), X, "GT235"),
    ],
)
def test_feeds_that_do_not_fit_and_weights_that_are_not_there_are_refused(
    make: Any, feed_map: dict[str, str], code: str
) -> None:
    assert code in _refused(*make(), feed_map)


@pytest.mark.pir
@pytest.mark.parametrize("wide", [5, 3])
def test_a_student_parameter_with_a_prefixed_teacher_name_is_refused(wide: int) -> None:
    teacher, student = small(_named("w", 2.5), "x"), small(_named("teacher_w", 0.5, wide))
    assert "GT201" in _refused(teacher, student, X)
    assert student.run(_ONES, student.output)[0].tolist() == [[4.0] * wide]
    parameter = LiveProgram.of(student.program).value("teacher_w")
    assert parameter.is_parameter
    assert parameter.trainable


@pytest.mark.pir
def test_equal_names_in_one_scope_are_refused() -> None:
    scope = paddle.static.Scope()
    teacher = small(_named("conv1_weights", 2.5), "x", scope=scope)
    student = small(_named("conv1_weights", 0.5), scope=scope)
    assert _refused(teacher, student, X) == ["GT202"]
    assert _refused(_fc("x", 1), _fc("data", 2), X, teacher_scope=None) == ["GT202"]


@pytest.mark.parametrize(
    ("teacher", "student"), [("conv1_weights", "conv1_weights"), ("data", "w")]
)
def test_equal_names_in_two_scopes_or_of_a_feed_keep_their_weights(
    teacher: str, student: str
) -> None:
    theirs, own = small(_named(teacher, 2.5), "x"), small(_named(student, 0.5))
    merged = merge_built(theirs, own, X)
    found = own.run(_ONES, merged.teacher(merged_output(merged)), own.output)
    assert [array.tolist() for array in found] == [[[20.0] * 5], [[4.0] * 5]]
    assert merged.names[teacher] == f"teacher_{teacher}"


def merged_output(merged: Merged) -> str:
    """Return the last Value of the teacher."""
    return list(merged.source.graph.operators.values())[-1].results[0]


def test_default_names_of_legacy_layers_do_not_clobber_the_teacher() -> None:
    teacher, student = _fc("x", 1), _fc("data", 2)
    assert [var.name for var in student.program.all_parameters()] == ["fc_0.w_0", "fc_0.b_0"]
    (want,) = teacher.run({"x": samples()}, teacher.output)
    merged = merge_built(teacher, student, X)
    fetch = [merged.teacher("fc_0.tmp_1"), student.output]
    theirs, ours = student.run({"data": samples()}, *fetch)
    assert np.array_equal(theirs, want)
    assert np.square(theirs - ours).mean() > 0.01


@pytest.mark.pir
def test_two_teachers_with_the_default_prefix_are_refused() -> None:
    student = _plain()
    assert merge_built(_plain("x"), student, X).program is student.program
    assert _refused(_plain("x"), student, X)[:2] == ["GT201", "GT204"]


def test_a_teacher_that_ends_in_softmax_is_reported() -> None:
    teacher = small(lambda x: nn.functional.softmax(networks.plain(x)), "x")
    assert "GT228" in [found.code for found in merge_built(teacher, _plain(), X).report]


@pytest.mark.pir
def test_another_prefix_is_used_throughout() -> None:
    teacher, student = _plain("x"), _plain()
    (want,) = teacher.run({"x": samples()}, teacher.output)
    merged = merge_built(teacher, student, X, name_prefix="guide_")
    (got,) = student.run({"data": samples()}, merged.teacher(merged_output(merged)))
    assert np.array_equal(got, want)
    assert not any(name.startswith("teacher_") for name in merged.graph.values)
    assert sorted(merged.names.values()) == [
        "data",
        *sorted(f"guide_linear_{layer}.{kind}_0" for layer in (0, 1) for kind in "bw"),
    ]


def test_a_merge_after_minimize_is_reported() -> None:
    teacher, student = _plain("x"), _plain()
    with student.guard():
        paddle.optimizer.SGD(0.1).minimize(student.output.mean())
    report = check_merge(teacher.program, student.program, X, student.scope, teacher.scope)
    (found,) = [found for found in report if found.code == "GT231"]
    assert found.severity is not Severity.NOTE


def test_a_label_that_nobody_maps_is_named() -> None:
    def labelled(x: Any, label: Any) -> Any:
        return nn.functional.cross_entropy(networks.plain(x), label).mean()

    teacher = build(labelled, ("x", [-1, 8], "float32"), ("label", [-1, 1], "int64"))
    report = check_merge(teacher.program, _plain().program, X)
    (found,) = [found for found in report if found.code == "GT213"]
    assert "label" in found.message


@pytest.mark.parametrize("forward", [networks.branching, networks.looping])
@pytest.mark.parametrize(
    "other",
    [
        networks.plain,
        pytest.param(networks.branching, marks=pytest.mark.slow),
        networks.looping,
        networks.cell,
    ],
)
def test_control_flow_in_the_teacher_or_in_both_is_bit_equal(
    forward: networks.Forward, other: networks.Forward
) -> None:
    assert merge_built(small(forward, "x"), small(other), X).verify().equal


def test_two_startup_programs_in_either_order_leave_each_net_its_weights() -> None:
    for first in ("teacher", "student"):
        scope = paddle.static.Scope()
        teacher = small(_named("t", 2.5), "x", scope=scope, start=first == "teacher")
        student = small(_named("s", 0.5), scope=scope)
        run(teacher.startup, scope, {})
        merged = merge_built(teacher, student, X)
        run(student.startup, scope, {})
        theirs, ours = student.run(_ONES, merged.teacher(merged_output(merged)), student.output)
        assert (theirs[0, 0], ours[0, 0]) == (20.0, 4.0)
