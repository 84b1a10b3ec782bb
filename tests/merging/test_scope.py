"""The teacher's weights: copied, or shared where asked to, loaded now or later."""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from typing import Any

import numpy as np
import paddle
import pytest

from graphtool.backend.tensors import assign_tensors
from graphtool.diagnostics import GraphtoolError, MergeError, Severity, UsageError
from graphtool.merging import Merged, check_merge, merge
from graphtool.training import load_parameters
from tests.merging import networks
from tests.merging.networks import Built, bytes_of, hold, merge_built, run, samples, small


def plain_pair(**student: Any) -> tuple[Built, Built]:
    return small(networks.plain, "image"), small(networks.plain, **student)


@pytest.mark.pir
@pytest.mark.parametrize("share", [False, True])
def test_weights_are_shared_between_two_scopes_where_asked_to(*, share: bool) -> None:
    teacher, student = plain_pair()
    merged = merge_built(teacher, student, share=share)
    assert len(merged.plan.renames) == 4
    for old, new in merged.plan.renames:
        assert (_address(student.scope, new) == _address(teacher.scope, old)) is share


@pytest.mark.pir
@pytest.mark.parametrize("share", [False, True])
def test_a_student_that_began_with_the_teachers_own_buffers_trains_alone(*, share: bool) -> None:
    teacher, student = plain_pair()
    names = [f"linear_{index}.{kind}_0" for index in (0, 1) for kind in "wb"]
    for name in names[:2]:
        held = teacher.scope.find_var(name).get_tensor()
        student.scope.find_var(name).get_tensor()._share_data_with(held)
    merged = merge_built(teacher, student, share=share)
    kept = bytes_of(student.scope, dict(merged.plan.renames).values())
    ours = bytes_of(student.scope, names)
    _step(student)
    assert bytes_of(student.scope, kept) == kept
    assert all(held != ours[name] for name, held in bytes_of(student.scope, names).items())
    one = [
        _address(student.scope, new) == _address(teacher.scope, old)
        for old, new in merged.plan.renames
    ]
    assert sum(one) == (2 if share else 0)


@pytest.mark.pir
@pytest.mark.parametrize("when", ["now", "later"])
def test_startup_of_the_teacher_run_again_leaves_the_merged_teacher(when: str) -> None:
    teacher, student = plain_pair()
    merged = merge_built(teacher, student, parameters=when)
    if when == "later":
        merged.load_teacher(teacher.scope)
    kept = bytes_of(student.scope, dict(merged.plan.renames).values())
    theirs = bytes_of(teacher.scope, dict(merged.plan.renames))
    paddle.seed(8)
    run(teacher.startup, teacher.scope, {})
    assert bytes_of(teacher.scope, theirs) != theirs
    assert bytes_of(student.scope, kept) == kept


@pytest.mark.pir
@pytest.mark.parametrize("relative", ["the same", "an inner one"])
def test_the_students_weights_are_not_loaded_as_the_teachers(relative: str) -> None:
    teacher, student = plain_pair()
    merged = merge_built(teacher, student, parameters="later")
    source = student.scope if relative == "the same" else student.scope.new_scope()
    with pytest.raises(MergeError) as caught:
        merged.load_teacher(source)
    (found,) = caught.value.report
    assert found.code == "GT202"
    assert "is the student's tensor" in found.message
    assert student.scope.find_var("teacher_linear_0.w_0") is None
    for old, new in merged.plan.renames:
        array = np.full(_shape(merged, old), 3, "float32")
        student.hold(new, array)
    kept = bytes_of(student.scope, dict(merged.plan.renames).values())
    merged.load_teacher(source)
    assert bytes_of(student.scope, kept) == kept


@pytest.mark.pir
def test_a_program_may_load_its_own_weights_as_its_teachers() -> None:
    both = small(networks.plain)
    merged = merge(
        both.program, both.program, {"data": "data"}, scope=both.scope, parameters="later"
    )
    merged.load_teacher(both.scope)
    for old, new in merged.plan.renames:
        assert bytes_of(both.scope, [old])[old] == bytes_of(both.scope, [new])[new]
        assert _address(both.scope, old) != _address(both.scope, new)


@pytest.mark.parametrize("inner", ["teacher", "student"])
def test_one_name_in_a_scope_and_one_inside_it_is_refused(inner: str) -> None:
    outer = paddle.static.Scope()
    kid = outer.new_scope()
    teacher = small(networks.plain, "image", scope=outer)
    student = small(networks.plain, scope=outer)
    teacher.scope, student.scope = (kid, outer) if inner == "teacher" else (outer, kid)
    report = check_merge(
        teacher.program, student.program, {"image": "data"}, student.scope, teacher.scope
    )
    assert [found.code for found in report.errors] == ["GT202"]
    assert "4 tensors of the same name" in report.errors[0].message
    with pytest.raises(MergeError) as caught:
        merge_built(teacher, student)
    assert [found.code for found in caught.value.report.errors] == ["GT202"]
    later = merge_built(teacher, student, parameters="later").report
    assert [found.code for found in later if found.severity is Severity.WARNING] == ["GT202"]


