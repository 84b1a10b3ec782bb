"""A legacy teacher joins a legacy student bit by bit, on Paddle 3 and on 2.6.2, or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F  # noqa: N812

from graphtool.backend.live import LiveProgram
from graphtool.diagnostics import MergeError
from graphtool.merging import check_merge, merge
from graphtool.merging.folder import load_merged, save_merged
from tests.merging import cases, networks
from tests.merging.networks import merge_built

_ROOT = Path(__file__).parents[2]
_CONTROL = _ROOT / "tests" / "fixtures" / "2.6.2" / "control.pdmodel"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(cases.FAMILIES[0], marks=pytest.mark.nightly), *cases.FAMILIES[1:]],
)
def test_a_family_is_bit_equal_and_its_student_trains(name):
    assert cases.run(cases.family(name)) == cases.AS_IT_SHOULD_BE


# What another case goes through as well.
_LONGER = (
    "loop in the teacher",
    "teacher writes over its feed",
    "student writes over its feed",
    "a recurrent teacher",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in _LONGER else [])
        for name in cases.CASES
    ],
)
def test_an_unusual_program_is_bit_equal_and_its_student_trains(name):
    assert cases.run(cases.CASES[name]()) == cases.expected(name)


@pytest.mark.slow
def test_paddle_2_6_merges_all_of_them_alike(paddle26):
    names = [*cases.FAMILIES, *cases.CASES, *cases.OLD_CASES]
    done = subprocess.run(
        [paddle26, "-m", "tests.merging.cases", *names],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found == {name: cases.expected(name) for name in names}, done.stderr


def _linear(name, *, activation=None):
    def network():
        x = paddle.static.data(name, [-1, 8])
        y = paddle.nn.Linear(8, 8)(x)
        return activation(y) if activation else y

    return network


def _batch_norm():
    x = paddle.static.data("x", [-1, 3, 8, 8])
    return F.dropout(paddle.nn.BatchNorm2D(3)(paddle.nn.Conv2D(3, 3, 3)(x)), 0.5)


def _convolution():
    return paddle.nn.Conv2D(3, 3, 3)(paddle.static.data("data", [-1, 3, 8, 8]))


def _control_weights():
    random = np.random.RandomState(5)
    shapes = {"linear_0.w_0": (8, 8), "linear_0.b_0": (8,)}
    return {name: random.randn(*shape).astype("float32") for name, shape in shapes.items()}


@pytest.mark.slow
def test_a_file_of_2_6_with_branch_and_loop_joins_a_student_of_paddle_3():
    weights, feed = _control_weights(), np.ones([2, 8], "float32")
    student = cases.build(_linear("data"))
    source, scope = student.program, student.scope
    merged = merge(_CONTROL, source, {"x": "data"}, scope=scope, parameters="later")
    merged.load_teacher(weights)
    (got,) = student.run({"data": feed}, merged.teacher("concat_0.tmp_0"))
    with networks.legacy():
        program = paddle.static.deserialize_program(_CONTROL.read_bytes())
    alone = networks.Built(program, None, None, paddle.static.Scope())
    for name, array in weights.items():
        alone.hold(name, array)
    want, _ = alone.run({"x": feed}, "concat_0.tmp_0")
    assert np.array_equal(got, want)
    assert got.any()


def test_a_saved_inference_model_loses_its_feed_and_fetch_operators(tmp_path):
    teacher, feed = cases.build(_linear("x", activation=F.relu)), np.ones([2, 8], "float32")
    path = teacher.save(tmp_path / "net")
    (want,) = teacher.run({"x": feed}, teacher.output)
    student = cases.build(_linear("data"))
    merged = merge(path, student.program, {"x": "data"}, scope=student.scope)
    (got,) = student.run({"data": feed}, merged.teacher(teacher.output.name))
    assert np.array_equal(got, want)
    with networks.legacy():
        types = [op.type for op in student.program.global_block().ops]
    assert types[:2] == ["matmul_v2", "elementwise_add"]
    assert set(types[2:]) <= {"matmul_v2", "elementwise_add", "relu", "scale"}
    assert not {"feed", "fetch"} & set(student.program.global_block().vars)


@pytest.mark.call_stacks
def test_the_teacher_is_in_test_mode_and_lets_no_gradient_pass():
    teacher, student = cases.build(_batch_norm), cases.build(_convolution)
    merged = merge_built(teacher, student, {"x": "data"})
    block = student.program.global_block()
    with networks.legacy():
        flags = {op.type: op.attr("is_test") for op in block.ops if op.has_attr("is_test")}
        roles = {op.attr("op_role") for op in block.ops}
        lines = [line for op in block.ops for line in op.attr("op_callstack")]
    assert {flags["batch_norm"], flags["dropout"]} == {True}
    assert roles == {0}
    assert any("_batch_norm" in line for line in lines)
    teachers = [block.vars[new] for _, new in merged.plan.renames]
    assert all(var.stop_gradient for var in teachers)
    parameters = [var for var in teachers if var.is_parameter]
    assert [var.trainable for var in parameters] == [False] * 6
    assert sum(var.persistable for var in teachers) == 6


def test_the_students_own_objects_stay_and_stay_trainable():
    teacher, student = cases.build(_linear("x")), cases.build(_linear("data"))
    block = student.program.global_block()
    before = dict(block.vars), list(block.ops)
    merge_built(teacher, student, {"x": "data"})
    assert {name: block.vars[name] for name in before[0]} == before[0]
    assert block.ops[: len(before[1])] == before[1]
    parameters = [var for var in student.program.all_parameters() if "teacher" not in var.name]
    assert [(var.name, var.trainable, var.stop_gradient) for var in parameters] == [
        ("linear_0.w_0", True, False),
        ("linear_0.b_0", True, False),
    ]


def test_a_program_teaches_itself():
    student, feed = cases.build(_linear("data")), np.ones([2, 8], "float32")
    (want,) = student.run({"data": feed}, student.output)
    merged = merge_built(student, student, {"data": "data"})
    with student.guard():
        paddle.optimizer.SGD(0.1).minimize(paddle.mean(student.output))
    student.run({}, program=_learning_rate(student))
    fetch = [merged.teacher(student.output.name), student.output]
    first, second = (student.run({"data": feed}, *fetch) for _ in range(2))
    assert np.array_equal(first[0], want)
    assert np.array_equal(first[1], want)
    assert np.array_equal(second[0], want)
    assert not np.array_equal(second[1], want)


def _learning_rate(student):
    """Return the startup program without what would set the student's weights again."""
    with networks.legacy():
        program = student.startup.clone()
        block = program.global_block()
        for index in reversed(range(len(block.ops))):
            if "learning_rate" not in block.ops[index].output_arg_names[0]:
                block._remove_op(index)
    return program


