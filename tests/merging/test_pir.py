"""Merging under PIR: what comes out is bit-equal to what went in, and it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from graphtool.merging import Merged, merge
from graphtool.sources.layers import from_layer
from tests.merging import networks
from tests.merging.networks import Built, build, bytes_of, merge_built, run, samples, small, steps

_FIXTURES = Path(__file__).parents[1] / "fixtures"
_SMALL = [networks.perceptron, networks.looping, networks.half]
_MORE = [
    networks.cell,
    networks.branching,
    networks.lstm,
    networks.gru,
    networks.transformer,
    networks.normalised,
]


@pytest.mark.pir
@pytest.mark.parametrize(
    "forward",
    [*_SMALL, *(pytest.param(forward, marks=pytest.mark.slow) for forward in _MORE)],
    ids=lambda forward: forward.__name__,
)
def test_a_teacher_of_any_family_merges_bit_equal_and_the_student_trains(
    forward: Callable[..., Any],
) -> None:
    teacher, student = small(forward, "image"), small(networks.perceptron)
    merged = merge_built(teacher, student)

    assert merged.verify().equal
    _trains(merged, student)
    assert merged.verify().equal


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "squeezenet1_0",
        "shufflenet_v2_x0_25",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in ("vgg11", "alexnet", "densenet121", "googlenet", "resnext50_32x4d")
        ),
    ],
)
def test_a_vision_model_merges_bit_equal_and_the_student_trains(name: str) -> None:
    # Its head is for 224 pixels alone.
    side = 224 if name == "googlenet" else 64
    factory = getattr(networks, name, None) or getattr(paddle.vision.models, name)
    paddle.seed(1)  # Of some weights, three small steps do not lower the loss.
    teacher = from_layer(factory, [(3, side, side)], train=False)
    student = from_layer(lambda: paddle.vision.models.mobilenet_v1(scale=0.25), [(3, side, side)])
    paddle.enable_static()
    theirs, ours = paddle.static.Scope(), paddle.static.Scope()
    paddle.seed(7)
    run(teacher.startup, theirs, {})
    run(student.startup, ours, {})
    feed, logits = teacher.feeds[0], teacher.fetches[0]
    image = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype("float32")
    wanted = run(teacher.program, theirs, {feed: image}, teacher.live.value(logits))[0]

    merged = merge(teacher, student, {feed: "x"}, scope=ours, teacher_scope=theirs)

    given = run(merged.program, ours, {"x": image}, merged.teacher(logits))[0]
    assert given.tobytes() == wanted.tobytes()
    assert merged.verify().equal
    kept = bytes_of(ours, dict(merged.plan.renames).values())
    with paddle.static.program_guard(merged.program, student.startup):
        gap = merged.student(student.fetches[0]) - merged.teacher(logits)
        loss = (gap * gap).mean()
        paddle.optimizer.SGD(1e-4).minimize(loss)
    paddle.seed(7)
    run(student.startup, ours, {})
    losses = [found.item() for (found,) in steps(3, merged.program, ours, {"x": image}, loss)]
    assert losses[2] < losses[0]
    assert bytes_of(ours, kept) == kept


def test_a_student_trains_as_without_a_teacher_where_the_loss_ignores_it() -> None:
    alone, student = small(networks.plain), small(networks.plain)
    merged = merge_built(small(networks.perceptron, "image"), student)
    assert merged.program is student.program
    assert _plain_losses(alone) == _plain_losses(student)


@pytest.mark.pir
def test_a_program_merges_into_itself_and_the_teacher_stays_where_the_student_moves() -> None:
    student = small(networks.plain)
    merged = merge(student.program, student.program, {"data": "data"}, scope=student.scope)
    assert merged.verify().equal
    start = run(merged.program, student.scope, {"data": samples()}, merged.teacher("add_1"))[0]
    _plain_losses(student)
    end = run(merged.program, student.scope, _with_zeros(), merged.teacher("add_1"))[0]
    assert end.tobytes() == start.tobytes()


@pytest.mark.pir
@pytest.mark.slow
def test_two_teachers_under_two_prefixes_keep_their_own_weights() -> None:
    first, second = small(networks.plain, "image"), small(networks.perceptron, "image")
    student = small(networks.perceptron)
    one = merge_built(first, student)
    two = merge_built(second, student, name_prefix="second_")

    assert one.verify().equal
    assert two.verify().equal
    assert [merged.prefix for merged in two.teachers] == ["teacher_", "second_"]
    values = [one.teacher("add_1"), two.teacher("add_1")]
    outputs = run(student.program, student.scope, {"data": samples()}, *values)
    assert outputs[0].tobytes() == first.run({"image": samples()}, first.output)[0].tobytes()
    assert outputs[1].tobytes() != outputs[0].tobytes()


@pytest.mark.pir
def test_a_feed_that_is_not_shared_is_fed_under_its_new_name() -> None:
    teacher = build(networks.embedded, ("image", [-1, 8], "float32"), ("ids", [-1, 3], "int64"))
    student = small(networks.perceptron)
    merged = merge_built(teacher, student, {"image": "data", "ids": "teacher_ids"})
    ids = np.array([[1, 2, 3]] * 4)
    feed = {"data": samples(), "teacher_ids": ids}
    wanted = teacher.run({"image": samples(), "ids": ids}, teacher.output)[0]
    given = run(student.program, student.scope, feed, merged.teacher("add_1"))[0]
    assert given.tobytes() == wanted.tobytes()
    assert merged.feed_map == {"image": "data", "ids": "teacher_ids"}
    assert merged.verify().equal


@pytest.mark.pir
def test_the_teacher_is_frozen_in_regions_too() -> None:
    teacher, student = small(networks.looping, "image"), small(networks.plain)
    before = len(student.program.global_block().ops)
    merge_built(teacher, student)
    new = student.program.global_block().ops[before:]
    inner = [op for top in new if top.num_regions() for block in top.blocks() for op in block.ops]
    dropouts = [op for op in inner if op.name() == "pd_op.dropout"]
    assert [op.attrs()["is_test"] for op in dropouts] == [True, True, True]
    assert all(value.stop_gradient for op in (*new, *inner) for value in op.results())
    assert not any(op.result(0).trainable for op in new if op.name() == "builtin.parameter")


def test_the_teacher_program_itself_stays_as_it_was() -> None:
    teacher, student = small(networks.looping, "image"), small(networks.perceptron)
    before = str(teacher.program)
    merge_built(teacher, student)
    assert str(teacher.program) == before


@pytest.mark.pir
@pytest.mark.parametrize(
    "forward",
    [networks.perceptron, pytest.param(networks.cell, marks=pytest.mark.slow), networks.lstm],
)
def test_a_saved_model_brings_its_weights_along(forward: Callable[..., Any], tmp_path: Any) -> None:
    teacher, student = small(forward, "image"), small(networks.perceptron)
    path = teacher.save(tmp_path / "model")
    with paddle.static.scope_guard(teacher.scope):
        loaded, _, fetches = paddle.static.load_inference_model(
            str(tmp_path / "model"), paddle.static.Executor()
        )
    wanted = run(loaded, teacher.scope, {"image": samples()}, fetches[0])[0]

    merged = merge(path, student.program, {"image": "data"}, None, student.scope)

    logits = merged.source.graph.fetches[0]
    given = run(student.program, student.scope, {"data": samples()}, merged.teacher(logits))[0]
    names = [op.name() for op in student.program.global_block().ops]
    assert given.tobytes() == wanted.tobytes()
    assert "pd_op.fetch" not in names[:-1]
    assert merged.verify().equal


_FILES = [
    "3.0.0/control.json",
    "3.3.1/control.json",
    "3.3.1-legacy/control.pdmodel",
    "2.6.2/control.pdmodel",
]


@pytest.mark.pir
@pytest.mark.parametrize(
    ("model", "mapped"),
    [
        *((model, "data") for model in _FILES),
        (_FILES[0], "teacher_x"),
        *(pytest.param(model, "teacher_x", marks=pytest.mark.slow) for model in _FILES[1:]),
    ],
)
def test_a_file_of_any_release_merges_its_feed_shared_or_not(model: str, mapped: str) -> None:
    path, student = _FIXTURES / model, small(networks.plain)
    when = "now" if path.with_suffix(".pdiparams").exists() else "later"
    merged = merge(path, student.program, {"x": mapped}, scope=student.scope, parameters=when)
    assert merged.verify().equal
    assert merged.verify().generated == tuple(dict.fromkeys(["data", mapped]))


def _trains(merged: Merged, student: Built) -> None:
    """Train three steps towards the teacher: its weights stay, the student's loss falls."""
    kept = bytes_of(student.scope, dict(merged.plan.renames).values())
    goal = [row for row in merged.verify().comparisons if row.shape[1:] == (5,)]
    target = merged.teacher([row.name for row in goal if row.role == "teacher"][-1])
    with paddle.static.program_guard(student.program, student.startup):
        gap = student.output - target
        loss = (gap * gap).mean()
        paddle.optimizer.SGD(0.05).minimize(loss)
    run(student.startup, student.scope, {})
    paddle.seed(3)
    ran = steps(8, student.program, student.scope, {"data": samples()}, loss)
    losses = [found.item() for (found,) in ran]
    assert min(losses[4:]) < losses[0]
    assert bytes_of(student.scope, kept) == kept


def _plain_losses(built: Built) -> list[bytes]:
    with paddle.static.program_guard(built.program, built.startup):
        target = paddle.static.data("target", [-1, 5], "float32")
        loss = ((built.output - target) ** 2).mean()
        paddle.optimizer.SGD(0.1).minimize(loss)
    paddle.seed(7)
    run(built.startup, built.scope, {})
    losses = [loss for (loss,) in steps(3, built.program, built.scope, _with_zeros(), loss)]
    assert losses[2] < losses[1] < losses[0]
    return [loss.tobytes() for loss in losses]


def _with_zeros() -> dict[str, Any]:
    return {"data": samples(), "target": np.zeros((4, 5), "float32")}
