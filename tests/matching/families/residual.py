"""Residual classifiers: ResNet and its vd form, RegNet, and those of CIFAR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer

__all__ = [
    "BasicBlock",
    "BottleneckBlock",
    "CifarResNet",
    "RegNet",
    "ReidResNet",
    "ResNetVD",
    "WideResNet",
]


class BasicBlock(nn.Layer):
    """Two 3×3 convolutions and a shortcut; ReLU after the sum."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv0 = ConvBNLayer(in_channels, width, 3, stride, dilation=dilation)
        self.conv1 = ConvBNLayer(width, width, 3, dilation=dilation, act=None)
        plain = stride == 1 and in_channels == width
        self.short = None if plain else ConvBNLayer(in_channels, width, 1, stride, act=None)

    def forward(self, x: Any) -> Any:
        y = self.conv1(self.conv0(x))
        return functional.relu(paddle.add(y, x if self.short is None else self.short(x)))


class BottleneckBlock(nn.Layer):
    """1×1, 3×3, 1×1; the vd shortcut pools before its convolution."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        out = 4 * width
        self.conv0 = ConvBNLayer(in_channels, width, 1)
        self.conv1 = ConvBNLayer(width, width, 3, stride, dilation=dilation)
        self.conv2 = ConvBNLayer(width, out, 1, act=None)
        self.pool = nn.AvgPool2D(2, 2, ceil_mode=True) if stride == 2 else None
        self.short = None if in_channels == out else ConvBNLayer(in_channels, out, 1, act=None)

    def forward(self, x: Any) -> Any:
        y = self.conv2(self.conv1(self.conv0(x)))
        short = x if self.pool is None else self.pool(x)
        if self.short is not None:
            short = self.short(short)
        return functional.relu(paddle.add(short, y))


class ResNetVD(nn.Layer):
    """PaddleClas' ResNet_vd: three stem convolutions, all blocks in one Sequential."""

    def __init__(
        self, block: Any, depths: Sequence[int], width: int = 4, classes: int = 10
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNLayer(3, width, 3, 2),
            ConvBNLayer(width, width, 3),
            ConvBNLayer(width, 2 * width, 3),
        )
        self.max_pool = nn.MaxPool2D(3, 2, 1)
        blocks: list[nn.Layer] = []
        channels = 2 * width
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if index == 0 and stage > 0 else 1
                blocks.append(block(channels, width * 2**stage, stride))
                channels = block.expansion * width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.blocks(self.max_pool(self.stem(x)))
        return self.fc(self.flatten(self.avg_pool(x)))


class ReidResNet(nn.Layer):
    """A pooled map, a batch normalisation as neck, a classifier without bias."""

    def __init__(self, block: Any, depths: Sequence[int], width: int = 4, ids: int = 20) -> None:
        super().__init__()
        self.conv = ConvBNLayer(3, width, 7, 2)
        self.pool = nn.MaxPool2D(3, 2, 1)
        channels = width
        stages: list[nn.Layer] = []
        for stage, depth in enumerate(depths):
            stages.append(_stage(block, channels, width * 2**stage, depth, 1 if stage == 0 else 2))
            channels = block.expansion * width * 2**stage
        self.stages = nn.LayerList(stages)
        self.gap = nn.AdaptiveAvgPool2D(1)
        self.bottleneck = nn.BatchNorm1D(channels)
        self.classifier = nn.Linear(channels, ids, bias_attr=False)

    def forward(self, x: Any) -> Any:
        x = self.pool(self.conv(x))
        for stage in self.stages:
            x = stage(x)
        feature = self.gap(x).flatten(1)
        return self.classifier(self.bottleneck(feature))


def _stage(block: Any, channels: int, width: int, depth: int, stride: int) -> nn.Layer:
    rest = [block(block.expansion * width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(block(channels, width, stride), *rest)


class _XBlock(nn.Layer):
    def __init__(self, in_channels: int, width: int, stride: int, group_width: int) -> None:
        super().__init__()
        self.conv_a = ConvBNLayer(in_channels, width, 1)
        self.conv_b = ConvBNLayer(width, width, 3, stride, groups=width // group_width)
        self.conv_c = ConvBNLayer(width, width, 1, act=None)
        plain = stride == 1 and in_channels == width
        self.proj = None if plain else ConvBNLayer(in_channels, width, 1, stride, act=None)
        self.relu = nn.ReLU()

    def forward(self, x: Any) -> Any:
        y = self.conv_c(self.conv_b(self.conv_a(x)))
        return self.relu(y + (x if self.proj is None else self.proj(x)))


class RegNet(nn.Layer):
    """A stem of stride 2 and four stages that each begin with stride 2, as RegNetX has."""

    def __init__(
        self,
        widths: Sequence[int] = (8, 16, 24, 40),
        depths: Sequence[int] = (1, 2, 3, 2),
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = ConvBNLayer(3, 8, 3, 2)
        before = [8, *widths[:-1]]
        for index, (first, width, depth) in enumerate(zip(before, widths, depths, strict=True)):
            rest = [_XBlock(width, width, 1, 4) for _ in range(depth - 1)]
            stage = nn.Sequential(_XBlock(first, width, 2, 4), *rest)
            self.add_sublayer(f"s{index + 1}", stage)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for index in range(4):
            x = getattr(self, f"s{index + 1}")(x)
        return self.fc(paddle.flatten(self.pool(x), 1))


class CifarResNet(nn.Layer):
    """He's ResNet of 6n + 2 layers for 32×32: three stages at 32, 16 and 8."""

    def __init__(self, n: int, width: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, width)
        self.layer1 = _stage(BasicBlock, width, width, n, 1)
        self.layer2 = _stage(BasicBlock, width, 2 * width, n, 2)
        self.layer3 = _stage(BasicBlock, 2 * width, 4 * width, n, 2)
        self.avgpool = nn.AvgPool2D(8)
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Any) -> Any:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(paddle.flatten(self.avgpool(x), 1))


class _PreActivation(nn.Layer):
    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2D(in_channels), nn.BatchNorm2D(width)
        self.conv1 = nn.Conv2D(in_channels, width, 3, stride, 1, bias_attr=False)
        self.conv2 = nn.Conv2D(width, width, 3, 1, 1, bias_attr=False)
        plain = in_channels == width
        self.shortcut = None if plain else nn.Conv2D(in_channels, width, 1, stride, bias_attr=False)

    def forward(self, x: Any) -> Any:
        active = functional.relu(self.bn1(x))
        y = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Layer):
    """A pre-activation network for 32×32: the sum leaves a stage, BN and ReLU follow at the end."""

    def __init__(self, n: int, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3, 1, 1, bias_attr=False)
        wide = [4, width, 2 * width, 4 * width]
        for index in range(3):
            first = _PreActivation(wide[index], wide[index + 1], 1 if index == 0 else 2)
            rest = [_PreActivation(wide[index + 1], wide[index + 1], 1) for _ in range(n - 1)]
            self.add_sublayer(f"block{index + 1}", nn.Sequential(first, *rest))
        self.bn = nn.BatchNorm2D(wide[3])
        self.fc = nn.Linear(wide[3], classes)

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        for index in range(3):
            x = getattr(self, f"block{index + 1}")(x)
        x = functional.avg_pool2d(functional.relu(self.bn(x)), 8)
        return self.fc(x.reshape([-1, self.fc.weight.shape[0]]))
