"""Every way in which a feed map can be wrong is reported, and what guesses make of feeds."""

from __future__ import annotations

import json
from dataclasses import replace
from time import process_time
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool import checks, read
from graphtool.diagnostics import MergeError, Severity
from graphtool.graph import Graph
from graphtool.merging import merge
from tests.checks.programs import checked, classifier, codes, data, only, program, scope_of
from tests.merging import networks
from tests.merging.networks import run, small

_KINDS = pytest.mark.parametrize("mode", ["pir", "legacy"])


def _feeds(*feeds):
    """Return what builds a linear layer over the sum of several feeds."""

    def build():
        total = 0.0
        for name, shape, dtype in feeds:
            total = total + data(name, *shape, dtype=dtype).astype("float32").mean()
        nn.Linear(1, 1, weight_attr=f"w_{feeds[0][0]}", bias_attr=False)(total.reshape([1, 1]))

    return build


_IMAGE = ("image", (-1, 3, 8, 8), "float32")


def _one(name, shape, dtype="float32", mode="pir"):
    return program(_feeds((name, shape, dtype)), mode)


@pytest.mark.pir
@_KINDS
def test_all_that_is_wrong_with_a_feed_map_is_reported_at_once(mode):
    teacher, student = _one("x", (-1, 3, 8, 8), mode=mode), program(_feeds(_IMAGE), mode)
    report = checked(teacher, student, {"y": "imag"})
    assert codes(report, Severity.ERROR) == ["GT210", "GT210", "GT213"]
    of_teacher, of_student, left_out = report.errors
    for found in report.errors:
        assert found.help == 'feed_map={"x": "image"}'
    assert of_teacher.message == "the teacher has no feed `y`"
    assert of_teacher.notes == ("the teacher's feeds: `x`",)
    assert of_student.message == "the student has no feed `imag` for teacher feed `y`"
    assert left_out.message == "the feed map leaves out the teacher's feed `x`"


def test_a_right_feed_map_leaves_nothing_to_say():
    teacher, student = _one("x", (-1, 3, 8, 8)), program(_feeds(_IMAGE))
    report = checked(teacher, student, {"x": "image"}, parameters="later")
    assert codes(report) == []


_TO_IMAGE = {"x": "image"}
_ALONE = {"x": "teacher_x"}
_NEAREST = "note: nearest student feed: `image` [-1, 3, 8, 8]"
_ONE_SIZE = "note: build both networks for one image size, or feed the teacher separately"
_LARGE = "[-1, 3, 8, 8], student feed `image` [-1, 3, -1, -1], which takes any size"
# The shape and dtype of the teacher's `x`, a feed map, the code that it gets, words, a right map.
_WRONG = {
    "a mistyped feed": ((-1, 3, 8, 8), {"y": "image"}, "GT213", _NEAREST, _TO_IMAGE),
    "other way round": ((-1, 3, 8, 8), {"image": "x"}, "GT210", "no feed `image`", _TO_IMAGE),
    "left out": ((-1, 3, 8, 8), {}, "GT213", _NEAREST, _TO_IMAGE),
    "another rank": ((-1, 192), _TO_IMAGE, "GT217", "rank 2, student feed `image` rank 4", _ALONE),
    "other dims": ((-1, 1, 9, 8), _TO_IMAGE, "GT217", "dims 1, 2 differ", _ALONE),
    "other channels": ((-1, 1, 8, 8), _TO_IMAGE, "GT217", "dim 1 differs", _ALONE),
    "another size": ((-1, 3, 16, 16), _TO_IMAGE, "GT217", _ONE_SIZE, _ALONE),
    "float64": ((-1, 3, 8, 8), _TO_IMAGE, "GT218", "float64, student feed `image` flo", _ALONE),
}


@pytest.mark.pir
@_KINDS
@pytest.mark.parametrize("what", _WRONG)
def test_a_feed_map_that_is_wrong_is_told_with_a_right_one(what, mode):
    shape, feed_map, code, words, right = _WRONG[what]
    teacher = _one("x", shape, what if what == "float64" else "float32", mode)
    errors = checked(teacher, program(_feeds(_IMAGE), mode), feed_map).errors
    found = next(one for one in errors if one.code == code)
    assert words in str(found)
    assert found.help == f"feed_map={json.dumps(right)}"
    assert (_ONE_SIZE in str(found)) is (words == _ONE_SIZE)
    assert ("the other way round" in str(found)) is (what == "other way round")
    assert len(errors) == 1 or feed_map not in ({}, _TO_IMAGE)


