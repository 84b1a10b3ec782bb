"""A student that is handed over as a Layer of dynamic mode keeps the weights that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

import graphtool.merging
from graphtool.diagnostics import MergeError, Severity
from graphtool.merging import Merged, check_merge, merge
from graphtool.sources.layers import Network, from_layer
from graphtool.training import load_parameters
from tests.merging.cases import legacy
from tests.merging.networks import array_in, hold, run, samples

_INPUT = [("data", (8,))]


def trained() -> Any:
    """A Layer whose weights and running statistics are not those of an initialiser."""
    layer = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1D(6), nn.ReLU(), nn.Linear(6, 5))
    layer(paddle.to_tensor(samples() * 3 + 1))
    return layer


def networks() -> tuple[Network, Network, Any]:
    """A teacher and a student in dynamic mode's own way; static mode is on afterwards."""
    layer = trained()
    teacher, student = from_layer(trained(), _INPUT, train=False), from_layer(layer, _INPUT)
    paddle.enable_static()
    return teacher, student, layer


def merged_into(scope: Any, teacher: Network, student: Network) -> Merged:
    return merge(teacher, student, {"data": "data"}, scope=scope)


def in_scope(scope: Any, student: Network) -> dict[str, bytes]:
    return {
        name: array_in(scope, variable).tobytes() for name, variable in student.parameters.items()
    }


def in_layer(layer: Any) -> dict[str, bytes]:
    paddle.disable_static()
    found = {name: value.numpy().tobytes() for name, value in layer.state_dict().items()}
    paddle.enable_static()
    return found


@pytest.mark.parametrize(
    "startup",
    ["never", "twice", *(pytest.param(x, marks=pytest.mark.slow) for x in ("before", "after"))],
)
def test_its_weights_are_there_whenever_its_startup_program_runs(startup: str) -> None:
    (teacher, student, layer), scope = networks(), paddle.static.Scope()
    if startup in ("before", "twice"):
        run(student.startup, scope, {})
    merged = merged_into(scope, teacher, student)
    with paddle.static.program_guard(merged.program, student.startup):
        adapted = nn.Linear(5, 5)(merged.student(student.fetches[0]))
    if startup in ("after", "twice"):
        run(student.startup, scope, {})
    assert in_scope(scope, student) == in_layer(layer)
    assert len(merged.report) == 0
    if startup in ("after", "twice"):
        assert run(merged.program, scope, {"data": samples()}, adapted)[0].shape == (4, 5)


