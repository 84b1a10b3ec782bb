"""What a merge gives: Values of both networks by every name they have."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import paddle
import pytest
from rich.console import Console

from graphtool.diagnostics import MergeError, ReadError
from graphtool.merging import Merged, merge, merged_of
from graphtool.merging.folder import load_merged, save_merged
from graphtool.sources.layers import from_layer
from tests.merging import networks
from tests.merging.networks import merge_built, run, samples, small
from tests.networks import PlainConvolutions


@pytest.fixture
def merged() -> Merged:
    teacher, student = small(networks.looping, "image"), small(networks.perceptron)
    return merge_built(teacher, student)


@pytest.mark.pir
def test_old_and_prefixed_names_mean_one_value_and_a_mapped_feed_is_the_students(
    merged: Merged,
) -> None:
    assert merged.teacher("while_0:1").is_same(merged.teacher("teacher_while_0:1"))
    weight = merged.teacher("linear_0.w_0")
    assert weight.name == merged.names["linear_0.w_0"] == "teacher_linear_0.w_0"
    assert weight.is_same(merged.teacher("teacher_linear_0.w_0"))
    assert merged.teacher("image").is_same(merged.student("data"))
    assert merged.names["image"] == "data"
    # Values of a Block are found too.
    assert merged.teacher("if_0/0/add_0").get_defining_op().name() == "pd_op.add"


@pytest.mark.pir
def test_names_in_the_merged_graph_and_values_go_together(merged: Merged) -> None:
    for old, new in merged.values.items():
        theirs, ours = merged.source.graph.values[old], merged.graph.values[new]
        assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
    assert len(set(merged.values.values())) == len(merged.values)
    assert merged.values["while_0/0/relu_0"] == "while_0/0/relu_0"
    assert merged.values["full_0"] == "full_1"


@pytest.mark.pir
def test_the_student_keeps_its_names_and_new_ones_are_found(merged: Merged) -> None:
    assert merged.student("add_1").shape == [-1, 5]
    with paddle.static.program_guard(merged.program):
        loss = paddle.nn.functional.sigmoid(merged.student("add_1"))
    assert merged.student("sigmoid_0").is_same(loss)


@pytest.mark.pir
def test_a_miss_names_the_nearest_and_the_name_as_it_was_typed(merged: Merged) -> None:
    for name in ("while_0:9", "teacher_while_9"):
        with pytest.raises(ReadError) as raised:
            merged.teacher(name)
        (found,) = raised.value.report
        assert (found.code, found.message) == ("GT101", f"no Value is called `{name}`")
        assert "`while_0:1`" in found.notes[0]
    with pytest.raises(ReadError, match="GT101"):
        merged.student("teacher_nope")


@pytest.mark.pir
@pytest.mark.parametrize(("role", "other"), [("teacher", "student"), ("student", "teacher")])
def test_a_name_of_the_other_network_is_said_to_be_one(
    merged: Merged, role: str, other: str
) -> None:
    name = {"teacher": "while_0:1", "student": "data"}[other]
    with pytest.raises(ReadError) as raised:
        getattr(merged, role)(name)
    (found,) = raised.value.report
    assert found.code == "GT101"
    assert found.message == f"the {role} has no `{name}`: it is the {other}'s `{name}`"
    assert found.help == f"merged.{other}({name!r})"
    assert eval(str(found.help)) is not None


def _saved_legacy(folder: Path) -> tuple[Path, str]:
    """Save a legacy network that ends in softmax; return its path and its output's Variable."""

    def network(x: Any) -> Any:
        return paddle.nn.functional.softmax(paddle.nn.Linear(8, 5)(x))

    built = small(network, "image", kind="legacy")
    return built.save(folder / "net"), built.output.name


@pytest.mark.pir
def test_the_output_of_a_translated_model_is_found_by_its_legacy_name(tmp_path: Path) -> None:
    path, output = _saved_legacy(tmp_path)
    student = small(networks.plain)
    merged = merge(path, student.program, {"image": "data"}, scope=student.scope)
    save_merged(merged, tmp_path / "out")
    loaded = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    for one in (merged, loaded):
        for name in (output, f"teacher_{output}", "softmax_0"):
            assert one.teacher(name).get_defining_op().name() == "pd_op.softmax"
        rows = one.verify(fetch=(f"teacher_{output}",)).comparisons
        assert [(row.name, row.equal, row.shape) for row in rows] == [("softmax_0", True, (2, 5))]


@pytest.mark.pir
def test_what_a_legacy_merge_leaves_out_is_a_diagnostic(tmp_path: Path) -> None:
    path, output = _saved_legacy(tmp_path)
    student = small(_linear, kind="legacy")
    merged = merge(path, student.program, {"image": "data"}, scope=student.scope)
    assert merged.teacher("fetch").name == f"teacher_{output}"
    with pytest.raises(ReadError, match=r"GT031.*`feed`"):
        merged.teacher("feed")
    with pytest.raises(MergeError, match=r"GT253.*`feed`"):
        merged.verify(fetch=("teacher_feed",))


@pytest.mark.pir
@pytest.mark.slow
def test_attribute_paths_of_both_networks_are_found() -> None:
    teacher = from_layer(lambda: PlainConvolutions([8, 16]), [(3, 16, 16)], train=False)
    student = from_layer(lambda: PlainConvolutions([4, 8]), [(3, 16, 16)])
    paddle.enable_static()
    merged = merge(teacher, student, {"x": "x"}, parameters="later")
    assert merged.teacher("stages.1.3").shape == [-1, 16, 4, 4]
    assert merged.teacher("stages.0").shape == [-1, 8, 8, 8]
    assert merged.teacher("/PlainConvolutions/Sequential_1").shape == [-1, 16, 4, 4]
    assert merged.student("stages.1.0").shape == [-1, 8, 4, 4]