@pytest.mark.pir
@_KINDS
def test_two_teacher_feeds_on_one_or_of_one_size_are_a_warning(mode):
    teacher = program(_feeds(("a", (-1, 4), "float32"), ("b", (-1, 4), "float32")), mode)
    report = checked(teacher, _one("image", (-1, 4), mode=mode), {"a": "image", "b": "image"})
    found = only(report, "GT215", Severity.WARNING)
    assert found.message == "teacher feeds `a`, `b` all read student feed `image`"
    found = only(checked(*_both(mode=mode), {"x": "image"}), "GT220", Severity.WARNING)
    assert _LARGE in found.message
    assert [place.value for place in found.where] == ["x", "image"]


@pytest.mark.pir
def test_levels_of_detail_that_differ_are_an_error():
    teacher = program(lambda: data("x", -1, 4, lod_level=1).mean(), "legacy")
    student = _one("image", (-1, 4), mode="legacy")
    found = only(checked(teacher, student, {"x": "image"}), "GT219", Severity.ERROR)
    assert "`x` has lod_level 1, student feed `image` 0" in found.message


@pytest.mark.pir
@_KINDS
def test_a_student_value_that_is_computed_is_no_feed(mode):
    teacher, student = program(classifier("x"), mode), program(classifier(), mode)
    computed = {"pir": "relu_0", "legacy": "relu_0.tmp_0"}[mode]
    report = checked(teacher, student, {"x": computed})
    found = only(report, "GT210", Severity.ERROR)
    assert f"`{computed}` is not a feed" in found.message
    assert found.where[0].shape == (-1, 4, 6, 6)
    assert found.help == 'feed_map={"x": "image"}'


@pytest.mark.pir
@_KINDS
def test_a_feed_that_no_student_feed_fits_becomes_one_of_the_merged_program(mode):
    teacher = program(_feeds(_IMAGE, ("mask", (-1, 8), "float32")), mode)
    student = program(_feeds(_IMAGE), mode)
    found = only(checked(teacher, student, {"image": "image"}), "GT213", Severity.WARNING)
    assert found.help == 'feed_map={"image": "image", "mask": "teacher_mask"}'
    said = checked(teacher, student, {"image": "image", "mask": "teacher_mask"})
    assert "GT213" not in codes(said)
    assert "GT210" not in codes(said)


def test_a_feed_map_can_say_that_a_feed_which_would_fit_is_not_shared():
    ids = ((-1, 1), "int64")
    teacher = program(_feeds(_IMAGE, ("ids", *ids)))
    student = program(_feeds(_IMAGE, ("label", *ids)))
    mapped = {"image": "image"}
    only(checked(teacher, student, mapped), "GT213", Severity.ERROR)
    assert "GT213" not in codes(checked(teacher, student, {**mapped, "ids": "teacher_ids"}))


def _with_loss(feed, label):
    def build():
        logits = classifier(feed, train=False)()
        target = data(label, -1, 1, dtype="int64")
        nn.functional.cross_entropy(logits, target).mean()

    return build


@pytest.mark.pir
@_KINDS
def test_the_label_of_a_teacher_with_its_loss_is_called_a_label(mode):
    teacher, student = program(_with_loss("x", "y"), mode), program(_with_loss("image", "l"), mode)
    report = checked(teacher, student, {"x": "image"})
    found = only(report, "GT213", Severity.ERROR)
    assert found.message == "the feed map leaves out the teacher's label `y`"
    assert found.help == 'feed_map={"x": "image", "y": "l"}'


def test_dims_that_are_not_known_agree_with_any():
    student = program(_feeds(_IMAGE))
    for shape in [(-1, 3, -1, -1), (-1, -1, 8, 8)]:
        report = checked(_one("x", shape), student, {"x": "image"}, parameters="later")
        assert codes(report) == []


@pytest.mark.call_stacks
@pytest.mark.pir
@_KINDS
def test_a_fixed_batch_is_a_warning_and_so_is_a_reshape_to_it(mode):
    def fixed():
        x = data("x", 2, 3, 8, 8)
        nn.Linear(192, 5)(x.reshape([2, 192]))

    report = checked(program(fixed, mode), program(_feeds(_IMAGE), mode), {"x": "image"})
    batch, reshape = (found for found in report if found.code == "GT220")
    assert batch.severity is reshape.severity is Severity.WARNING
    assert "fixed batch of 2, student feed `image` any" in batch.message
    assert reshape.message.endswith("to [2, 192]")
    assert reshape.where[0].source.startswith("test_feeds.py:")