@pytest.mark.pir
def test_a_name_that_an_inner_scope_has_for_itself_is_no_collision() -> None:
    teacher, student = plain_pair()
    kid = student.scope.new_scope()
    for index in (0, 1):
        for name in (f"linear_{index}.w_0", f"linear_{index}.b_0"):
            array = teacher.held(name)
            hold(kid, name, array + 1)
    teacher.scope = kid
    merged = merge_built(teacher, student)
    for old, new in merged.plan.renames:
        assert bytes_of(kid, [old])[old] == bytes_of(student.scope, [new])[new]


@pytest.mark.slow
def test_sharing_takes_no_memory() -> None:
    """64 MiB of weights; both buffers are one, and the process does not grow by them."""

    def wide(x: Any) -> Any:
        return paddle.nn.Linear(4096, 4096)(paddle.tile(x, [1, 512]))

    teacher, student = small(wide, "image"), small(networks.plain)
    before = _resident()
    merge_built(teacher, student, share=True)
    assert _resident() - before < 0.05 * 64 * 2**20


@pytest.mark.pir
def test_a_scope_inside_the_teachers_own_counts_as_one() -> None:
    teacher = small(networks.plain, "image")
    inner = teacher.scope.new_scope()
    student = small(networks.branching, scope=inner, names="student_")
    merged = merge(
        teacher.program, student.program, {"image": "data"}, None, inner, teacher.scope, share=True
    )
    for old, new in merged.plan.renames:
        assert _address(inner, new) != _address(teacher.scope, old)
    assert merged.verify().equal


@pytest.mark.pir
@pytest.mark.parametrize("first", ["merge", "startup"])
def test_startup_of_the_student_may_run_before_or_after(first: str) -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron, start=False)
    if first == "startup":
        run(student.startup, student.scope, {})
    merged = merge_built(teacher, student)
    run(student.startup, student.scope, {})
    wanted = teacher.run({"image": samples()}, teacher.output)[0]
    given = run(student.program, student.scope, {"data": samples()}, merged.teacher("add_1"))[0]
    assert given.tobytes() == wanted.tobytes()


@pytest.mark.pir
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
        assign_tensors(tensors, scope, undo=undo)
        assert np.array(held).tolist() == [0] * 5
    empty = scope.find_var("empty").get_tensor()
    assert np.array(held).tolist() == [[3, 3, 3], [3, 3, 3]]
    assert (empty._is_initialized(), empty.shape()) == (False, [0])
    assert scope.find_var("new") is None


@pytest.mark.pir
@pytest.mark.parametrize("source", ["scope", "old names", "new names", "file", "state dict"])
def test_weights_can_be_loaded_later(source: str, tmp_path: Any) -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    before = sorted(student.scope.local_var_names())
    merged = merge_built(teacher, student, parameters="later")
    assert sorted(student.scope.local_var_names()) == before

    merged.load_teacher(_weights(source, merged, teacher, tmp_path))

    wanted = teacher.run({"image": samples()}, teacher.output)[0]
    given = run(student.program, student.scope, {"data": samples()}, merged.teacher("add_1"))[0]
    assert given.tobytes() == wanted.tobytes()


@pytest.mark.pir
def test_a_place_may_be_named_and_a_wrong_one_changes_nothing() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    before = str(student.program), sorted(student.scope.local_var_names())
    for place in ("nowhere", 3):
        with pytest.raises(UsageError, match=r"GT248.*`place`"):
            merge_built(teacher, student, place=place)
    assert (str(student.program), sorted(student.scope.local_var_names())) == before
    merged = merge_built(teacher, student, place="cpu")
    held = bytes_of(student.scope, dict(merged.plan.weights).values())
    assert list(held.values()) == list(bytes_of(teacher.scope, dict(merged.plan.weights)).values())


@pytest.mark.pir
def test_loading_replaces_shared_weights_without_touching_the_teachers() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    merged = merge_built(teacher, student, share=True)
    kept = bytes_of(teacher.scope, dict(merged.plan.renames))
    merged.load_teacher({old: np.zeros(_shape(merged, old), "float32") for old in kept})
    assert bytes_of(teacher.scope, kept) == kept
    assert not student.held("teacher_linear_0.w_0").any()


