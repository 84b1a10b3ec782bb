"""A detector with decoupled heads: aggregated backbone or light one, PAN, YOLOX's three outputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer

__all__ = ["YOLOX", "AggregatedBackbone", "SeparableBackbone"]


class _Aggregation(nn.Layer):
    """Two 1×1 convolutions and a chain of 3×3; what they made is joined and mixed."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = ConvBNLayer(channels, half, 1, act="silu")
        self.conv2 = ConvBNLayer(channels, half, 1, act="silu")
        self.chain = nn.LayerList(
            nn.Sequential(
                ConvBNLayer(half, half, 3, act="silu"), ConvBNLayer(half, half, 3, act="silu")
            )
            for _ in range(depth)
        )
        self.mix = ConvBNLayer(half * (2 + depth), width, 1, act="silu")

    def forward(self, x: Any) -> Any:
        outs = [self.conv1(x), self.conv2(x)]
        for convs in self.chain:
            outs.append(convs(outs[-1]))
        return self.mix(paddle.concat(outs, axis=1))


class _Separable(nn.Layer):
    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.dw = ConvBNLayer(channels, channels, 3, stride, groups=channels, act="silu")
        self.pw = ConvBNLayer(channels, width, 1, act="silu")

    def forward(self, x: Any) -> Any:
        return self.pw(self.dw(x))


class _Backbone(nn.Layer):
    """A stem and four stages from 1/4 to 1/32; the last three are returned."""

    def __init__(self, widths: Sequence[int], stages: Sequence[nn.Layer]) -> None:
        super().__init__()
        self.stem = ConvBNLayer(3, widths[0], 3, 2, act="silu")
        self.stages = nn.LayerList(stages)
        self.out_channels = list(widths[2:])

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        outs: list[Any] = []
        for stage in self.stages:
            x = stage(x)
            outs.append(x)
        return outs[1:]


class AggregatedBackbone(_Backbone):
    """Chains whose every step is kept, as YOLOv7 has them."""

    def __init__(self) -> None:
        widths = (8, 16, 24, 32, 48)
        stages = [
            nn.Sequential(
                ConvBNLayer(before, after, 3, 2, act="silu"), _Aggregation(after, after, 2)
            )
            for before, after in pairwise(widths)
        ]
        super().__init__(widths, stages)


class SeparableBackbone(_Backbone):
    """Depthwise and 1×1 convolutions by turns."""

    def __init__(self) -> None:
        widths = (8, 8, 12, 16, 24)
        stages = [
            nn.Sequential(_Separable(before, after, 2), _Separable(after, after))
            for before, after in pairwise(widths)
        ]
        super().__init__(widths, stages)


class _Pan(nn.Layer):
    """All levels brought to one width; top down by sums, bottom up by sums."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.reduce = nn.LayerList([ConvBNLayer(count, width, 1, act="silu") for count in channels])
        self.top_down = nn.LayerList([_Separable(width, width) for _ in range(2)])
        self.down = nn.LayerList([_Separable(width, width, 2) for _ in range(2)])
        self.bottom_up = nn.LayerList([_Separable(width, width) for _ in range(2)])

    def forward(self, feats: Any) -> Any:
        c3, c4, c5 = (conv(feat) for conv, feat in zip(self.reduce, feats))
        p4 = self.top_down[0](c4 + functional.interpolate(c5, scale_factor=2, mode="nearest"))
        p3 = self.top_down[1](c3 + functional.interpolate(p4, scale_factor=2, mode="nearest"))
        n4 = self.bottom_up[0](p4 + self.down[0](p3))
        n5 = self.bottom_up[1](c5 + self.down[1](n4))
        return [p3, n4, n5]


class _DecoupledHead(nn.Layer):
    """A stem and two towers a level: classes from one, box and objectness from the other."""

    def __init__(self, width: int, convs: int, classes: int) -> None:
        super().__init__()
        levels = range(3)
        self.stems = nn.LayerList([ConvBNLayer(width, width, 1, act="silu") for _ in levels])
        self.cls_convs = nn.LayerList([self._tower(width, convs) for _ in levels])
        self.reg_convs = nn.LayerList([self._tower(width, convs) for _ in levels])
        self.cls_preds = nn.LayerList([nn.Conv2D(width, classes, 1) for _ in levels])
        self.reg_preds = nn.LayerList([nn.Conv2D(width, 4, 1) for _ in levels])
        self.obj_preds = nn.LayerList([nn.Conv2D(width, 1, 1) for _ in levels])

    @staticmethod
    def _tower(width: int, convs: int) -> nn.Layer:
        return nn.Sequential(*[ConvBNLayer(width, width, 3, act="silu") for _ in range(convs)])

    def forward(self, feats: Any) -> Any:
        outs: list[Any] = []
        for level, feat in enumerate(feats):
            x = self.stems[level](feat)
            boxes = self.reg_convs[level](x)
            outs.append(self.cls_preds[level](self.cls_convs[level](x)))
            outs.append(self.reg_preds[level](boxes))
            outs.append(self.obj_preds[level](boxes))
        return outs


class YOLOX(nn.Layer):
    """Backbone, PAN, and at each level class scores, a box and objectness, not yet decoded."""

    def __init__(self, backbone: nn.Layer, *, width: int, convs: int, classes: int = 6) -> None:
        super().__init__()
        self.backbone = backbone
        channels: Any = backbone.out_channels
        self.neck = _Pan(channels, width)
        self.head = _DecoupledHead(width, convs, classes)

    def forward(self, image: Any) -> Any:
        return self.head(self.neck(self.backbone(image)))
