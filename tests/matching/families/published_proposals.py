"""Detectors on a residual backbone: CenterNet, and Faster R-CNN's region proposals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer

__all__ = ["CenterNet", "RegionProposals"]


class _Residual(nn.Layer):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(channels, width, 3, stride)
        self.conv2 = ConvBNLayer(width, width, 3, act=None)
        plain = channels == width and stride == 1
        self.short = None if plain else ConvBNLayer(channels, width, 1, stride, act=None)

    def forward(self, x: Any) -> Any:
        return functional.relu(
            self.conv2(self.conv1(x)) + (x if self.short is None else self.short(x))
        )


class _ResNet(nn.Layer):
    """Basic blocks in four stages from 1/4 to 1/32, all of which are returned."""

    def __init__(self, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        self.conv1, self.pool = ConvBNLayer(3, widths[0], 7, 2), nn.MaxPool2D(3, 2, 1)
        self.layers = nn.LayerList()
        for index, (a, b) in enumerate(pairwise((widths[0], *widths))):
            rest = [_Residual(b, b, 1) for _ in range(depth - 1)]
            self.layers.append(nn.Sequential(_Residual(a, b, 2 if index else 1), *rest))

    def forward(self, x: Any) -> Any:
        x = self.pool(self.conv1(x))
        outs: list[Any] = []
        for layer in self.layers:
            x = layer(x)
            outs.append(x)
        return outs


class CenterNet(nn.Layer):
    """A residual backbone, three transposed convolutions back to 1/4, three heads."""

    def __init__(self, widths: Sequence[int], depth: int, *, up: Sequence[int]) -> None:
        super().__init__()
        self.backbone = _ResNet(widths, depth)
        self.deconvs = nn.LayerList(
            [
                nn.Sequential(
                    ConvBNLayer(a, b, 3),
                    nn.Conv2DTranspose(b, b, 4, 2, 1),
                    nn.BatchNorm2D(b),
                    nn.ReLU(),
                )
                for a, b in pairwise((widths[-1], *up))
            ]
        )
        self.heatmap, self.size, self.offset = (self._head(up[-1], out) for out in (5, 2, 2))

    @staticmethod
    def _head(channels: int, out: int) -> nn.Layer:
        return nn.Sequential(
            nn.Conv2D(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2D(16, out, 1)
        )

    def forward(self, image: Any) -> Any:
        x = self.backbone(image)[-1]
        for deconv in self.deconvs:
            x = deconv(x)
        return self.heatmap(x), self.size(x), self.offset(x)


class RegionProposals(nn.Layer):
    """Faster R-CNN up to its proposals: FPN with a fifth level, one head over all levels."""

    def __init__(self, widths: Sequence[int], depth: int, *, width: int) -> None:
        super().__init__()
        self.backbone = _ResNet(widths, depth)
        self.inner_convs = nn.LayerList([nn.Conv2D(c, width, 1) for c in widths])
        self.outer_convs = nn.LayerList([nn.Conv2D(width, width, 3, padding=1) for _ in widths])
        self.rpn_conv = nn.Conv2D(width, width, 3, padding=1)
        self.rpn_score, self.rpn_delta = nn.Conv2D(width, 3, 1), nn.Conv2D(width, 12, 1)

    def forward(self, image: Any) -> Any:
        feats = self.backbone(image)
        maps = [conv(feat) for conv, feat in zip(self.inner_convs, feats)]
        for level in (2, 1, 0):
            maps[level] = maps[level] + functional.interpolate(
                maps[level + 1], scale_factor=2, mode="nearest"
            )
        levels = [conv(feat) for conv, feat in zip(self.outer_convs, maps)]
        levels.append(functional.max_pool2d(levels[-1], 1, 2))
        seen = [functional.relu(self.rpn_conv(level)) for level in levels]
        return [self.rpn_score(x) for x in seen], [self.rpn_delta(x) for x in seen]
