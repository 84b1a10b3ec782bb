"""What merging with paddleslim.dist gets wrong: here the right numbers, or a refusal beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.backend.live import LiveProgram
from graphtool.diagnostics import MergeError, ReadError, Severity
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


@pytest.mark.pir
def test_a_student_parameter_with_a_prefixed_teacher_name_is_refused() -> None:
    teacher, student = small(_named("w", 2.5), "x"), small(_named("teacher_w", 0.5))
    assert "GT201" in _refused(teacher, student, {"x": "data"})
    assert student.run(_ONES, student.output)[0].tolist() == [[4.0] * 5]
    parameter = LiveProgram.of(student.program).value("teacher_w")
    assert parameter.is_parameter
    assert parameter.trainable


@pytest.mark.pir
def test_a_prefixed_name_of_another_shape_leaves_the_scope_as_it_was() -> None:
    teacher, student = small(_named("w", 2.5), "x"), small(_named("teacher_w", 0.5, wide=3))
    assert "GT201" in _refused(teacher, student, {"x": "data"})
    assert student.run(_ONES, student.output)[0].tolist() == [[4.0] * 3]


@pytest.mark.pir
def test_two_nets_that_own_conv1_weights_in_one_scope_are_refused() -> None:
    scope = paddle.static.Scope()
    teacher = small(_named("conv1_weights", 2.5), "x", scope=scope)
    student = small(_named("conv1_weights", 0.5), scope=scope)
    assert _refused(teacher, student, {"x": "data"}) == ["GT202"]


def test_two_nets_that_own_conv1_weights_in_two_scopes_keep_them() -> None:
    teacher, student = small(_named("conv1_weights", 2.5), "x"), small(_named("conv1_weights", 0.5))
    merged = merge_built(teacher, student, {"x": "data"})
    theirs, ours = student.run(_ONES, merged.teacher(merged_output(merged)), student.output)
    assert theirs.tolist() == [[20.0] * 5]
    assert ours.tolist() == [[4.0] * 5]


def merged_output(merged: Merged) -> str:
    """Return the last Value of the teacher."""
    return list(merged.source.graph.operators.values())[-1].results[0]


def _fc(feed: str, seed: int) -> Built:
    return small(lambda x: paddle.static.nn.fc(x, 5), feed, kind="legacy", seed=seed)


def test_default_names_of_legacy_layers_do_not_clobber_the_teacher() -> None:
    teacher, student = _fc("x", 1), _fc("data", 2)
    assert [var.name for var in student.program.all_parameters()] == ["fc_0.w_0", "fc_0.b_0"]
    (want,) = teacher.run({"x": samples()}, teacher.output)
    merged = merge_built(teacher, student, {"x": "data"})
    fetch = [merged.teacher("fc_0.tmp_1"), student.output]
    theirs, ours = student.run({"data": samples()}, *fetch)
    assert np.array_equal(theirs, want)
    assert np.square(theirs - ours).mean() > 0.01


@pytest.mark.pir
def test_default_names_of_legacy_layers_in_one_scope_are_refused() -> None:
    teacher, student = _fc("x", 1), _fc("data", 2)
    assert _refused(teacher, student, {"x": "data"}, teacher_scope=None) == ["GT202"]


@pytest.mark.pir
def test_two_teachers_with_the_default_prefix_are_refused() -> None:
    first, second, student = (
        small(networks.plain, "x"),
        small(networks.plain, "x"),
        small(networks.plain),
    )
    merge_built(first, student, {"x": "data"})
    assert _refused(second, student, {"x": "data"})[:2] == ["GT201", "GT204"]


@pytest.mark.pir
def test_a_teacher_input_mapped_onto_an_intermediate_of_the_student_is_refused() -> None:
    teacher, student = small(networks.plain, "x"), small(networks.plain)
    assert _refused(teacher, student, {"x": "tanh_0"}) == ["GT210"]


def _softmax(x: Any) -> Any:
    return nn.functional.softmax(networks.plain(x))


def test_a_teacher_that_ends_in_softmax_is_reported() -> None:
    teacher, student = small(_softmax, "x"), small(networks.plain)
    merged = merge_built(teacher, student, {"x": "data"})
    assert "GT228" in [found.code for found in merged.report]


@pytest.mark.pir
def test_another_prefix_is_used_throughout() -> None:
    teacher, student = small(networks.plain, "x"), small(networks.plain)
    (want,) = teacher.run({"x": samples()}, teacher.output)
    merged = merge_built(teacher, student, {"x": "data"}, name_prefix="guide_")
    (got,) = student.run({"data": samples()}, merged.teacher(merged_output(merged)))
    assert np.array_equal(got, want)
    assert not any(name.startswith("teacher_") for name in merged.graph.values)
    assert sorted(merged.names.values()) == [
        "data",
        *sorted(f"guide_linear_{layer}.{kind}_0" for layer in (0, 1) for kind in "bw"),
    ]


def test_a_merge_after_minimize_is_reported() -> None:
    teacher, student = small(networks.plain, "x"), small(networks.plain)
    with paddle.static.program_guard(student.program, student.startup):
        paddle.optimizer.SGD(0.1).minimize(student.output.mean())
    report = check_merge(
        teacher.program, student.program, {"x": "data"}, student.scope, teacher.scope
    )
    (found,) = [found for found in report if found.code == "GT231"]
    assert found.severity is not Severity.NOTE


@pytest.mark.pir
@pytest.mark.parametrize(
    ("feed", "code"),
    [
        (("data", [-1, 9], "float32"), "GT217"),
        (("data", [-1, 1, 8], "float32"), "GT217"),
        (("data", [-1, 8], "float64"), "GT218"),
    ],
)
def test_a_mapped_feed_of_another_shape_or_dtype_is_refused(feed: networks.Feed, code: str) -> None:
    teacher = small(networks.plain, "x")
    student = build(lambda x: x * 2.0, feed)
    assert _refused(teacher, student, {"x": "data"}) == [code]


def _labelled(x: Any, label: Any) -> Any:
    return nn.functional.cross_entropy(networks.plain(x), label).mean()


@pytest.mark.pir
@pytest.mark.parametrize(
    ("feed_map", "code"),
    [
        ({}, "GT213"),
        ({"x": "dta"}, "GT210"),
        ({"y": "data"}, "GT210"),
    ],
)
def test_a_missing_or_misspelt_feed_is_refused(feed_map: dict[str, str], code: str) -> None:
    teacher, student = small(networks.plain, "x"), small(networks.plain)
    assert code in _refused(teacher, student, feed_map)


def test_a_label_that_nobody_maps_is_named() -> None:
    teacher = build(_labelled, ("x", [-1, 8], "float32"), ("label", [-1, 1], "int64"))
    report = check_merge(teacher.program, small(networks.plain).program, {"x": "data"})
    (found,) = [found for found in report if found.code == "GT213"]
    assert "label" in found.message


@pytest.mark.parametrize("forward", [networks.branching, networks.looping])
@pytest.mark.parametrize(
    "other",
    [
        networks.plain,
        pytest.param(networks.branching, marks=pytest.mark.slow),
        networks.looping,
    ],
)
def test_control_flow_in_the_teacher_or_in_both_is_bit_equal(
    forward: networks.Forward, other: networks.Forward
) -> None:
    teacher, student = small(forward, "x"), small(other)
    assert merge_built(teacher, student, {"x": "data"}).verify().equal


def test_a_teacher_parameter_called_like_a_feed_is_no_feed() -> None:
    teacher, student = small(_named("data", 2.5), "x"), small(_named("w", 0.5))
    merged = merge_built(teacher, student, {"x": "data"})
    theirs, ours = student.run(_ONES, merged.teacher(merged_output(merged)), student.output)
    assert (theirs[0, 0], ours[0, 0]) == (20.0, 4.0)
    assert merged.names["data"] == "teacher_data"


@pytest.mark.pir
def test_a_teacher_whose_startup_never_ran_is_refused() -> None:
    teacher, student = small(networks.plain, "x", start=False), small(networks.plain)
    assert set(_refused(teacher, student, {"x": "data"})) == {"GT235"}


@pytest.mark.pir
def test_a_wrong_name_gets_the_nearest_ones() -> None:
    teacher, student = small(networks.plain, "x"), small(networks.plain)
    merged = merge_built(teacher, student, {"x": "data"})
    with pytest.raises(ReadError) as caught:
        merged.teacher("teacher_tahn_0")
    (found,) = caught.value.report
    assert found.code == "GT101"
    assert "`tanh_0`" in found.notes[0]


def test_a_merge_gives_the_program_to_go_on_with() -> None:
    teacher, student = small(networks.plain, "x"), small(networks.plain)
    assert merge_built(teacher, student, {"x": "data"}).program is student.program


def test_two_startup_programs_in_either_order_leave_each_net_its_weights() -> None:
    for first in ("teacher", "student"):
        scope = paddle.static.Scope()
        teacher = small(_named("t", 2.5), "x", scope=scope, start=first == "teacher")
        student = small(_named("s", 0.5), scope=scope)
        run(teacher.startup, scope, {})
        merged = merge_built(teacher, student, {"x": "data"})
        run(student.startup, scope, {})
        theirs, ours = student.run(_ONES, merged.teacher(merged_output(merged)), student.output)
        assert (theirs[0, 0], ours[0, 0]) == (20.0, 4.0)