@pytest.mark.pir
@_KINDS
def test_a_reshape_that_keeps_the_batch_is_fine_in_a_teacher_of_fixed_batch(mode):
    def fixed():
        x = data("x", 2, 3, 8, 8)
        nn.Linear(192, 5)(x.reshape([-1, 192]))

    report = checked(program(fixed, mode), program(_feeds(_IMAGE), mode), {"x": "image"})
    assert "fixed batch of 2" in only(report, "GT220").message


def _network(feed, *shape):
    """Return what builds a convolution, and a linear layer on its flattened or pooled map."""

    def build():
        found = nn.Conv2D(3, 2, 3, padding=1)(data(feed, *shape))
        if shape[2] == -1:
            return nn.Linear(2, 5)(found.mean([2, 3]))
        return nn.Linear(2 * shape[2] * shape[3], 5)(found.flatten(1))

    return build


def _both(teacher=(-1, 3, 8, 8), student=(-1, 3, -1, -1), mode="pir"):
    return program(_network("x", *teacher), mode), program(_network("image", *student), mode)


def test_one_size_in_both_or_in_the_student_alone_is_not():
    for teacher, student in (
        ((-1, 3, 8, 8), (-1, 3, 8, 8)),
        ((-1, 3, -1, -1), (-1, 3, 8, 8)),
        ((-1, 3, -1, -1), (-1, 3, -1, -1)),
        ((4, 3, 8, 8), (-1, 3, 8, 8)),
    ):
        report = checked(*_both(teacher, student), {"x": "image"})
        assert not [found for found in report if "any size" in found.message]


@pytest.mark.pir
def test_without_heeding_it_a_run_of_another_size_stops_and_with_its_help_it_does_not():
    size = {"image": np.zeros((2, 3, 12, 12), "float32")}
    (teacher, its), (student, ours) = _both()
    told = only(checked((teacher,), (student,), {"x": "image"}), "GT220")
    alone, apart = student, student.clone()
    teacher_scope, scope = scope_of(its), scope_of(ours)
    for merged, feed_map in ((alone, {"x": "image"}), (apart, {"x": "teacher_x"})):
        gt.merge(teacher, merged, feed_map, scope=scope, teacher_scope=teacher_scope)
    executor = paddle.static.Executor(paddle.CPUPlace())

    with pytest.raises(ValueError, match="matmul"):
        executor.run(alone, feed=size, scope=scope)

    assert told.help.startswith('feed_map={"x": "teacher_x"}')
    executor.run(apart, feed={**size, "teacher_x": np.zeros((2, 3, 8, 8), "float32")}, scope=scope)


def _writing(x: Any) -> Any:
    x[:, 0] = 100.0
    return nn.Linear(8, 5)(x)


@pytest.mark.pir
def test_a_teacher_that_writes_over_a_shared_feed_is_refused() -> None:
    teacher, student = small(_writing, "image"), small(networks.plain)
    report = gt.check_merge(teacher.program, student.program, {"image": "data"})
    found = only(report, "GT233")
    assert found.message.startswith("`set_value")
    assert "of the teacher overwrites its feed `image`" in found.message
    assert found.help == 'feed_map={"image": "teacher_image"}'


@pytest.mark.pir
def test_a_feed_that_is_written_in_a_loop_is_found_by_its_argument() -> None:
    def looping() -> None:
        def body(i: Any, x: Any) -> tuple[Any, Any]:
            x[:, 0] = 1.0
            return i + 1, x

        start = paddle.full([1], 0, "int64")
        paddle.static.nn.while_loop(lambda i, _: i < 3, body, [start, data("x", 4, 8)])

    student = program(lambda: data("image", 4, 8).mean())
    found = only(checked(program(looping), student, {"x": "image"}), "GT233")
    assert [place.value for place in found.where] == ["x", "while_0/0/set_value_0"]


