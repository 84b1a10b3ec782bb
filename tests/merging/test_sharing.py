"""Parameters that teacher and student are to have as one, said so with `shared`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.diagnostics import MergeError, Severity, UsageError
from graphtool.merging import Merged, check_merge, merge
from graphtool.merging.folder import load_merged, save_merged
from tests.merging import cases
from tests.merging.networks import merge_built, run, samples, small

_KINDS = pytest.mark.parametrize("kind", ["pir", "legacy"])


def _layer(name: str, width: int = 6, *, trainable: bool = True) -> nn.Linear:
    attr = paddle.ParamAttr(name=name, trainable=trainable)
    return nn.Linear(8, width, weight_attr=attr, bias_attr=False)


def teacher(x: Any) -> Any:
    """Read the table twice: its weights are tied."""
    table = _layer("table")
    return nn.Linear(6, 5)(table(x) + table(x * 2))


def student(x: Any) -> Any:
    return nn.Linear(6, 5, weight_attr=paddle.ParamAttr(name="own"))(_layer("table")(x))


class Pair:
    """Both networks in one Scope, or in one each, and what runs them."""

    def __init__(self, kind: str, *, apart: bool = False) -> None:
        self.legacy = kind == "legacy"
        if self.legacy:
            built = [
                cases.build(lambda f=f, name=name: f(paddle.static.data(name, [-1, 8])), seed=seed)
                for f, name, seed in ((teacher, "image", 3), (student, "data", 4))
            ]
            self.programs = [one.main for one in built]
            self.startups = [one.startup for one in built]
            self.scopes = [one.scope for one in built]
            self.outputs = [one.output for one in built]
        else:
            built = [small(teacher, "image"), small(student)]
            self.programs = [one.program for one in built]
            self.startups = [one.startup for one in built]
            self.scopes = [one.scope for one in built]
            self.outputs = [one.output for one in built]
        if not apart:
            self.scopes[0] = self.scopes[1]
            with self.mode():
                run(self.startups[0], self.scopes[0], {})

    def mode(self) -> Any:
        return cases.legacy() if self.legacy else nullcontext()

    def merge(self, **options: Any) -> Merged:
        return merge(
            *self.programs,
            {"image": "data"},
            scope=self.scopes[1],
            teacher_scope=self.scopes[0],
            **options,
        )

    def answer(self, value: Any, program: Any = None) -> Any:
        feed = {"data": samples()}
        with self.mode():
            return run(program or self.programs[1], self.scopes[1], feed, value)[0]


def _held(scope: Any, name: str) -> Any:
    return np.array(scope.find_var(name).get_tensor())


@_KINDS
def test_a_shared_parameter_is_the_students_and_both_read_it(kind: str) -> None:
    pair = Pair(kind)
    merged = pair.merge(shared=["table"])

    assert merged.names["table"] == "table"
    assert merged.names["linear_1.w_0"] == "teacher_linear_1.w_0"
    assert pair.scopes[1].find_var("teacher_table") is None
    assert dict(merged.plan.weights).keys() == {"linear_1.w_0", "linear_1.b_0"}
    assert merged.verify().equal
    assert {found.code for found in merged.report if found.severity is Severity.WARNING} == {
        "GT209"
    }


@_KINDS
@pytest.mark.slow
def test_it_is_trained_by_the_students_use_of_it_alone(kind: str) -> None:
    trained: list[Any] = []
    for both in (False, True):
        pair = Pair(kind)
        for name, value in (("table", 0.5), ("own", 0.25)):
            tensor = pair.scopes[1].find_var(name).get_tensor()
            tensor.set(np.full(tensor.shape(), value, "float32"), paddle.CPUPlace())
        merged = pair.merge(shared=("table",))
        startup = paddle.static.Program() if not pair.legacy else pair.startups[1]
        theirs = merged.teacher(_output(merged))
        before = pair.answer(theirs)
        with pair.mode(), paddle.static.program_guard(pair.programs[1], startup):
            loss = (pair.outputs[1] * pair.outputs[1]).mean()
            loss = loss + (theirs * theirs).mean() if both else loss
            paddle.optimizer.SGD(0.1).minimize(loss)
        with pair.mode():
            if not pair.legacy:
                run(startup, pair.scopes[1], {})
            else:
                _learning_rate(pair)
        pair.answer(loss)
        trained.append(_held(pair.scopes[1], "table"))
        assert (trained[-1] != 0.5).any()
        assert (pair.answer(theirs) != before).any()
    assert trained[0].tobytes() == trained[1].tobytes()


def _output(merged: Merged) -> str:
    """Return the name of the last Value that the teacher computes."""
    return [
        name for name in merged.values if merged.source.graph.values[name].producer is not None
    ][-1]


def _learning_rate(pair: Pair) -> None:
    for var in pair.programs[1].list_vars():
        if var.name.startswith("learning_rate"):
            tensor = pair.scopes[1].var(var.name).get_tensor()
            tensor.set(np.full([1], 0.1, "float32"), paddle.CPUPlace())


@_KINDS
def test_the_teachers_own_numbers_are_not_used_and_that_is_said(kind: str) -> None:
    pair = Pair(kind, apart=True)
    table = _held(pair.scopes[1], "table")
    merged = pair.merge(shared=("table",))
    assert _held(pair.scopes[1], "table").tobytes() == table.tobytes()
    said = [found.message for found in merged.report if found.code == "GT209"]
    assert len(said) == 2
    assert "will not be used" in said[1]
    assert said[1].endswith("`table`")
    assert merged.verify().equal


@_KINDS
def test_without_a_word_a_shared_scope_is_refused(kind: str) -> None:
    pair = Pair(kind)
    with pytest.raises(MergeError) as caught:
        pair.merge()
    assert [found.code for found in caught.value.report.errors] == ["GT202"]


def test_a_frozen_table_moves_nobody() -> None:
    def frozen(x: Any) -> Any:
        return nn.Linear(6, 5)(_layer("table", trainable=False)(x))

    theirs, ours = small(frozen, "image"), small(frozen)
    report = check_merge(
        theirs.program, ours.program, {"image": "data"}, ours.scope, ours.scope, shared=["table"]
    )
    assert "GT209" not in {found.code for found in report}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "the teacher has no parameter of that name"),
        ("own", "the teacher has no parameter of that name"),
        ("wide", "it is [8, 6] float32 in the teacher and [8, 7] float32 in the student"),
        ("mean", "it is a running statistic of the teacher, which each run changes"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_shared_is_refused(name: str, reason: str) -> None:
    def network(width: int, own: str) -> Any:
        attr = paddle.ParamAttr(name=own)
        return lambda x: nn.Linear(width, 5, weight_attr=attr)(_layer("wide", width)(x))

    def normalised(x: Any) -> Any:
        mean, variance = (
            paddle.create_parameter([8], "float32", name=name) for name in ("mean", "variance")
        )
        return nn.functional.batch_norm(x, mean, variance, training=True)

    both = (normalised, normalised) if name == "mean" else (network(6, "theirs"), network(7, "own"))
    theirs, ours = small(both[0], "image"), small(both[1])
    before = str(ours.program)
    with pytest.raises(MergeError) as caught:
        merge_built(
            theirs,
            ours,
            shared=[name],
        )
    found = next(found for found in caught.value.report.errors if found.code == "GT208")
    assert found.message == f"`{name}` cannot be shared: {reason}"
    assert str(ours.program) == before


def test_a_name_alone_is_no_list_of_names() -> None:
    theirs, ours = small(teacher, "image"), small(student)
    with pytest.raises(UsageError, match=r"GT248.*`shared` is `'table'`"):
        merge(theirs.program, ours.program, {"image": "data"}, shared="table")


@_KINDS
def test_it_stays_shared_in_a_folder(kind: str, tmp_path: Path) -> None:
    pair = Pair(kind)
    save_merged(pair.merge(shared=["table"]), tmp_path / "out")
    scope = paddle.static.Scope()
    loaded = load_merged(tmp_path / "out", scope=scope)
    assert loaded.plan.shared == ("table",)
    assert loaded.verify().equal
    assert _held(scope, "table").tobytes() == _held(pair.scopes[1], "table").tobytes()


def test_weights_that_come_later_leave_what_is_shared_alone() -> None:
    pair = Pair("pir", apart=True)
    merged = pair.merge(shared=["table"], parameters="later")
    table = _held(pair.scopes[1], "table")
    merged.load_teacher(pair.scopes[0])
    assert _held(pair.scopes[1], "table").tobytes() == table.tobytes()
    assert (
        _held(pair.scopes[1], "teacher_linear_1.w_0").tobytes()
        == _held(pair.scopes[0], "linear_1.w_0").tobytes()
    )
