"""Classifiers of convolutions in many branches: PP-HGNet, PP-LCNetV2, RepVGG, MobileOne."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer, SEModule

__all__ = ["MobileOne", "PPHGNet", "PPLCNetV2", "RepVGG", "TwoLabels"]


class _ESE(nn.Layer):
    """A gate of one convolution on the pooled map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.conv = nn.Conv2D(channels, channels, 1)

    def forward(self, x: Any) -> Any:
        return x * functional.sigmoid(self.conv(self.avg_pool(x)))


class _HGBlock(nn.Layer):
    """A chain of 3×3 convolutions, all of it joined, mixed and gated; identity but in the first."""

    def __init__(self, channels: int, inner: int, width: int, layers: int) -> None:
        super().__init__()
        self.identity = channels == width
        widths = [channels, *[inner] * layers]
        self.layers = nn.LayerList([ConvBNLayer(a, b, 3) for a, b in pairwise(widths)])
        self.aggregation_conv = ConvBNLayer(sum(widths), width, 1)
        self.att = _ESE(width)

    def forward(self, x: Any) -> Any:
        outs = [x]
        for layer in self.layers:
            outs.append(layer(outs[-1]))
        y = self.att(self.aggregation_conv(paddle.concat(outs, axis=1)))
        return y + x if self.identity else y