class Recurrent(nn.Layer):
    """Has a state of dropout that holds nothing in dynamic mode."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(4, 3)

    def forward(self, x: Any) -> Any:
        return self.recurrent(x.reshape([-1, 2, 4]))[0]


@pytest.mark.pir
@pytest.mark.parametrize("saved", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_recurrent_layer_teaches_though_a_file_lacks_the_state_of_its_dropout(
    tmp_path: Path, *, saved: bool
) -> None:
    layer = Recurrent()
    layer.eval()
    teacher, student = (from_layer(net, _INPUT) for net in (layer, Recurrent()))
    source: Any = teacher
    if saved:
        spec = paddle.static.InputSpec([-1, 8], "float32", "data")
        paddle.jit.save(layer, str(tmp_path / "net"), input_spec=[spec])
        source = tmp_path / "net.json"
    scope = paddle.static.Scope()
    paddle.enable_static()

    assert check_merge(source, student, {"data": "data"}, scope).errors == ()
    merged = merge(source, student, {"data": "data"}, scope=scope)
    assert merged.verify().equal
    found = run(merged.program, scope, {"data": samples()}, merged.teacher("rnn_0"))[0]
    paddle.disable_static()
    with paddle.no_grad():
        wanted = layer(paddle.to_tensor(samples())).numpy()
    assert found.transpose([1, 0, 2]).tobytes() == wanted.tobytes()


def test_what_was_loaded_over_a_teacher_is_what_teaches(tmp_path: Path) -> None:
    (teacher, student, layer), theirs = networks(), paddle.static.Scope()
    wanted = in_layer(layer)
    paddle.save(layer.state_dict(), str(tmp_path / "net.pdparams"))
    load_parameters(teacher, tmp_path / "net.pdparams", scope=theirs)

    scope = paddle.static.Scope()
    merged = merge(teacher, student, {"data": "data"}, scope=scope, teacher_scope=theirs)

    held = {
        key: array_in(scope, merged.names[name]).tobytes()
        for key, name in teacher.parameters.items()
    }
    assert held == wanted
    assert merged.verify()


def test_a_scope_that_holds_a_part_of_a_teacher_is_passed_over_aloud() -> None:
    (teacher, student, _), theirs = networks(), paddle.static.Scope()
    name = teacher.parameters["0.weight"]
    hold(theirs, name, np.full((8, 6), 3, "float32"))

    scope = paddle.static.Scope()
    with pytest.warns(UserWarning, match="GT241"):
        merged = merge(teacher, student, {"data": "data"}, scope=scope, teacher_scope=theirs)

    (found,) = merged.report
    assert found.message == (
        f"`teacher_scope` holds 1 of {len(teacher.parameters)} weights of the teacher, "
        f"which has its own: `{name}`"
    )
    held = scope.find_var(merged.names[name]).get_tensor()
    assert np.array(held).tobytes() == in_layer(teacher.layer)["0.weight"]


@pytest.mark.slow
def test_a_second_teacher_joins_a_legacy_student_that_to_static_made() -> None:
    with legacy():
        paddle.disable_static()
        (teacher, student, _), scope = networks(), paddle.static.Scope()
        merged_into(scope, teacher, student)
        second = merge(teacher, student, {"data": "data"}, scope=scope, name_prefix="second_")
    assert second.before.graph.feeds == ("data",)
    assert len(second.report) == 0
    assert second.verify()


def test_the_layer_may_train_on() -> None:
    (teacher, student, layer), scope = networks(), paddle.static.Scope()
    merged_into(scope, teacher, student)
    before = in_scope(scope, student)
    paddle.disable_static()
    layer(paddle.to_tensor(samples() * 9)).mean().backward()
    paddle.optimizer.SGD(0.5, parameters=layer.parameters()).step()
    assert in_scope(scope, student) == before
    assert in_layer(layer) != before


@pytest.mark.parametrize("shape", [(8, 6), (6, 8)])
@pytest.mark.slow
def test_other_weights_in_the_scope_are_an_error_with_nothing_changed(shape: Any) -> None:
    (teacher, student, layer), scope = networks(), paddle.static.Scope()
    name = student.parameters["0.weight"]
    hold(scope, name, np.full(shape, 3, "float32"))
    checked = check_merge(teacher, student, {"data": "data"}, scope)
    with pytest.raises(MergeError) as raised:
        merged_into(scope, teacher, student)
    (found,) = raised.value.report
    assert (found.code, found.severity) == ("GT247", Severity.ERROR)
    assert found.message == f"1 tensor in the student's Scope differs from its Layer's: `{name}`"
    assert found.help is not None
    assert found.help.startswith("with paddle.static.scope_guard(paddle.static.Scope()):")
    assert checked == raised.value.report
    assert scope.find_var(student.parameters["3.weight"]) is None

    with paddle.static.scope_guard(paddle.static.Scope()):
        merged = merge(teacher, student, {"data": "data"})
    assert in_scope(merged.scope, student) == in_layer(layer)


def test_the_scope_s_weights_are_used_where_no_layer_is_handed_over() -> None:
    (teacher, student, _), scope = networks(), paddle.static.Scope()
    name = student.parameters["0.weight"]
    hold(scope, name, np.full((8, 6), 3, "float32"))
    merge(teacher, student.live, {"data": "data"}, scope=scope)
    assert set(array_in(scope, name).flat) == {3}


@pytest.mark.parametrize("late", ["teacher", "student"])
def test_weights_loaded_into_a_layer_after_its_startup_program_ran_are_asked_for(late: str) -> None:
    paddle.disable_static()
    teacher, student = (from_layer(lambda: nn.Linear(8, 5), _INPUT) for _ in range(2))
    net = {"teacher": teacher, "student": student}[late]
    paddle.enable_static()
    scopes = {"teacher": paddle.static.Scope(), "student": paddle.static.Scope()}
    executor = paddle.static.Executor()
    executor.run(teacher.startup, scope=scopes["teacher"])
    executor.run(student.startup, scope=scopes["student"])
    paddle.disable_static()
    net.layer.set_state_dict({key: one * 0 + 7 for key, one in net.layer.state_dict().items()})
    paddle.enable_static()

    def merged() -> Merged:
        both = {"scope": scopes["student"], "teacher_scope": scopes["teacher"]}
        return merge(teacher, student, {"data": "data"}, **both)

    with pytest.raises(MergeError) as raised:
        merged()
    (found,) = raised.value.report
    assert (found.code, found.severity) == ("GT247", Severity.ERROR)
    assert f"2 tensors of the {late}'s Layer changed" in found.message
    assert found.help is not None
    assert found.help.startswith(f"executor.run({late}.startup)")

    executor.run(net.startup, scope=scopes[late])
    merged()
    name = net.parameters["weight"]
    held = scopes[late].find_var(name).get_tensor()
    assert set(np.array(held).flat) == {7}


@pytest.mark.pir
def test_a_second_teacher_is_merged_into_what_has_learnt_since() -> None:
    (teacher, student, layer), scope = networks(), paddle.static.Scope()
    merged_into(scope, teacher, student)
    name = student.parameters["0.weight"]
    hold(scope, name, np.full((8, 6), 3, "float32"))
    second = merge(teacher, student, {"data": "data"}, scope=scope, name_prefix="second_")
    assert len(second.report) == 0
    assert set(array_in(scope, name).flat) == {3}
    assert in_scope(scope, student) != in_layer(layer)


@pytest.mark.pir
def test_what_a_merge_warns_of_is_said_aloud() -> None:
    (teacher, student, _), scope = networks(), paddle.static.Scope()
    with pytest.warns(UserWarning, match=r"warning\[GT204\]") as said:
        merge(teacher, student, {"data": "data"}, scope=scope, name_prefix="")
    assert len(said) == 1
    assert said[0].filename == __file__


@pytest.mark.slow
def test_without_a_scope_it_is_not_checked() -> None:
    teacher, student, _ = networks()
    report = check_merge(teacher, student, {"data": "data"})
    found = next(found for found in report if found.code == "GT247")
    assert found.severity is Severity.NOTE
    assert found.message == "not checked: whether the student has its Layer's weights"


@pytest.mark.pir
def test_where_the_merge_fails_the_scope_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    (teacher, student, _), scope = networks(), paddle.static.Scope()

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(graphtool.merging, "register", fail)
    with pytest.raises(KeyboardInterrupt):
        merged_into(scope, teacher, student)
    assert scope.local_var_names() == []
