"""Resolution, stages and block outputs, with H and W known and unknown."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import paddle
import pytest
from paddle import nn

from graphtool.matching import suggest_pairs
from graphtool.matching.pairs import Kind
from graphtool.structure import GLOBAL, Role, Scale, Structure, analyse
from tests.networks import ChannelsLast, ConvNext, Segmenter, built, computed, pyramid, vision

# Stages as their authors cut them: denominator of the resolution, channels at the end, blocks.
EXPECTED = {
    "alexnet": [(4, 64, 1), (8, 192, 1), (16, 256, 3)],
    "vgg11": [(1, 64, 1), (2, 128, 1), (4, 256, 2), (8, 512, 2), (16, 512, 2)],
    "resnet50": [(2, 64, 1), (4, 256, 3), (8, 512, 4), (16, 1024, 6), (32, 2048, 3)],
    "mobilenet_v1": [(2, 64, 2), (4, 128, 2), (8, 256, 2), (16, 512, 6), (32, 1024, 2)],
    "mobilenet_v2": [(2, 16, 2), (4, 24, 2), (8, 32, 3), (16, 96, 7), (32, 320, 4)],
    "mobilenet_v3_large": [(2, 16, 2), (4, 24, 2), (8, 40, 3), (16, 112, 6), (32, 160, 3)],
    "densenet121": [(2, 64, 1), (4, 256, 6), (8, 512, 12), (16, 1024, 24), (32, 1024, 16)],
    "googlenet": [(2, 64, 1), (4, 192, 1), (8, 480, 2), (16, 832, 5), (32, 1024, 2)],
    "inception_v3": [(2, 64, 3), (4, 192, 1), (8, 288, 3), (16, 768, 5), (32, 2048, 3)],
    "squeezenet1_1": [(2, 64, 1), (4, 128, 2), (8, 256, 2), (16, 512, 4)],
    "shufflenet_v2_x1_0": [(2, 24, 1), (8, 116, 4), (16, 232, 8), (32, 464, 4)],
}


_LARGE = {
    *("vgg11", "resnet50", "inception_v3", "densenet121", "googlenet"),
    *("shufflenet_v2_x1_0", "mobilenet_v3_large"),
}


def marked(*names: str) -> list[Any]:
    """Mark the networks that take a second or more to build."""
    return [pytest.param(x, marks=[pytest.mark.slow] if x in _LARGE else []) for x in names]


@pytest.mark.slow
def test_reasons_number_stages_as_the_structure_does() -> None:
    teacher, student = vision("resnet50"), vision("mobilenet_v1")
    assert [analyse(graph).first_stage for graph in (teacher, student)] == [0, 0]
    ends = [pair for pair in suggest_pairs(teacher, student) if pair.kind is Kind.STAGE]
    for pair in ends:
        numbers = {
            analyse(graph).stage_of(end.name)
            for graph, end in ((teacher, pair.teacher), (student, pair.student))
        }
        assert {pair.why[0]} == {f"end of stage {number} of 4 in both" for number in numbers}
    assert len(ends) == 4


def shape_of(structure: Structure) -> list[tuple[int, int, int]]:
    return [
        (1 / stage.scale.height, structure.channels(stage.end), len(stage.blocks))
        for stage in structure.stages
    ]


@pytest.mark.parametrize("name", marked(*EXPECTED))
def test_stages_are_those_that_the_authors_built(name: str) -> None:
    assert shape_of(analyse(vision(name))) == EXPECTED[name]


@pytest.mark.parametrize("name", marked("mobilenet_v3_large", "vgg11", "densenet121", "resnet50"))
def test_stages_are_the_same_where_height_and_width_are_unknown(name: str) -> None:
    known, unknown = analyse(vision(name)), analyse(vision(name, -1))

    assert [stage.blocks for stage in known.stages] == [stage.blocks for stage in unknown.stages]
    assert [stage.scale for stage in known.stages] == [stage.scale for stage in unknown.stages]


def test_resolution_from_attributes_agrees_with_the_shapes() -> None:
    structure = analyse(vision("resnet50"))
    maps = [
        (structure.scales[name], structure.sides(name))
        for stage in structure.stages
        for name in stage.values
    ]

    assert len(maps) == 36
    assert all(sides == (224 * scale.height, 224 * scale.width) for scale, sides in maps)


@pytest.mark.slow
def test_a_neck_that_comes_back_up_is_no_stage() -> None:
    structure = analyse(pyramid())

    assert shape_of(structure) == [(2, 8, 2), (4, 16, 2), (8, 32, 2)]
    assert [structure.channels(head.logits) for head in structure.heads] == [6, 6, 6]


@pytest.mark.slow
def test_up_sampling_is_seen_without_shapes() -> None:
    structure = analyse(built(Segmenter, [3, -1, -1]))
    head = structure.heads[0]

    assert structure.scales[head.output] == Scale(Fraction(1), Fraction(1))
    assert structure.scales[head.logits] == Scale(Fraction(1, 2), Fraction(1, 2))
    assert structure.graph.values[head.logits].shape == (-1, 4, -1, -1)


def pooled(x: Any) -> Any:
    return nn.Linear(8, 5)(nn.AvgPool2D(8)(nn.Conv2D(3, 8, 3, padding=1)(x)).flatten(1))


@pytest.mark.parametrize(
    ("forward", "shape", "scale"),
    [
        (lambda x: nn.Conv2D(3, 4, 3, stride=(2, 1), padding=1)(x), [3, 32, 100], "1/2 × 1"),
        # A strided slice: the stem of YOLOv5.
        (lambda x: nn.Conv2D(3, 8, 3, padding=1)(x[:, :, ::2, ::2]), [3, -1, -1], "1/2"),
        # A pool over the whole map.
        (pooled, [3, 8, 8], str(GLOBAL)),
    ],
)
def test_strides_slices_and_pools_give_fractions(
    forward: Any, shape: list[int], scale: str
) -> None:
    structure = analyse(computed(forward, shape))

    assert str(structure.scales[structure.heads[0].logits]) == scale


@pytest.mark.slow
def test_pooling_to_one_place_is_global() -> None:
    structure = analyse(vision("resnet50", -1))
    embedding = structure.heads[0].embedding

    assert embedding is not None
    assert structure.scales[embedding] == GLOBAL


@pytest.mark.pir
def test_roles_of_the_values_that_matter() -> None:
    structure = analyse(vision("resnet50"))
    roles = {name: structure.role(name) for name in structure.graph.values}
    counted = {role: list(roles.values()).count(role) for role in set(roles.values())}

    assert roles["add_16"] is Role.LOGITS
    assert roles["flatten_0"] is Role.EMBEDDING
    assert counted[Role.FEED] == 1
    assert counted[Role.STAGE_END] == 5
    assert counted[Role.PARAMETER] == sum(1 for _ in structure.graph.parameters) == 267


@pytest.mark.slow
def test_maps_that_end_in_channels_are_read_as_such() -> None:
    structure = analyse(built(ChannelsLast, [32, 64, 3]))

    assert shape_of(structure) == [(2, 8, 1), (4, 16, 1)]
    assert [structure.sides(stage.end) for stage in structure.stages] == [(16, 32), (8, 16)]
    embedding = structure.heads[0].embedding
    assert embedding is not None
    assert structure.scales[embedding] == GLOBAL


@pytest.mark.slow
def test_a_block_that_normalises_in_another_layout_ends_in_its_join() -> None:
    structure = analyse(built(ConvNext, [3, 32, 32]))

    assert shape_of(structure) == [(2, 8, 1), (4, 16, 1), (8, 24, 1)]
    layers = [structure.graph.values[stage.end].layer for stage in structure.stages]
    assert layers == ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.slow
def test_a_network_without_a_classifier_has_no_logits() -> None:
    backbone = lambda: paddle.vision.models.ResNet(  # noqa: E731
        paddle.vision.models.resnet.BasicBlock, 18, num_classes=0, with_pool=False
    )
    structure = analyse(built(backbone, [3, 64, 64]))

    assert not structure.heads[0].classifies
    assert analyse(vision("squeezenet1_1")).heads[0].classifies
    assert analyse(vision("resnet18")).heads[0].classifies


@pytest.mark.pir
@pytest.mark.slow
def test_dropout_before_the_classifier_is_no_embedding() -> None:
    structure = analyse(vision("mobilenet_v2"))

    assert structure.heads[0].embedding == "flatten_0"