class PPHGNet(nn.Layer):
    """PP-HGNet (PaddleClas): stages of HG blocks, each behind a depthwise convolution."""

    def __init__(self, depths: Sequence[int] = (1, 1, 2, 1), classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNLayer(3, 8, 3, 2), ConvBNLayer(8, 8, 3), ConvBNLayer(8, 12, 3)
        )
        self.pool = nn.MaxPool2D(3, 2, 1)
        self.stages = nn.LayerList()
        channels = 12
        for stage, depth in enumerate(depths):
            width, inner = 16 + 8 * stage, 8 + 4 * stage
            down = ConvBNLayer(channels, channels, 3, 2, groups=channels, act=None)
            first = _HGBlock(channels, inner, width, 4)
            rest = [_HGBlock(width, inner, width, 4) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*([down] if stage else []), first, *rest))
            channels = width
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.last_conv = nn.Conv2D(channels, 64, 1, bias_attr=False)
        self.dropout = nn.Dropout(0.2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Any) -> Any:
        x = self.pool(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        x = functional.relu(self.last_conv(self.avg_pool(x)))
        return self.fc(self.flatten(self.dropout(x)))


class _RepSeparable(nn.Layer):
    """Depthwise kernels added up, a gate, then two 1×1 convolutions or one."""

    def __init__(
        self, channels: int, width: int, stride: int, kernels: Sequence[int], *, gated: str
    ) -> None:
        super().__init__()
        self.dw_convs = nn.LayerList(
            [
                ConvBNLayer(channels, channels, kernel, stride, groups=channels, act=None)
                for kernel in kernels
            ]
        )
        self.se = SEModule(channels, 4, gate="sigmoid") if gated == "gated" else None
        self.pw_conv_1 = ConvBNLayer(channels, width // 2, 1)
        self.pw_conv_2 = ConvBNLayer(width // 2, width, 1)
        self.shortcut = stride == 1 and channels == width

    def forward(self, x: Any) -> Any:
        first, *rest = self.dw_convs
        y = first(x)
        for conv in rest:
            y = y + conv(x)
        y = y if self.se is None else self.se(y)
        y = self.pw_conv_2(self.pw_conv_1(y))
        return x + y if self.shortcut else y


class PPLCNetV2(nn.Layer):
    """PP-LCNetV2 (PaddleClas) in training form."""

    def __init__(
        self,
        widths: Sequence[int] = (12, 16, 24, 32),
        depths: Sequence[int] = (2, 2, 4, 2),
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNLayer(3, 8, 3, 2), _RepSeparable(8, 8, 1, (3,), gated="plain")
        )
        self.stages = nn.LayerList()
        for stage, (before, width) in enumerate(pairwise((8, *widths))):
            kernels = (5, 3, 1) if stage >= 2 else (3,)
            gated = "gated" if stage == 3 else "plain"
            blocks = [_RepSeparable(before, width, 2, (3,), gated="plain")]
            blocks += [
                _RepSeparable(width, width, 1, kernels, gated=gated)
                for _ in range(depths[stage] - 1)
            ]
            self.stages.append(nn.Sequential(*blocks))
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.last_conv = nn.Conv2D(widths[-1], 48, 1, bias_attr=False)
        self.dropout = nn.Dropout(0.2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(48, classes)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = functional.hardswish(self.last_conv(self.avg_pool(x)))
        return self.fc(self.flatten(self.dropout(x)))


class _RepVGGBlock(nn.Layer):
    """3×3, 1×1 and, where the shape stays, a normalised identity, added up before one ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        plain = channels == width and stride == 1
        self.rbr_identity = nn.BatchNorm2D(channels) if plain else None
        self.rbr_dense = ConvBNLayer(channels, width, 3, stride, act=None)
        self.rbr_1x1 = ConvBNLayer(channels, width, 1, stride, act=None)

    def forward(self, x: Any) -> Any:
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return functional.relu(y if self.rbr_identity is None else y + self.rbr_identity(x))


class _FiveStages(nn.Layer):
    """A first block and four stages that each begin with stride 2."""

    def __init__(self, block: Any, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.stage0 = block(3, widths[0], 2)
        for stage, (before, width) in enumerate(pairwise(widths)):
            rest = [block(width, width, 1) for _ in range(depths[stage] - 1)]
            self.add_sublayer(f"stage{stage + 1}", nn.Sequential(block(before, width, 2), *rest))
        self.gap = nn.AdaptiveAvgPool2D(1)

    def forward(self, x: Any) -> Any:
        x = self.stage0(x)
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
        return paddle.flatten(self.gap(x), 1)


class RepVGG(nn.Layer):
    """RepVGG with the three branches that it trains with."""

    def __init__(self, depths: Sequence[int] = (2, 4, 6, 1), classes: int = 10) -> None:
        super().__init__()
        self.trunk = _FiveStages(_RepVGGBlock, (8, 8, 16, 24, 48), depths)
        self.linear = nn.Linear(48, classes)

    def forward(self, x: Any) -> Any:
        return self.linear(self.trunk(x))


class _MobileOneConv(nn.Layer):
    """Two k×k branches, a 1×1 one where k is 3, a normalised identity; their sum and a ReLU."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        plain = channels == width and stride == 1
        self.rbr_skip = nn.BatchNorm2D(channels) if plain else None
        kernels = [kernel, kernel, 1] if kernel > 1 else [1, 1]
        self.branches = nn.LayerList(
            [ConvBNLayer(channels, width, k, stride, groups=groups, act=None) for k in kernels]
        )

    def forward(self, x: Any) -> Any:
        first, *rest = self.branches
        y = first(x)
        for branch in rest:
            y = y + branch(x)
        return functional.relu(y if self.rbr_skip is None else y + self.rbr_skip(x))


def _mobile_one_block(channels: int, width: int, stride: int) -> nn.Layer:
    if channels == 3:
        return _MobileOneConv(channels, width, 3, stride, 1)
    return nn.Sequential(
        _MobileOneConv(channels, channels, 3, stride, channels),
        _MobileOneConv(channels, width, 1, 1, 1),
    )


class MobileOne(nn.Layer):
    """MobileOne with the branches that it trains with."""

    def __init__(self, depths: Sequence[int] = (1, 3, 4, 1), classes: int = 10) -> None:
        super().__init__()
        self.trunk = _FiveStages(_mobile_one_block, (6, 6, 12, 20, 32), depths)
        self.linear = nn.Linear(32, classes)

    def forward(self, x: Any) -> Any:
        return self.linear(self.trunk(x))


class TwoLabels(nn.Layer):
    """A RepVGG or MobileOne trunk with a classifier for each of two labels."""

    def __init__(self, block: str, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        made = {"RepVGG": _RepVGGBlock, "MobileOne": _mobile_one_block}[block]
        self.trunk = _FiveStages(made, widths, depths)
        self.dropout = nn.Dropout(0.1)
        self.colour = nn.Linear(widths[-1], 6)
        self.make = nn.Linear(widths[-1], 6)

    def forward(self, x: Any) -> Any:
        x = self.dropout(self.trunk(x))
        return self.colour(x), self.make(x)