@pytest.mark.pir
def test_two_teachers_keep_their_own_weights():
    first, second = cases.build(_linear("x"), seed=1), cases.build(_linear("x"), seed=2)
    student, feed = cases.build(_linear("data"), seed=3), np.ones([2, 8], "float32")
    merges = [
        merge_built(teacher, student, {"x": "data"}, name_prefix=prefix)
        for teacher, prefix in ((first, "one_"), (second, "two_"))
    ]
    fetch = [merged.teacher("linear_0.tmp_1") for merged in merges]
    got = student.run({"data": feed}, *fetch, student.output)
    for output, network in zip(got, (first, second, student), strict=True):
        assert np.array_equal(output, network.run({"data": feed, "x": feed}, network.output)[0])
    assert not np.array_equal(got[0], got[1])


def test_weights_are_shared_between_scopes_where_asked_to():
    teacher, student = cases.build(_linear("x")), cases.build(_linear("data"))
    merge_built(teacher, student, {"x": "data"}, share=True)
    ours = student.scope.find_var("teacher_linear_0.w_0").get_tensor()
    assert ours._ptr() == teacher.scope.find_var("linear_0.w_0").get_tensor()._ptr()


class _Stop(BaseException):
    """Not an Exception: nothing may catch it on the way."""


def _calls(work, *, stop=None):
    """Do the work and count the calls in it while the Program changes; raise at one of them.

    Returns whether it came to that one, and how many there were.
    """
    count, armed = 0, False

    def watch(frame, *_):
        nonlocal count, armed
        name = frame.f_code.co_name
        armed = armed or (name == "_append" and frame.f_code.co_filename.endswith("joining.py"))
        if name == "pop_all":  # From here on the merge is done.
            sys.setprofile(None)
        elif armed:
            count += 1
            if count == stop:
                raise _Stop

    sys.setprofile(watch)
    try:
        work()
    except _Stop:
        return True, count
    finally:
        sys.setprofile(None)
    return False, count


def _snapshot(built):
    program = built.program
    return (
        program.desc.serialize_to_string(),
        [list(map(id, block.ops)) for block in program.blocks],
        [{name: id(var) for name, var in block.vars.items()} for block in program.blocks],
        sorted(built.scope.local_var_names()),
        cases.state(built),
        built.startup.desc.serialize_to_string(),
        program.current_block_idx,
    )


