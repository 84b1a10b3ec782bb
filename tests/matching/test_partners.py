"""Student partners of one teacher Value."""

from __future__ import annotations

from typing import Any

import pytest

from graphtool.diagnostics import PairError, ReadError, UsageError
from graphtool.matching import match_shapes, partners
from tests.networks import vision
from tests.refused import refused


@pytest.mark.pir
@pytest.mark.parametrize(
    "selector", ["relu_39", "layer3.5", "/ResNet/Sequential_2/BottleneckBlock_5/ReLU_2"]
)
def test_what_is_suggested_comes_first_whichever_way_the_value_is_spelt(selector: str) -> None:
    found = partners(vision("resnet50"), vision("mobilenet_v1"), selector)

    assert [pair.student.name for pair in found.pairs[:3]] == ["relu_22", "relu_20", "relu_18"]
    assert {pair.teacher.name for pair in found} == {"relu_39"}


@pytest.mark.pir
def test_a_value_that_is_not_suggested_has_the_nearest_block_output_first() -> None:
    found = partners(vision("resnet50"), vision("mobilenet_v1"), "relu_30")

    first = found.pairs[0]
    assert (first.student.name, first.student.shape) == ("relu_16", (-1, 512, 14, 14))
    assert first.why[0] == "the one that fits best"


@pytest.mark.parametrize("limit", [-1, "x", True])
def test_what_is_no_number_of_partners_is_refused(limit: Any) -> None:
    networks = vision("resnet50"), vision("mobilenet_v1")
    found = refused(UsageError, partners, *networks, "relu_30", limit=limit)
    assert found.message == f"`limit` is `{limit!r}`; wanted a whole number, or None"
    assert found.help == 'gt.partners(teacher, student, "relu_48", limit=8)'


@pytest.mark.pir
@pytest.mark.parametrize(
    ("selector", "what"),
    [("conv2d_0.w_0", "parameter"), ("x", "feed"), ("full_int_array_0", "constant")],
)
def test_what_is_no_feature_map_has_no_partners(selector: str, what: str) -> None:
    with pytest.raises(PairError, match=f"is not a feature map but a {what}"):
        partners(vision("resnet50"), vision("mobilenet_v1"), selector)


def test_equal_shapes_are_grouped_and_counted() -> None:
    groups = match_shapes(vision("resnet50"), vision("mobilenet_v1"))
    sizes = {group.shape: (len(group.teacher), len(group.student)) for group in groups}

    assert sizes[512, 7, 7] == (15, 3)
    assert sizes[1000,] == (2, 2)
    assert sum(group.pairs for group in groups) == 430


@pytest.mark.pir
def test_a_name_of_the_student_s_is_said_to_be_one() -> None:
    networks = vision("resnet50"), vision("mobilenet_v1")
    found = refused(ReadError, partners, *networks, "conv2_1")
    assert found.code == "GT101"
    assert found.message.startswith("the teacher has no `conv2_1`: it is the student's `relu_")