@pytest.mark.pir
def test_missing_and_misshapen_weights_load_nothing() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    merged = merge_built(teacher, student, parameters="later")
    with pytest.raises(MergeError) as caught:
        merged.load_teacher({"linear_0.w_0": np.zeros((8, 6), "float32")})
    assert [found.code for found in caught.value.report] == ["GT250"]
    weights = {old: np.zeros(_shape(merged, old), "float32") for old, _ in merged.plan.renames}
    weights["linear_0.w_0"] = np.zeros((6, 8), "float32")
    weights["linear_0.b_0"] = np.zeros(6, "float64")
    with pytest.raises(MergeError) as caught:
        merged.load_teacher(weights)
    assert [found.code for found in caught.value.report] == ["GT237", "GT237"]
    assert student.scope.find_var("teacher_linear_0.w_0") is None


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "GT001"), (b"no weights at all", "GT240"), (bytes(12) + b"\x07" * 9, "GT240")],
)
def test_a_file_that_holds_no_weights_is_a_diagnostic_and_loads_nothing(
    content: bytes | None, code: str, tmp_path: Any
) -> None:
    teacher, student = small(networks.plain, "image"), small(networks.perceptron)
    merged = merge_built(teacher, student, parameters="later")
    path = tmp_path / "weights"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GraphtoolError, match=code):
        merged.load_teacher(path)
    with pytest.raises(UsageError, match=r"GT248.*`3`"):
        merged.load_teacher(3)
    assert student.scope.find_var("teacher_linear_0.w_0") is None


def _step(student: Built) -> None:
    """Train the student a step, on nothing but its own output."""
    student.startup = paddle.static.Program()
    with student.guard():
        loss = (student.output * student.output).mean()
        paddle.optimizer.SGD(0.1).minimize(loss)
    student.initialise()
    student.run({"data": samples()}, loss)


def _weights(source: str, merged: Merged, teacher: Built, folder: Any) -> Any:
    arrays = {old: teacher.held(old) for old, _ in merged.plan.renames}
    if source == "scope":
        return teacher.scope
    if source == "file":
        return teacher.save(folder / "model").with_suffix(".pdiparams")
    if source == "state dict":
        return _given("file", arrays, folder)
    return arrays if source == "old names" else {merged.names[k]: v for k, v in arrays.items()}


def _shape(merged: Merged, name: str) -> Any:
    return merged.source.graph.values[name].shape


def _address(scope: Any, name: str) -> int:
    return scope.find_var(name).get_tensor()._ptr()


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("source", ["mapping", "file", "scope"])
def test_a_checkpoint_of_a_merged_program_gives_the_teachers_weights_not_the_students(
    source: str, tmp_path: Any
) -> None:
    teacher, student = plain_pair()
    merged = merge_built(teacher, student)
    arrays = _filled(merged, 1)
    merged.load_teacher(_given(source, arrays, tmp_path))
    for _, new in merged.plan.weights:
        assert student.held(new).tobytes() == arrays[new].tobytes()


def _all_names(merged: Merged) -> list[str]:
    return [name for pair in merged.plan.weights for name in pair]


def _filled(merged: Merged, number: float = 0) -> dict[str, Any]:
    """Return an array for each weight of both networks, of one number or of its place."""
    return {
        name: np.full(_shape(merged, name.removeprefix("teacher_")), number * place, "float32")
        for place, name in enumerate(_all_names(merged))
    }


def _given(source: str, arrays: Any, folder: Any) -> Any:
    if source == "mapping":
        return arrays
    if source == "scope":
        scope = paddle.static.Scope()
        for name, array in arrays.items():
            hold(scope, name, array)
        return scope
    path = folder / "checkpoint.pdparams"
    path.write_bytes(pickle.dumps(arrays, protocol=4))
    return path


def test_a_checkpoint_of_a_merged_program_that_lacks_a_weight_is_refused() -> None:
    teacher, student = plain_pair()
    merged = merge_built(teacher, student)
    arrays = _filled(merged)
    del arrays["teacher_linear_0.w_0"]
    with pytest.raises(MergeError, match=r"GT250.*lacks 1 of"):
        merged.load_teacher(arrays)


def test_what_is_no_array_of_numbers_is_refused() -> None:
    teacher, student = plain_pair()
    merged = merge_built(teacher, student)
    arrays: dict[str, Any] = {
        old: np.zeros(_shape(merged, old), "float32") for old, _ in merged.plan.weights
    }
    arrays["linear_0.w_0"] = np.array([[None] * 6] * 8)
    arrays["linear_0.b_0"] = ["six", "words"]
    kept = bytes_of(student.scope, dict(merged.plan.weights).values())
    with pytest.raises(MergeError) as caught:
        merged.load_teacher(arrays)
    assert sorted(found.message for found in caught.value.report) == [
        "`linear_0.b_0` is <U5 [2]; the teacher wants float32 [5]",
        "`linear_0.w_0` is object [8, 6]; the teacher wants float32 [6, 5]",
    ]
    assert bytes_of(student.scope, kept) == kept


def test_loading_parameters_leaves_a_scope_that_shares_the_teachers_buffers_alone(
    tmp_path: Any,
) -> None:
    teacher, student = plain_pair()
    merged = merge_built(teacher, student, share=True)
    kept = bytes_of(teacher.scope, dict(merged.plan.weights))
    arrays = _filled(merged)
    load_parameters(merged, _given("file", arrays, tmp_path), scope=student.scope)
    assert not any(student.held(name).any() for name in arrays)
    assert bytes_of(teacher.scope, kept) == kept
