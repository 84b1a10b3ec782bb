"""Parameters that teacher and student are to have as one, said so with `shared`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.diagnostics import MergeError, Severity, UsageError
from graphtool.merging import Merged, check_merge, merge
from graphtool.merging.folder import load_merged, save_merged
from tests.merging.networks import KINDS, Built, merge_built, samples, small

_KINDS = pytest.mark.parametrize("kind", KINDS)


def _layer(name: str, width: int = 6, *, trainable: bool = True) -> nn.Linear:
    attr = paddle.ParamAttr(name=name, trainable=trainable)
    return nn.Linear(8, width, weight_attr=attr, bias_attr=False)


def teacher(x: Any) -> Any:
    """Read the table twice: its weights are tied."""
    table = _layer("table")
    return nn.Linear(6, 5)(table(x) + table(x * 2))


def student(x: Any) -> Any:
    return nn.Linear(6, 5, weight_attr=paddle.ParamAttr(name="own"))(_layer("table")(x))


def built(kind: str, *, apart: bool = False) -> tuple[Built, Built]:
    """Build both networks in one Scope, or in one each."""
    own = small(student, kind=kind)
    return small(teacher, "image", kind=kind, scope=None if apart else own.scope), own


@_KINDS
def test_a_shared_parameter_is_the_students_and_both_read_it(kind: str) -> None:
    theirs, own = built(kind)
    merged = merge_built(theirs, own, shared=["table"])

    assert merged.names["table"] == "table"
    assert merged.names["linear_1.w_0"] == "teacher_linear_1.w_0"
    assert own.scope.find_var("teacher_table") is None
    assert dict(merged.plan.weights).keys() == {"linear_1.w_0", "linear_1.b_0"}
    assert merged.verify().equal
    warned = {found.code for found in merged.report if found.severity is Severity.WARNING}
    assert warned == {"GT209"}


@_KINDS
@pytest.mark.slow
def test_it_is_trained_by_the_students_use_of_it_alone(kind: str) -> None:
    trained: list[Any] = []
    for both in (False, True):
        theirs, own = built(kind)
        for name, value in (("table", 0.5), ("own", 0.25)):
            own.hold(name, np.full_like(own.held(name), value))
        merged = merge_built(theirs, own, shared=("table",))
        taught, feed = merged.teacher(_output(merged)), {"data": samples()}
        (before,) = own.run(feed, taught)
        if kind == "pir":
            own.startup = paddle.static.Program()
        with own.guard():
            loss = (own.output * own.output).mean()
            loss = loss + (taught * taught).mean() if both else loss
            paddle.optimizer.SGD(0.1).minimize(loss)
        if kind == "pir":
            own.initialise()
        else:
            rates = [var.name for var in own.program.list_vars() if "learning_rate" in var.name]
            own.hold(rates[0], np.full([1], 0.1, "float32"))
        own.run(feed, loss)
        trained.append(own.held("table"))
        assert (trained[-1] != 0.5).any()
        assert (own.run(feed, taught)[0] != before).any()
    assert trained[0].tobytes() == trained[1].tobytes()


def _output(merged: Merged) -> str:
    """Return the name of the last Value that the teacher computes."""
    return [
        name for name in merged.values if merged.source.graph.values[name].producer is not None
    ][-1]


@_KINDS
def test_the_teachers_own_numbers_are_not_used_and_that_is_said(kind: str) -> None:
    theirs, own = built(kind, apart=True)
    table = own.held("table")
    merged = merge_built(theirs, own, shared=("table",))
    assert own.held("table").tobytes() == table.tobytes()
    said = [found.message for found in merged.report if found.code == "GT209"]
    assert len(said) == 2
    assert "will not be used" in said[1]
    assert said[1].endswith("`table`")
    assert merged.verify().equal


@_KINDS
def test_without_a_word_a_shared_scope_is_refused(kind: str) -> None:
    with pytest.raises(MergeError) as caught:
        merge_built(*built(kind))
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
        merge_built(theirs, ours, shared=[name])
    found = next(found for found in caught.value.report.errors if found.code == "GT208")
    assert found.message == f"`{name}` cannot be shared: {reason}"
    assert str(ours.program) == before


def test_a_name_alone_is_no_list_of_names() -> None:
    theirs, ours = small(teacher, "image"), small(student)
    with pytest.raises(UsageError, match=r"GT248.*`shared` is `'table'`"):
        merge(theirs.program, ours.program, {"image": "data"}, shared="table")


@_KINDS
def test_it_stays_shared_in_a_folder(kind: str, tmp_path: Path) -> None:
    theirs, own = built(kind)
    save_merged(merge_built(theirs, own, shared=["table"]), tmp_path / "out")
    scope = paddle.static.Scope()
    loaded = load_merged(tmp_path / "out", scope=scope)
    assert loaded.plan.shared == ("table",)
    assert loaded.verify().equal
    assert np.array_equal(scope.find_var("table").get_tensor(), own.held("table"))


def test_weights_that_come_later_leave_what_is_shared_alone() -> None:
    theirs, own = built("pir", apart=True)
    merged = merge_built(theirs, own, shared=["table"], parameters="later")
    table = own.held("table")
    merged.load_teacher(theirs.scope)
    assert own.held("table").tobytes() == table.tobytes()
    assert own.held("teacher_linear_1.w_0").tobytes() == theirs.held("linear_1.w_0").tobytes()