@pytest.mark.pir
@pytest.mark.parametrize("stride", [499, pytest.param(43, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case",
    ["loop in both", pytest.param("both write over their feeds", marks=pytest.mark.slow)],
)
def test_a_failure_at_any_step_leaves_everything_as_it_was(case, stride):
    case = cases.CASES[case]()
    teacher, student = cases.build(case.teacher), cases.build(case.student)
    held = student.program.global_block().vars["data"]
    before = _snapshot(teacher), _snapshot(student)
    stop = 1
    while _calls(lambda: merge_built(teacher, student, {"x": "data"}), stop=stop)[0]:
        assert (_snapshot(teacher), _snapshot(student)) == before, stop
        stop += stride
    assert stop > 2000
    assert held.name == "data"
    assert held.shape == (-1, 8)


@pytest.mark.slow
def test_a_failed_merge_leaves_a_student_that_still_merges_and_trains():
    case = cases.CASES["loop in both"]()
    teacher, student = cases.build(case.teacher, seed=3), cases.build(case.student)
    other = cases.build(case.student)
    _, total = _calls(lambda: merge_built(teacher, other, {"x": "data"}))
    assert _calls(lambda: merge_built(teacher, student, {"x": "data"}), stop=total - 1)[0]
    merged = merge_built(teacher, student, {"x": "data"})
    found = cases.trained(merged, student, merged.teacher(teacher.output.name), case.feed, teacher)
    assert found == {name: cases.AS_IT_SHOULD_BE[name] for name in found}


@pytest.mark.slow
def test_blocks_are_told_apart_after_the_merge():
    case = cases.CASES["loop in both"]()
    teacher, student = cases.build(case.teacher), cases.build(case.student)
    merged = merge_built(teacher, student, {"x": "data"})
    graph = LiveProgram.of(student.program).graph
    assert set(graph.blocks) == {"", "while_0/0", "while_1/0"}
    inside = {old: new for old, new in merged.values.items() if old.startswith("while_0/0/")}
    assert inside
    assert {new.partition("teacher_")[0] for new in inside.values()} == {"while_1/0/"}
    assert set(inside.values()) <= set(graph.values)


def test_a_pir_file_cannot_join_a_legacy_student_and_nothing_has_changed():
    student = cases.build(_linear("data"))
    before = student.program.desc.serialize_to_string()
    path = _ROOT / "tests" / "fixtures" / "3.3.1" / "cnn.json"
    with pytest.raises(MergeError, match="GT243"):
        merge(path, student.program, {"image": "data"}, scope=student.scope)
    assert student.program.desc.serialize_to_string() == before


@pytest.mark.parametrize("saved", [False, True])
def test_levels_of_detail_that_translation_leaves_out_are_seen_before(tmp_path, saved):
    def sequences():
        x = paddle.static.data("x", [-1, 8], lod_level=1)
        return paddle.nn.Linear(8, 8)(x)

    teacher, student = cases.build(sequences), networks.small(networks.plain)
    source = teacher.program
    if saved:
        source = tmp_path / "net.pdmodel"
        source.write_bytes(teacher.program.desc.serialize_to_string())
    options = {"scope": student.scope, "teacher_scope": teacher.scope}
    with pytest.raises(MergeError, match="GT219"):
        merge(source, student.program, {"x": "data"}, **options)
    report = check_merge(source, student.program, {"x": "data"}, **options)
    assert "GT219" in {found.code for found in report.errors}


def test_loops_and_convolutions_have_no_mode_that_a_note_would_speak_of():
    teacher, student = cases.build(cases._loop("x")), cases.build(_linear("data"))
    convolution = cases.build(_convolution)
    for one, feeds in ((teacher, {"x": "data"}), (convolution, {"data": "teacher_data"})):
        report = check_merge(one.program, student.program, feeds, student.scope, one.scope)
        assert "GT223" not in {found.code for found in report}


def test_a_prefix_may_be_a_slash_which_parts_blocks_elsewhere(tmp_path):
    teacher, student = cases.build(_linear("x")), cases.build(_linear("data"))
    merged = merge_built(teacher, student, {"x": "data"}, name_prefix="/")
    save_merged(merged, tmp_path / "out")
    loaded = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    assert dict(loaded.plan.weights)["linear_0.w_0"] == "/linear_0.w_0"
    assert merged.verify().equal
    assert loaded.verify().equal
