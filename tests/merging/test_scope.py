"""The teacher's weights: shared between Scopes, copied within one, loaded now or later."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import paddle
import pytest

from graphtool.diagnostics import MergeError
from graphtool.merging import Merged, merge
from graphtool.merging._scope import hand_over
from tests.merging import networks
from tests.merging.networks import Built, bytes_of, run, samples, small


def test_weights_are_shared_between_two_scopes() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.plain)
    merged = _merge(teacher, student)
    assert len(merged.plan.renames) == 4
    for old, new in merged.plan.renames:
        assert _address(student.scope, new) == _address(teacher.scope, old)


def test_sharing_takes_no_memory() -> None:
    """64 MiB of weights; both buffers are one, and the process does not grow by them."""

    def wide(x: Any) -> Any:
        return paddle.nn.Linear(4096, 4096)(paddle.tile(x, [1, 512]))

    teacher, student = small(wide, "image"), small(networks.plain)
    before = _resident()
    _merge(teacher, student)
    assert _resident() - before < 0.05 * 64 * 2**20


def test_weights_are_copied_within_one_scope() -> None:
    student = small(networks.plain)
    merged = merge(student.program, student.program, {"data": "data"}, scope=student.scope)
    for old, new in merged.plan.renames:
        assert _address(student.scope, new) != _address(student.scope, old)


def test_a_scope_inside_the_teachers_own_counts_as_one() -> None:
    teacher = small(networks.plain, "image")
    inner = teacher.scope.new_scope()
    student = small(networks.branching, scope=inner, names="student_")
    merged = merge(teacher.program, student.program, {"image": "data"}, None, inner, teacher.scope)
    for old, new in merged.plan.renames:
        assert _address(inner, new) != _address(teacher.scope, old)
    assert merged.verify().equal


@pytest.mark.parametrize("first", ["merge", "startup"])
def test_startup_of_the_student_may_run_before_or_after(first: str) -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron, start=False)
    if first == "startup":
        run(student.startup, student.scope, {})
    merged = _merge(teacher, student)
    run(student.startup, student.scope, {})
    wanted = teacher.run({"image": samples()}, teacher.output)[0]
    given = run(student.program, student.scope, {"data": samples()}, merged.teacher("add_1"))[0]
    assert given.tobytes() == wanted.tobytes()


def test_weights_of_a_shared_scope_outlive_all_startup_programs() -> None:
    teacher = small(networks.plain, "image")
    student = small(networks.branching, scope=teacher.scope, names="student_")
    merged = merge(teacher.program, student.program, {"image": "data"}, scope=teacher.scope)
    kept = bytes_of(teacher.scope, dict(merged.plan.renames).values())
    run(teacher.startup, teacher.scope, {})
    run(student.startup, teacher.scope, {})
    assert bytes_of(teacher.scope, kept) == kept


def test_what_undoes_a_hand_over_gives_variables_their_bytes_back() -> None:
    scope, others = paddle.static.Scope(), paddle.static.Scope()
    paddle.enable_static()
    held, given = scope.var("held").get_tensor(), others.var("given").get_tensor()
    held.set(np.full((2, 3), 3, "float32"), paddle.CPUPlace())
    given.set(np.zeros(5, "int64"), paddle.CPUPlace())
    scope.var("empty")
    with ExitStack() as undo:
        tensors = {"held": given, "empty": given, "new": given}
        hand_over(tensors, scope, undo=undo)
        assert np.array(held).tolist() == [0] * 5
    empty = scope.find_var("empty").get_tensor()
    assert np.array(held).tolist() == [[3, 3, 3], [3, 3, 3]]
    assert (empty._is_initialized(), empty.shape()) == (False, [0])
    assert scope.find_var("new") is None


@pytest.mark.parametrize("source", ["scope", "old names", "new names", "file"])
def test_weights_can_be_loaded_later(source: str, tmp_path: Any) -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    before = sorted(student.scope.local_var_names())
    merged = _merge(teacher, student, parameters="later")
    assert sorted(student.scope.local_var_names()) == before

    merged.load_teacher(_weights(source, merged, teacher, tmp_path))

    wanted = teacher.run({"image": samples()}, teacher.output)[0]
    given = run(student.program, student.scope, {"data": samples()}, merged.teacher("add_1"))[0]
    assert given.tobytes() == wanted.tobytes()


def test_loading_replaces_shared_weights_without_touching_the_teachers() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    merged = _merge(teacher, student)
    kept = bytes_of(teacher.scope, dict(merged.plan.renames))
    merged.load_teacher({old: np.zeros(_shape(merged, old), "float32") for old in kept})
    assert bytes_of(teacher.scope, kept) == kept
    assert not np.array(student.scope.find_var("teacher_linear_0.w_0").get_tensor()).any()


def test_missing_and_misshapen_weights_load_nothing() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    merged = _merge(teacher, student, parameters="later")
    with pytest.raises(MergeError) as caught:
        merged.load_teacher({"linear_0.w_0": np.zeros((8, 6), "float32")})
    assert [found.code for found in caught.value.report] == ["GT250"]
    weights = {old: np.zeros(_shape(merged, old), "float32") for old, _ in merged.plan.renames}
    weights["linear_0.w_0"] = np.zeros((6, 8), "float32")
    weights["linear_0.b_0"] = np.zeros(6, "float64")
    with pytest.raises(MergeError) as caught:
        merged.load_teacher(weights)
    assert [found.code for found in caught.value.report] == ["GT251", "GT251"]
    assert student.scope.find_var("teacher_linear_0.w_0") is None


def _merge(teacher: Built, student: Built, **options: Any) -> Merged:
    return merge(
        teacher.program,
        student.program,
        {"image": "data"},
        scope=student.scope,
        teacher_scope=teacher.scope,
        **options,
    )


def _weights(source: str, merged: Merged, teacher: Built, folder: Any) -> Any:
    arrays = {
        old: np.array(teacher.scope.find_var(old).get_tensor()) for old, _ in merged.plan.renames
    }
    if source == "scope":
        return teacher.scope
    if source == "file":
        feed = next(op for op in teacher.program.global_block().ops if op.name() == "pd_op.data")
        with paddle.static.scope_guard(teacher.scope):
            paddle.static.save_inference_model(
                str(folder / "model"),
                [feed.result(0)],
                [teacher.output],
                paddle.static.Executor(),
                program=teacher.program,
            )
        return folder / "model.pdiparams"
    return arrays if source == "old names" else {merged.names[k]: v for k, v in arrays.items()}


def _shape(merged: Merged, name: str) -> Any:
    return merged.source.graph.values[name].shape


def _address(scope: Any, name: str) -> int:
    return scope.find_var(name).get_tensor()._ptr()


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096
