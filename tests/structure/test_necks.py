"""What lies behind the backbone: pyramid levels and decoders, found through dominators."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn

from graphtool.graph import Graph
from graphtool.structure import Structure, analyse
from tests.networks import Pyramid, built, vision


def necks(graph: Graph) -> list[tuple[str | None, str, tuple[int, ...] | None]]:
    structure = analyse(graph)
    values = structure.graph.values
    return [(values[x.value].layer, x.what, values[x.value].shape) for x in structure.necks]


def test_levels_of_a_pyramid_come_the_coarsest_first() -> None:
    assert [what for _, what, _ in necks(built(Pyramid, [3, 64, 64]))] == [
        "level 1 of 3 that the heads read",
        "level 2 of 3 that the heads read",
        "level 3 of 3 that the heads read",
    ]


class Joined(Pyramid):
    """The same pyramid exported: all levels in one output of [N, places, channels]."""

    def forward(self, x: Any) -> Any:
        flat = [paddle.flatten(head, 2).transpose([0, 2, 1]) for head in super().forward(x)]
        return paddle.concat(flat, axis=1)


def test_levels_are_found_where_one_output_joins_them_all() -> None:
    levels = necks(built(Pyramid, [3, 64, 64]))

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


def test_a_backbone_ends_before_branches_of_which_one_is_pooled_and_enlarged() -> None:
    structure = analyse(built(Pooled, [3, 32, 32]))

    assert deepest(structure) == "backbone.2"
    assert structure.necks[0].what == "what the head reads"