def test_a_layer_of_dynamic_mode_brings_its_weights_along() -> None:
    layer = paddle.nn.Sequential(paddle.nn.Linear(8, 6), paddle.nn.BatchNorm1D(6))
    wanted = (layer.eval(), layer(paddle.to_tensor(samples())))[1].numpy()
    teacher = from_layer(layer, [(8,)], train=False)
    student = small(networks.perceptron)
    merged = merge(teacher, student.program, {teacher.feeds[0]: "data"}, scope=student.scope)
    value = merged.teacher(teacher.fetches[0])
    given = run(student.program, student.scope, {"data": samples()}, value)[0]
    assert abs(given - wanted).max() < 1e-6
    paddle.disable_static()
    layer[0].weight.set_value(paddle.zeros([8, 6]))
    paddle.enable_static()
    again = run(student.program, student.scope, {"data": samples()}, value)[0]
    assert again.tobytes() == given.tobytes()


@pytest.mark.pir
@pytest.mark.slow
def test_values_outlive_all_names_of_the_programs() -> None:
    def made() -> Any:
        teacher, student = small(networks.looping, "image"), small(networks.perceptron)
        return merge_built(teacher, student)

    merged = made()
    gc.collect()
    assert merged.teacher("while_0:1").shape == [-1, 5]
    assert merged.verify().equal


def test_the_merged_of_a_program_is_found_and_a_clone_has_none(merged: Merged) -> None:
    assert merged_of(merged.program) is merged
    assert merged_of(merged.program.clone()) is None
    assert merged.teachers == (merged,)


def test_its_repr_and_its_table_say_what_was_merged(merged: Merged) -> None:
    assert "2 parameters as teacher_*" in repr(merged)
    assert "image -> data" in repr(merged)
    console = Console(width=140)
    with console.capture() as captured:
        console.print(merged)
    rows = [[cell.strip() for cell in line.split("│")] for line in captured.get().splitlines()]
    assert ["", "feed", "image", "data", ""] in rows
    assert ["", "parameters", "2", "now", ""] in rows


def _twice(x: Any) -> Any:
    return paddle.nn.Linear(8, 5)(paddle.nn.functional.relu(paddle.nn.functional.relu(x)))


@pytest.mark.pir
@pytest.mark.parametrize("loaded", [False, True])
def test_a_slip_in_a_students_name_never_means_the_teachers_value(
    tmp_path: Path, *, loaded: bool
) -> None:
    teacher, student = small(_twice, "image"), small(networks.perceptron)
    merged = merge_built(teacher, student)
    if loaded:
        save_merged(merged, tmp_path / "out")
        merged = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    assert merged.values["relu_0"] == "relu_1"
    for name in ("relu_1", "relu_2", "teacher_linear_0.w_0"):
        with pytest.raises(ReadError, match=r"GT101.*\n.*\n.*nearest"):
            merged.student(name)
    with paddle.static.program_guard(merged.program):
        own = paddle.nn.functional.relu(merged.student("add_1"))
    assert merged.student("relu_3").is_same(own)


def test_a_slip_in_a_students_name_is_a_miss_in_legacy_programs_too() -> None:
    teacher, student = small(_linear, "image", kind="legacy"), small(_linear, kind="legacy")
    merged = merge_built(teacher, student)
    with pytest.raises(ReadError, match="GT101"):
        merged.student("teacher_linear_0.w_0")
    assert merged.student("linear_0.w_0").name == "linear_0.w_0"


def _linear(x: Any) -> Any:
    return paddle.nn.Linear(8, 5)(x)


@pytest.mark.slow
def test_a_teacher_that_its_owner_trains_on_is_still_the_one_that_was_merged(
    merged: Merged, tmp_path: Path
) -> None:
    own = merged.source.program
    with paddle.static.program_guard(own, paddle.static.Program()):
        loss = merged.source.value("while_0:1").mean()
        paddle.optimizer.SGD(0.1).minimize(loss)
    assert merged.verify().equal
    save_merged(merged, tmp_path / "out")
    saved = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    assert saved.source.graph.operators.keys() == merged.source.graph.operators.keys()


@pytest.mark.parametrize("kind", networks.KINDS)
@pytest.mark.slow
def test_a_clone_of_a_merged_program_keeps_its_teachers(kind: str, tmp_path: Path) -> None:
    forwards = (networks.plain, networks.perceptron) if kind == "pir" else (_linear, _linear)
    teachers = [small(forwards[0], f"image{number}", kind=kind) for number in (0, 1)]
    student = small(forwards[1], kind=kind)
    first = merge_built(teachers[0], student, {"image0": "data"}, name_prefix="one_")
    student.program = clone = student.program.clone()
    second = merge_built(teachers[1], student, {"image1": "data"}, name_prefix="two_")

    assert [merged.prefix for merged in second.teachers] == ["one_", "two_"]
    assert [merged.prefix for merged in first.teachers] == ["one_"]
    assert all(merged.program is clone for merged in second.teachers)
    assert all(merged.verify().equal for merged in second.teachers)
    moved = second.teachers[0]
    weight, other = moved.teacher("linear_0.w_0"), first.teacher("linear_0.w_0")
    assert (weight.name, other.name) == ("one_linear_0.w_0", "one_linear_0.w_0")
    assert weight is not other
    save_merged(second, tmp_path / "out")
    loaded = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    assert [merged.prefix for merged in loaded.teachers] == ["one_", "two_"]
    assert all(merged.verify().equal for merged in loaded.teachers)
