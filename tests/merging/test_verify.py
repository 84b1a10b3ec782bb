"""Verify: it tells equal from different, and leaves everything of the user's as it was."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from rich.console import Console

import graphtool as gt
from graphtool.diagnostics import Diagnostic, MergeError, Report, Severity, UsageError
from graphtool.merging import Merged, _partitioned_run, merge
from graphtool.merging.folder import load_merged, save_merged
from tests.merging import networks
from tests.merging.networks import Built, build, bytes_of, hold, merge_built, samples, small

_RATES = pytest.mark.parametrize(
    "rate", [lambda: 0.1, lambda: paddle.optimizer.lr.StepDecay(0.1, 2)], ids=["number", "schedule"]
)


@pytest.mark.pir
@pytest.mark.slow
def test_every_forward_value_of_both_networks_is_compared() -> None:
    merged, _, _ = _merged()
    found = merged.verify()
    rows = [(row.role, row.name, row.merged) for row in found.comparisons]
    assert ("teacher", "while_0:1", "while_0:1") in rows
    assert ("student", "dropout_0", "dropout_0") in rows
    assert bool(found)
    assert {row.difference for row in found.comparisons} == {0.0}
    assert found.generated == ("data",)


@pytest.mark.pir
def test_a_difference_is_found_and_measured() -> None:
    merged, student, _ = _merged()
    block = student.program.global_block()
    dropout = next(op for op in block.ops if op.name() == "pd_op.dropout")
    dropout.set_bool_attr("is_test", True)  # noqa: FBT003
    found = merged.verify(fetch=("add_1", "teacher_while_0:1"))
    assert [row.name for row in found.different] == ["add_1"]
    assert 0 < found.different[0].difference < 10
    assert "differs by up to" in str(found)


@pytest.mark.pir
def test_programs_variables_and_random_state_stay_byte_for_byte() -> None:
    merged, student, teacher = _merged()
    ours, theirs = student.scope.local_var_names(), teacher.scope.local_var_names()
    before = bytes_of(teacher.scope, theirs), str(student.program), str(teacher.program)
    paddle.seed(11)
    wanted = _dropout_of(student)
    paddle.seed(11)
    state = bytes_of(student.scope, ours)
    merged.verify()
    assert bytes_of(student.scope, ours) == state
    assert _dropout_of(student).tobytes() == wanted.tobytes()
    after = bytes_of(teacher.scope, theirs), str(student.program), str(teacher.program)
    assert after == before
    assert sorted(student.scope.local_var_names()) == sorted(ours)


@pytest.mark.pir
@pytest.mark.slow
def test_branches_that_draw_at_once_draw_alike_in_each_run() -> None:
    """Paddle gives independent branches their random numbers in any order unless it is told."""
    shape = [-1, 3, 4, 4]
    teacher = networks.build(lambda x: x + 1, ("image", shape, "float32"))
    student = networks.build(_two_branches, ("data", shape, "float32"))
    merged = merge_built(teacher, student)
    flags = ["FLAGS_new_executor_serial_run"]
    before = paddle.get_flags(flags)
    for _ in range(20):
        assert merged.verify(fetch=["if_0", "if_1"])
    assert paddle.get_flags(flags) == before


def test_given_input_is_used_and_an_unknown_name_is_refused() -> None:
    merged, _, _ = _merged()
    assert merged.verify({"data": samples(3)}).comparisons[-1].shape == (3, 5)
    with pytest.raises(MergeError, match=r"GT210.*`image`"):
        merged.verify({"image": samples(3)})


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"feed": {"data": "x"}}, "merged.verify({'data': array})"),
        ({"feed": {"data": [[1, 2], [3]]}}, "merged.verify({'data': array})"),
        ({"feed": "x"}, "merged.verify({'data': array})"),
        ({"fetch": "add_1"}, "merged.verify(fetch=('add_1',))"),
        ({"fetch": (3,)}, "merged.verify()"),
    ],
    ids=str,
)
def test_input_that_is_no_array_and_names_that_are_no_text_are_refused(
    options: Any, call: str
) -> None:
    merged, _, _ = _merged()
    with pytest.raises(UsageError) as caught:
        merged.verify(**options)
    assert [(found.code, found.help) for found in caught.value.report] == [("GT248", call)]
    for call in (merged.teacher, merged.student):
        with pytest.raises(UsageError, match=r"GT248.*`selector` is `3`"):
            call(3)


@pytest.mark.pir
def test_a_value_inside_of_a_loop_is_refused() -> None:
    merged, _, _ = _merged()
    with pytest.raises(MergeError, match=r"GT253.*`while_0/0/relu_0`"):
        merged.verify(fetch=("teacher_while_0/0/relu_0",))


def test_it_works_before_anything_has_weights() -> None:
    teacher = small(networks.lstm, "image", start=False)
    student = small(networks.perceptron, start=False)
    merged = merge_built(teacher, student, parameters="later")
    assert merged.verify().equal


def test_it_works_in_dynamic_mode() -> None:
    merged, _, _ = _merged()
    paddle.disable_static()
    assert merged.verify().equal
    assert paddle.in_dynamic_mode()


@_RATES
@pytest.mark.slow
def test_it_works_after_minimize_without_the_optimizers_feeds(rate: Callable[[], Any]) -> None:
    merged, student, _ = _merged()
    with paddle.static.program_guard(student.program, student.startup):
        label = paddle.static.data("label", [-1, 5], "float32")
        loss = ((student.output - label) ** 2).mean()
        paddle.optimizer.Adam(rate()).minimize(loss)
    assert merged.verify().equal
    assert merged.verify().generated == ("data",)


@_RATES
def test_a_legacy_merge_is_verified_without_what_was_added_since(rate: Callable[[], Any]) -> None:
    merged, student = _merged_legacy()
    with student.guard():
        label = paddle.static.data("label", [-1, 5])
        loss = paddle.nn.functional.mse_loss(student.output, label)
        paddle.optimizer.Adam(rate()).minimize(loss)
    found = merged.verify()
    assert found.equal
    assert found.generated == ("data",)
    assert {row.role for row in found.comparisons} == {"teacher", "student"}


def test_the_rich_form_is_a_table_of_all_values() -> None:
    merged, _, _ = _merged()
    found = merged.verify()
    console = Console(width=120)
    with console.capture() as captured:
        console.print(found)
    assert found.__rich__().row_count == len(found.comparisons) + len(found.weights)
    assert "Values and 2 of 2 weights are bit-equal" in captured.get()


def _merged() -> tuple[Merged, Built, Built]:
    teacher, student = small(networks.looping, "image"), small(networks.perceptron)
    return merge_built(teacher, student), student, teacher


def _two_branches(x: Any) -> Any:
    first, second = (
        paddle.static.nn.cond(
            x.mean() < 1e6,
            lambda: paddle.nn.functional.dropout(x, 0.5),
            lambda: x,
        )
        for _ in range(2)
    )
    return first + second


def _dropout_of(student: Built) -> Any:
    program, scope = student.program.clone(), paddle.static.Scope()
    (dropout,) = [op for op in program.global_block().ops if op.name() == "pd_op.dropout"]
    for name in student.scope.local_var_names():
        hold(scope, name, student.held(name))
    return networks.run(program, scope, {"data": samples()}, dropout.result(0))[0]


@pytest.mark.pir
def test_a_name_that_the_student_has_is_the_students_though_the_prefix_is_in_it() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.plain)
    merged = merge_built(teacher, student, name_prefix="t")
    rows = merged.verify(fetch=("tanh_0", "ttanh_0")).comparisons
    assert [(row.role, row.name, row.merged) for row in rows] == [
        ("teacher", "tanh_0", "tanh_1"),
        ("student", "tanh_0", "tanh_0"),
    ]


def test_a_weight_that_is_not_the_teachers_any_more_is_found() -> None:
    merged, student, _ = _merged()
    before = merged.verify()
    assert [row.name for row in before.weights] == [old for old, _ in merged.plan.weights]
    _spoil(student.scope, "teacher_linear_0.w_0")
    found = merged.verify()
    assert all(row.equal for row in found.comparisons)
    assert not found
    (row,) = found.different
    assert (row.role, row.name, row.merged) == ("teacher", "linear_0.w_0", "teacher_linear_0.w_0")
    assert row.difference == pytest.approx(0.5, abs=1e-6)
    assert "1 of 2 weights are bit-equal" in str(found)


@pytest.mark.slow
def test_weights_that_came_later_are_compared_with_what_they_came_from() -> None:
    teacher, student = small(networks.looping, "image"), small(networks.perceptron)
    merged = merge_built(teacher, student)
    arrays = {old: np.ones_like(teacher.held(old)) for old, _ in merged.plan.weights}
    merged.load_teacher(arrays)
    found = merged.verify()
    assert found.weights == ()
    assert list(found.unchecked) == list(arrays)
    assert "not checked: 2 weights (the mapping that they came from is not kept)" in str(found)
    merged.load_teacher(teacher.scope)
    assert len(merged.verify().weights) == 2
    assert merged.verify().equal


@pytest.mark.pir
def test_weights_of_a_teacher_given_as_a_path_are_compared_with_its_file(tmp_path: Path) -> None:
    path = small(networks.plain, "image").save(tmp_path / "teacher")
    student = small(networks.plain)
    merged = merge(path, student.program, {"image": "data"}, scope=student.scope)
    found = merged.verify()
    assert str(found).endswith("and 4 of 4 weights are bit-equal; generated: data")
    assert (len(found.weights), found.unchecked, bool(found)) == (4, {}, True)
    _spoil(student.scope, "teacher_linear_0.b_0")
    assert [row.name for row in merged.verify().different] == ["linear_0.b_0"]
    merged.load_teacher(path.with_suffix(".pdiparams"))
    assert len(merged.verify().weights) == 4
    assert merged.verify().equal
    path.with_suffix(".pdiparams").unlink()
    found = merged.verify()
    assert found.weights == ()
    assert f"; not checked: 4 weights (`{path.with_suffix('.pdiparams')}` does not exist)" in str(
        found
    )


@pytest.mark.pir
@pytest.mark.slow
def test_weights_of_a_loaded_folder_are_compared_with_its_file(tmp_path: Path) -> None:
    merged, _, _ = _merged()
    save_merged(merged, tmp_path / "out")
    scope = paddle.static.Scope()
    loaded = load_merged(tmp_path / "out", scope=scope)
    assert [row.merged for row in loaded.verify().weights] == list(
        dict(merged.plan.weights).values()
    )
    _spoil(scope, "teacher_linear_0.b_0")
    assert [row.name for row in loaded.verify().different] == ["linear_0.b_0"]
    (tmp_path / "out" / "manifest.json").unlink()
    assert "; not checked: 2 weights (the folder holds no merged program" in str(loaded.verify())


def test_shared_memory_is_not_compared_with_itself() -> None:
    teacher, student = small(networks.looping, "image"), small(networks.perceptron)
    found = merge_built(teacher, student, share=True).verify()
    assert found.weights == ()
    why = "they share the memory of the Scope that they came from"
    assert str(found).endswith(f"; not checked: 2 weights ({why})")
    assert (found.equal, bool(found)) == (True, False)


def test_what_compares_nothing_is_no_pass() -> None:
    merged, _, _ = _merged()
    found = merged.verify(fetch=())
    assert (found.comparisons, len(found.weights), found.equal) == ((), 2, True)
    assert not found


@pytest.mark.pir
@pytest.mark.parametrize("layer", [paddle.nn.GRU, paddle.nn.LSTM])
def test_the_state_of_a_recurrent_layer_is_no_weight_before_and_after_a_run(layer: Any) -> None:
    paddle.disable_static()
    teacher = gt.from_layer(layer(8, 5), [("inputs", (4, 8))])
    student = gt.from_layer(paddle.nn.Linear(8, 5), [("data", (4, 8))])
    paddle.enable_static()
    scope = paddle.static.Scope()
    merged = merge(teacher, student, {"inputs": "data"}, scope=scope)
    before = merged.verify()
    output = merged.teacher(teacher.fetches[0])
    networks.run(merged.program, scope, {"data": np.zeros((2, 4, 8), "float32")}, output)
    for found in (before, merged.verify()):
        assert (len(found.weights), found.unchecked, bool(found)) == (4, {}, True)
        assert str(found).endswith("4 of 4 weights are bit-equal; generated: data")


@pytest.mark.pir
def test_what_a_write_to_a_variable_gave_before_the_next_one_is_not_compared() -> None:
    """Cut into pieces or run as a whole, it is fetched before the next write or after it."""

    def centred(x: Any) -> Any:
        kept = paddle.pir.core.create_persistable_value(
            dtype="float32",
            shape=[8],
            name="centre",
            initializer=paddle.nn.initializer.Constant(0.0),
        )
        for _ in range(2):
            paddle._C_ops.assign_out_((x + kept).mean(0), kept)
        return paddle.nn.Linear(8, 5)(x + kept)

    student = networks.build(centred, ("data", [-1, 8], "float32"))
    merged = merge_built(small(networks.plain, "image"), student)
    found = merged.verify()
    names = [row.name for row in found.comparisons if row.role == "student"]
    assert found
    assert "assign_out_0" not in names
    assert {"assign_out_1", "mean_0", "mean_1"} <= set(names)


def test_a_student_that_is_its_own_teacher_may_be_trained() -> None:
    student = small(networks.plain, "image")
    merged = merge(student.program, student.program, {"image": "image"}, scope=student.scope)
    for old, _ in merged.plan.weights:
        student.hold(old, student.held(old) * 2)
    assert merged.verify().equal


def test_an_operator_that_was_put_before_all_others_is_none_of_the_merge() -> None:
    """As a moving average and some schedules of legacy programs do."""
    merged, student = _merged_legacy()
    with student.guard():
        block = student.program.global_block()
        step = block.create_var(name="step", shape=[1], dtype="float32", persistable=True)
        block._prepend_op(
            type="increment", inputs={"X": [step]}, outputs={"Out": [step]}, attrs={"step": 1.0}
        )
    found = merged.verify()
    assert found.equal
    assert {row.role for row in found.comparisons} == {"teacher", "student"}


@pytest.mark.pir
def test_sequences_have_to_be_given() -> None:
    def pooled(feed: str) -> Built:
        def network() -> Any:
            x = paddle.static.data(feed, [-1, 8], "float32", lod_level=1)
            pool = paddle.static.nn.sequence_lod.sequence_pool
            return pool(paddle.nn.Linear(8, 5)(x), "max")

        return build(network, kind="legacy")

    merged = merge_built(pooled("image"), pooled("data"))
    with pytest.raises(MergeError, match=r"GT256.*`data` takes sequences"):
        merged.verify()
    given = paddle.base.create_lod_tensor(samples(5), [[2, 3]], paddle.CPUPlace())
    found = merged.verify({"data": given})
    assert found.equal
    assert found.comparisons[-1].shape == (2, 5)


@pytest.mark.pir
@pytest.mark.parametrize("doubts", [(), ("two tensors",)])
def test_input_that_a_network_does_not_take_is_a_diagnostic_with_what_the_merge_warned_of(
    doubts: tuple[str, ...],
) -> None:
    merged, _, _ = _merged()
    warned = [Diagnostic(code="GT206", message=m, severity=Severity.WARNING) for m in doubts]
    with pytest.raises(MergeError) as caught:
        replace(merged, report=Report.of(warned)).verify({"data": np.zeros((3, 7), "float32")})
    (found,) = caught.value.report
    assert found.code == "GT258"
    # Each Paddle has its own words for it.
    assert re.match(r"the teacher alone does not run: .*\b7\b", found.message)
    assert found.notes == tuple(f"the merge warned, GT206: {doubt}" for doubt in doubts)
    again = "merged.verify()  # on generated input"
    assert found.help == ("print(merged.report)" if doubts else again)


@pytest.mark.slow
def test_paddle_2_6_verifies_what_to_static_made(paddle26: str) -> None:
    """Its programs do not say themselves what they are fed."""
    done = subprocess.run(
        [paddle26, "-c", _TRACED],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[-2:] == [
        "4 of 4 Values and 2 of 2 weights are bit-equal; generated: data",
        "",
    ]


_TRACED = """
import zlib
import paddle
import graphtool as gt
teacher, student = (gt.from_layer(paddle.nn.Linear(8, 5), [("data", (8,))]) for _ in range(2))
paddle.enable_static()
print(gt.merge(teacher, student, {"data": "data"}).verify())
"""


def _spoil(scope: Any, name: str) -> None:
    held = scope.find_var(name).get_tensor()
    held.set(np.array(held) + np.float32(0.5), paddle.CPUPlace())


def _merged_legacy() -> tuple[Merged, Built]:
    teacher, student = (
        small(lambda x: paddle.nn.Linear(8, 5)(x), feed, kind="legacy")
        for feed in ("image", "data")
    )
    return merge_built(teacher, student), student


class _Fetched:
    """Paddle's Executor, and what each run of it gave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[list[Any]] = []
        run = paddle.static.Executor.run

        def noted(executor: Any, *arguments: Any, **options: Any) -> Any:
            found = run(executor, *arguments, **options)
            self.runs.append([np.array(tensor) for tensor in found])
            return found

        monkeypatch.setattr(paddle.static.Executor, "run", noted)

    @property
    def megabytes(self) -> list[float]:
        return [sum(array.nbytes for array in run) / 2**20 for run in self.runs]


