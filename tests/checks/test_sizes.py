"""A teacher that was built for one size of inputs, beside a student that takes any."""

import numpy as np
import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool.diagnostics import Severity
from tests.checks.programs import checked, data, only, program, scope_of

_KINDS = pytest.mark.parametrize("mode", ["pir", "legacy"])


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


@pytest.mark.pir
@_KINDS
def test_a_teacher_of_one_size_beside_a_student_of_any_is_told(mode):
    found = only(checked(*_both(mode=mode), {"x": "image"}), "GT220")
    assert found.severity is Severity.WARNING
    assert found.message == (
        "teacher feed `x` is [-1, 3, 8, 8], student feed `image` [-1, 3, -1, -1], "
        "which takes any size"
    )
    assert [place.value for place in found.where] == ["x", "image"]


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
