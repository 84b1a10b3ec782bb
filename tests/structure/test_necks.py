"""What lies behind the backbone: pyramid levels and decoders, found through dominators."""

from __future__ import annotations

from typing import Any

import paddle
import pytest
from paddle import nn

from graphtool.graph import Graph
from graphtool.matching import suggest_pairs
from graphtool.sources.layers import from_layer
from graphtool.structure import Structure, analyse
from tests.networks import Pyramid, built, pyramid, vision


def necks(graph: Graph) -> list[tuple[str | None, str, tuple[int, ...] | None]]:
    structure = analyse(graph)
    values = structure.graph.values
    return [(values[x.value].layer, x.description, values[x.value].shape) for x in structure.necks]


@pytest.mark.slow
def test_levels_of_a_pyramid_come_the_coarsest_first() -> None:
    assert [what for _, what, _ in necks(pyramid())] == [
        "level 1 of 3 that the heads read",
        "level 2 of 3 that the heads read",
        "level 3 of 3 that the heads read",
    ]


class Joined(Pyramid):
    """The same pyramid exported: all levels in one output of [N, places, channels]."""

    def forward(self, x: Any) -> Any:
        flat = [paddle.flatten(head, 2).transpose([0, 2, 1]) for head in super().forward(x)]
        return paddle.concat(flat, axis=1)


@pytest.mark.slow
def test_levels_are_found_where_one_output_joins_them_all() -> None:
    levels = necks(pyramid())

    assert necks(built(Joined, [3, 64, 64])) == levels


class Decoder(nn.Layer):
    """Two resolutions down, one up, a join with what was there, and classes for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2D(8, 16, 3, 2, 1), nn.ReLU())
        self.after = nn.Sequential(nn.Conv2D(24, 12, 3, 1, 1), nn.ReLU())
        self.classes = nn.Conv2D(12, 4, 1)

    def forward(self, x: Any) -> Any:
        before = self.down(x)
        up = nn.functional.interpolate(self.deep(before), scale_factor=2)
        return self.classes(self.after(paddle.concat([before, up], axis=1)))


def test_a_decoder_has_what_its_head_reads_and_its_last_join() -> None:
    assert necks(built(Decoder, [3, 32, 32])) == [
        ("after.1", "what the head reads", (-1, 12, 16, 16)),
        (None, "the last join before the head", (-1, 24, 16, 16)),
    ]


@pytest.mark.slow
def test_a_classifier_has_none() -> None:
    assert analyse(vision("resnet18")).necks == ()


def deepest(structure: Structure) -> str | None:
    return structure.graph.values[structure.stages[-1].end].layer


class Pooled(nn.Layer):
    """A backbone and a context module one of whose branches is pooled and enlarged again."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2D(3, 8, 3, 4, 1), nn.BatchNorm2D(8), nn.ReLU())
        self.near = nn.Sequential(nn.Conv2D(8, 8, 3, 1, 1), nn.ReLU())
        self.far = nn.Sequential(nn.Conv2D(8, 8, 3, 1, 2, dilation=2), nn.ReLU())
        self.classes = nn.Conv2D(24, 4, 1)

    def forward(self, x: Any) -> Any:
        x = self.backbone(x)
        whole = nn.functional.interpolate(nn.functional.adaptive_avg_pool2d(x, 1), [8, 8])
        return self.classes(paddle.concat([self.near(x), self.far(x), whole], axis=1))


@pytest.mark.slow
def test_a_backbone_ends_before_branches_of_which_one_is_pooled_and_enlarged() -> None:
    structure = analyse(built(Pooled, [3, 32, 32]))

    assert deepest(structure) == "backbone.2"
    assert structure.necks[0].description == "what the head reads"


_OPS: Any = paddle.vision.ops