@pytest.mark.pir
@pytest.mark.nightly
def test_memory_is_bounded_however_many_values_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    paddle.disable_static()
    image = [("image", (3, 224, 224))]
    teacher = gt.from_layer(paddle.vision.models.resnet18(), image, train=False)
    student = gt.from_layer(paddle.vision.models.mobilenet_v1(scale=0.5), image)
    paddle.enable_static()
    merged = merge(teacher, student, {"image": "image"}, scope=paddle.static.Scope())
    fetched = _Fetched(monkeypatch)
    images = np.random.default_rng(0).normal(size=(6, 3, 224, 224)).astype("float32")
    assert merged.verify({"image": images})
    assert sum(fetched.megabytes) > 500
    assert max(fetched.megabytes) < 100


@pytest.mark.pir
@pytest.mark.slow
def test_what_is_cut_into_pieces_computes_as_the_whole_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is drawn, kept, written over in place, and read by a branch is as in one run."""
    width = 2**10
    monkeypatch.setattr(
        _partitioned_run, "_BYTES_OF_A_PIECE", 2 * width * 4
    )  # Two samples fill a piece.

    def network(x: Any) -> Any:
        normed = paddle.nn.BatchNorm1D(1)(x.reshape([-1, 1, width])).reshape([-1, width])
        noisy = paddle.nn.functional.dropout(normed, 0.5)
        doubled = noisy * 2
        before = doubled + 1
        rectified = paddle.nn.functional.relu_(doubled)
        chosen = paddle.static.nn.cond(before.mean() > 0, lambda: before, lambda: rectified)
        first, second = paddle.split(chosen + rectified, 2, axis=1)
        return paddle.nn.functional.dropout(paddle.concat([second, first], axis=1), 0.5)

    teacher = networks.build(lambda x: x * 2 + 1, ("image", [-1, width], "float32"))
    student = networks.build(network, ("data", [-1, width], "float32"))
    merged = merge_built(teacher, student)
    fetched = _Fetched(monkeypatch)
    assert merged.verify(fetch=["dropout_1"])
    assert len(fetched.runs) == 3  # In one piece each, where little is fetched.
    (whole,) = fetched.runs[0]
    fetched.runs.clear()
    assert merged.verify()
    assert len(fetched.runs) > 15
    assert any(whole.tobytes() == array.tobytes() for run in fetched.runs for array in run)
