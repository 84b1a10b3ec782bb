"""What an operator writes over: a feed that the other network reads as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from paddle import nn

import graphtool as gt
from graphtool.diagnostics import MergeError
from graphtool.merging import merge
from tests.checks.programs import checked, classifier, codes, data, only, program
from tests.merging import networks
from tests.merging.networks import run, small


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