class TwoStage(nn.Layer):
    """A backbone, a pyramid with a pooled level more, proposals at each, and scores of boxes.

    What proposes is shared by the levels, and its maps are answers as well.
    """

    def __init__(self) -> None:
        super().__init__()
        wide = [8, 16, 32]
        self.stages = nn.LayerList(
            [
                nn.Sequential(nn.Conv2D(before, after, 3, 2, 1), nn.BatchNorm2D(after), nn.ReLU())
                for before, after in zip([3, *wide[:2]], wide, strict=True)
            ]
        )
        self.lateral = nn.LayerList([nn.Conv2D(channels, 8, 1) for channels in wide])
        self.after = nn.LayerList([nn.Conv2D(8, 8, 3, 1, 1) for _ in wide])
        self.proposing = nn.Conv2D(8, 8, 3, 1, 1)
        self.objects, self.moves = nn.Conv2D(8, 3, 1), nn.Conv2D(8, 12, 1)
        self.hidden = nn.Linear(8 * 7 * 7, 16)
        self.scores, self.boxes = nn.Linear(16, 5), nn.Linear(16, 16)

    def forward(self, x: Any) -> Any:
        levels = self.levels(x)
        maps: list[Any] = []
        rois: list[Any] = []
        counts: list[Any] = []
        for index, level in enumerate(levels):
            hidden = nn.functional.relu(self.proposing(level))
            objects, moves = self.objects(hidden), self.moves(hidden)
            maps += [objects, moves]
            anchors = paddle.ones([32 >> index, 32 >> index, 3, 4])
            found, _, count = _OPS.generate_proposals(
                nn.functional.sigmoid(objects),
                moves,
                paddle.full([1, 2], 64.0),
                anchors,
                anchors,
                post_nms_top_n=10,
                return_rois_num=True,
            )
            rois.append(found)
            counts.append(count)
        return (*maps, *self.told(levels, paddle.concat(rois), paddle.add_n(counts)))

    def levels(self, x: Any) -> list[Any]:
        levels: list[Any] = []
        for stage, lateral in zip(self.stages, self.lateral):
            x = stage(x)
            levels.append(lateral(x))
        for index in (1, 0):
            above = nn.functional.interpolate(levels[index + 1], scale_factor=2)
            levels[index] = levels[index] + above
        levels = [after(level) for after, level in zip(self.after, levels)]
        return [*levels, nn.functional.max_pool2d(levels[-1], 1, 2)]

    def told(self, levels: list[Any], rois: Any, count: Any) -> tuple[Any, ...]:
        shares, restored, counts = _OPS.distribute_fpn_proposals(rois, 1, 3, 2, 32, rois_num=count)
        cut = [
            _OPS.roi_align(level, share, number, 7, spatial_scale=0.5**place)
            for place, (level, share, number) in enumerate(zip(levels[:3], shares, counts), 1)
        ]
        boxes = paddle.gather(paddle.concat(cut), restored)
        hidden = nn.functional.relu(self.hidden(boxes.flatten(1)))
        return self.scores(hidden), self.boxes(hidden)


def program(factory: Any) -> Any:
    """Build a network as users of the static graph do: a Program, and what it answers."""
    spec = [paddle.static.InputSpec([1, 3, 64, 64], "float32", "image")]
    return from_layer(factory, spec, train=False)


@pytest.mark.slow
def test_a_level_that_only_boxes_come_from_is_no_part_of_the_backbone() -> None:
    graph = program(TwoStage).graph
    structure = analyse(graph)

    assert deepest(structure) == "stages.2.2"
    # The coarsest level is only pooled from the one before.
    assert [(layer, shape) for layer, _, shape in necks(graph)] == [
        ("after.0", (1, 8, 32, 32)),
        ("after.1", (1, 8, 16, 16)),
        ("after.2", (1, 8, 8, 8)),
    ]
    found = suggest_pairs(graph, graph)
    assert {pair.teacher.name for pair in found} >= {neck.value for neck in structure.necks}


class Weighted(TwoStage):
    """The scores are computed with the boxes: the deepest map is then one that proposes."""

    def told(self, levels: list[Any], rois: Any, count: Any) -> tuple[Any, ...]:
        scores, boxes = super().told(levels, rois, count)
        return scores * rois.mean(), boxes


@pytest.mark.slow
def test_levels_before_the_end_of_the_backbone_are_none_of_its_necks() -> None:
    assert necks(program(Weighted).graph) == []