@pytest.mark.pir
def test_a_student_that_does_is_refused_and_the_help_works() -> None:
    teacher, student = small(networks.plain, "image"), small(_writing)
    scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
    with pytest.raises(MergeError, match="GT233"):
        merge(teacher.program, student.program, {"image": "data"}, **scopes)
    x = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    wanted = teacher.run({"image": x.copy()}, teacher.output)[0]
    merged = merge(teacher.program, student.program, {"image": "teacher_image"}, **scopes)
    feed = {"data": x.copy(), "teacher_image": x.copy()}
    given = run(student.program, student.scope, feed, merged.teacher("add_1"))[0]
    assert given.tobytes() == wanted.tobytes()


@pytest.mark.pir
def test_a_feed_of_ones_own_may_be_written_over() -> None:
    def both() -> Any:
        x, own = data("x", -1, 8), data("own", -1, 8)
        own[:, 0] = 1.0
        return nn.Linear(8, 5)(x + own)

    student = program(lambda: nn.Linear(8, 5)(data("data", -1, 8)))
    report = checked(program(both), student, {"x": "data", "own": "teacher_own"})
    assert "GT233" not in codes(report)


def test_batch_norms_write_no_feed() -> None:
    norm = program(lambda: nn.BatchNorm2D(3)(data("x", -1, 3, 8, 8)))
    report = checked(norm, program(classifier()), {"x": "image"})
    assert "GT233" not in codes(report)


def _graph(*feeds: tuple[Any, ...]) -> Graph:
    def build():
        for name, *shape in feeds:
            dtype = "int64" if name in ("label", "y") else "float32"
            data(name, *shape, dtype=dtype).astype("float32").mean()

    return read(program(build)[0])


def test_feeds_of_other_names_go_together_where_only_one_fits():
    teacher, student = (
        _graph(("x", -1, 3, 8, 8), ("y", -1, 1)),
        _graph(("image", 4, 3, -1, -1), ("label", -1, 1)),
    )
    assert checks.guess_feed_map(teacher, student) == {"x": "image", "y": "label"}
    assert [guess.why for guess in checks.guess_feeds(teacher, student)] == [
        "is the only one whose shape and dtype fit"
    ] * 2


def test_the_same_name_decides_between_feeds_that_fit_alike():
    both = _graph(("left", -1, 4), ("right", -1, 4))
    assert checks.guess_feed_map(both, both) == {"left": "left", "right": "right"}


def test_nothing_is_guessed_where_two_feeds_fit():
    teacher, student = _graph(("x", -1, 4)), _graph(("left", -1, 4), ("right", -1, 4))
    assert checks.guess_feed_map(teacher, student) is None
    (guess,) = checks.guess_feeds(teacher, student)
    assert guess.why == "may be one of left, right"


def test_nothing_is_guessed_where_two_teacher_feeds_want_one():
    teacher, student = _graph(("a", -1, 4), ("b", -1, 4)), _graph(("image", -1, 4))
    assert checks.guess_feed_map(teacher, student) is None


def test_a_feed_of_the_teacher_alone_is_left_out():
    teacher, student = _graph(("x", -1, 4), ("mask", -1, 9, 9)), _graph(("image", -1, 4))
    assert checks.guess_feed_map(teacher, student) == {"x": "image"}


def test_nothing_is_guessed_where_no_feed_fits():
    assert checks.guess_feed_map(_graph(("x", -1, 4)), _graph(("image", -1, 5))) is None


def test_hundreds_of_feeds_of_the_same_names_cost_no_time():
    """To try each with each would take half a second."""
    graph = _fed_by(800, "x")
    started = process_time()
    assert checks.guess_feed_map(graph, graph) == {name: name for name in graph.feeds}
    assert process_time() - started < 0.1


@pytest.mark.slow
def test_hundreds_of_feeds_that_all_fit_are_compared_with_those_around_their_place():
    """To compare each name with each would take ten seconds."""
    teacher, student = _fed_by(300, "teacher_slot_"), _fed_by(300, "student_slot_")
    started = process_time()
    guesses = checks.guess_feeds(teacher, student)
    assert process_time() - started < 3
    assert [guess.student for guess in guesses] == list(student.feeds)
    assert guesses[0].why == (
        f"may be one of {', '.join(student.feeds[:8])} and {len(student.feeds) - 8} more"
    )


def _fed_by(count: int, name: str) -> Graph:
    graph = _graph(("x", -1, 4))
    names = [f"{name}{number}" for number in range(count)]
    feeds = {name: replace(graph.values["x"], name=name) for name in names}
    return replace(graph, values=feeds, feeds=tuple(feeds))
