"""Classifiers whose blocks split, gate or imitate channels: Res2Net, GhostNet, SE, ShuffleNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer, SEModule

__all__ = ["GhostNet", "Res2Net", "SEResNet", "ShuffleNetV1"]


class _Bottle2neck(nn.Layer):
    """The 3×3 convolution in four parts, each fed with the result of the one before."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.part, self.stride = width // 4, stride
        self.conv1 = ConvBNLayer(channels, width, 1)
        self.convs = nn.LayerList([ConvBNLayer(self.part, self.part, 3, stride) for _ in range(3)])
        self.conv3 = ConvBNLayer(width, 2 * width, 1, act=None)
        self.pool = nn.AvgPool2D(3, stride, 1)
        plain = stride == 1 and channels == 2 * width
        self.downsample = None if plain else ConvBNLayer(channels, 2 * width, 1, stride, act=None)

    def forward(self, x: Any) -> Any:
        *parts, last = paddle.split(self.conv1(x), 4, axis=1)
        outs: list[Any] = []
        for conv, part in zip(self.convs, parts):
            chained = bool(outs) and self.stride == 1
            outs.append(conv(part + outs[-1] if chained else part))
        outs.append(last if self.stride == 1 else self.pool(last))
        y = self.conv3(paddle.concat(outs, axis=1))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Res2Net(nn.Layer):
    """A ResNet of four stages with hierarchical bottlenecks."""

    def __init__(self, depths: Sequence[int] = (2, 2, 3, 2), classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(ConvBNLayer(3, 8, 3, 2), ConvBNLayer(8, 8, 3))
        self.maxpool = nn.MaxPool2D(3, 2, 1)
        channels = 8
        for stage, depth in enumerate(depths):
            width = 8 * 2**stage
            first = _Bottle2neck(channels, width, 1 if stage == 0 else 2)
            rest = [_Bottle2neck(2 * width, width, 1) for _ in range(depth - 1)]
            self.add_sublayer(f"layer{stage + 1}", nn.Sequential(first, *rest))
            channels = 2 * width
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.conv1(x))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(self.flatten(self.avgpool(x)))


class _Ghost(nn.Layer):
    """Half of the channels by a convolution, the other half by a cheap one on the first."""

    def __init__(self, channels: int, width: int, *, act: str | None = "relu") -> None:
        super().__init__()
        half = width // 2
        self.primary = ConvBNLayer(channels, half, 1, act=act)
        self.cheap = ConvBNLayer(half, half, 3, groups=half, act=act)

    def forward(self, x: Any) -> Any:
        y = self.primary(x)
        return paddle.concat([y, self.cheap(y)], axis=1)


class _GhostBottleneck(nn.Layer):
    def __init__(self, channels: int, inner: int, width: int, stride: int, se: str) -> None:
        super().__init__()
        self.ghost1 = _Ghost(channels, inner)
        self.depthwise = (
            ConvBNLayer(inner, inner, 3, stride, groups=inner, act=None) if stride == 2 else None
        )
        self.se = SEModule(inner, 4) if se == "se" else None
        self.ghost2 = _Ghost(inner, width, act=None)
        plain = stride == 1 and channels == width
        self.shortcut = None if plain else _separable(channels, width, stride)

    def forward(self, x: Any) -> Any:
        y = self.ghost1(x)
        if self.depthwise is not None:
            y = self.depthwise(y)
        if self.se is not None:
            y = self.se(y)
        return self.ghost2(y) + (x if self.shortcut is None else self.shortcut(x))


def _separable(channels: int, width: int, stride: int) -> nn.Layer:
    return nn.Sequential(
        ConvBNLayer(channels, channels, 3, stride, groups=channels, act=None),
        ConvBNLayer(channels, width, 1, act=None),
    )


class GhostNet(nn.Layer):
    """Ghost bottlenecks, a closing 1×1 convolution, another one after the pooling."""

    # inner width, width, stride, squeeze and excitation
    BLOCKS = (
        (8, 8, 1, "none"),
        (16, 12, 2, "none"),
        (24, 12, 1, "none"),
        (24, 16, 2, "se"),
        (32, 16, 1, "se"),
        (32, 24, 2, "none"),
        (48, 24, 1, "none"),
        (48, 32, 1, "se"),
        (64, 40, 2, "se"),
        (80, 40, 1, "se"),
    )

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv_stem = ConvBNLayer(3, 8, 3, 2)
        blocks: list[nn.Layer] = []
        channels = 8
        for inner, width, stride, se in self.BLOCKS:
            blocks.append(_GhostBottleneck(channels, inner, width, stride, se))
            channels = width
        self.blocks = nn.LayerList(blocks)
        self.conv_last = ConvBNLayer(channels, 64, 1)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.conv_head = nn.Conv2D(64, 80, 1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(80, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv_stem(x)
        for block in self.blocks:
            x = block(x)
        x = functional.relu(self.conv_head(self.pool(self.conv_last(x))))
        return self.classifier(self.dropout(paddle.flatten(x, 1)))


class _SEBlock(nn.Layer):
    """A bottleneck with a gate on its branch, which training skips now and then."""

    def __init__(self, channels: int, width: int, stride: int, drop: float) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(channels, width, 1)
        self.conv2 = ConvBNLayer(width, width, 3, stride, groups=2)
        self.conv3 = ConvBNLayer(width, 2 * width, 1, act=None)
        self.se = SEModule(2 * width, 4, gate="sigmoid")
        self.keep = 1.0 - drop
        plain = stride == 1 and channels == 2 * width
        self.shortcut = None if plain else ConvBNLayer(channels, 2 * width, 1, stride, act=None)

    def forward(self, x: Any) -> Any:
        y = self.se(self.conv3(self.conv2(self.conv1(x))))
        if self.training and self.keep < 1.0:
            noise = paddle.rand([paddle.shape(y)[0], 1, 1, 1], dtype=y.dtype)
            y = y / self.keep * paddle.floor(self.keep + noise)
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class SEResNet(nn.Layer):
    """SE-ResNeXt with stochastic depth; as many stages as there are depths."""

    def __init__(self, depths: Sequence[int], width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv0 = ConvBNLayer(3, width, 7, 2)
        self.pool0 = nn.MaxPool2D(3, 2, 1)
        channels, total = width, sum(depths)
        self.stages = nn.LayerList()
        for stage, depth in enumerate(depths):
            inner = width * 2**stage
            blocks: list[nn.Layer] = []
            for index in range(depth):
                done = (sum(depths[:stage]) + index) / total
                stride = 2 if index == 0 and stage > 0 else 1
                blocks.append(_SEBlock(channels, inner, stride, 0.2 * done))
                channels = 2 * inner
            self.stages.append(nn.Sequential(*blocks))
        self.global_pool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.pool0(self.conv0(x))
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.flatten(self.global_pool(x)))


class _GroupedShuffle(nn.Layer):
    """Grouped 1×1, shuffle, depthwise, grouped 1×1; joined to its input by sum or concatenation."""

    def __init__(self, channels: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        out = width - channels if stride == 2 else width
        inner = width // 4
        self.groups, self.stride = groups, stride
        self.conv1 = ConvBNLayer(channels, inner, 1, groups=groups)
        self.conv2 = ConvBNLayer(inner, inner, 3, stride, groups=inner, act=None)
        self.conv3 = ConvBNLayer(inner, out, 1, groups=groups, act=None)
        self.pool = nn.AvgPool2D(3, 2, 1)

    def forward(self, x: Any) -> Any:
        y = functional.channel_shuffle(self.conv1(x), self.groups)
        y = self.conv3(self.conv2(y))
        if self.stride == 2:
            return functional.relu(paddle.concat([y, self.pool(x)], axis=1))
        return functional.relu(y + x)


class ShuffleNetV1(nn.Layer):
    """ShuffleNet for 32×32: a 1×1 stem that keeps the size, then stages at 16, 8 and 4."""

    def __init__(self, depths: Sequence[int] = (2, 3, 2), classes: int = 10) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, 8, 1)
        channels = 8
        for index, depth in enumerate(depths):
            width = 16 * 2**index
            rest = [_GroupedShuffle(width, width, 1, 2) for _ in range(depth - 1)]
            stage = nn.Sequential(_GroupedShuffle(channels, width, 2, 2), *rest)
            self.add_sublayer(f"layer{index + 1}", stage)
            channels = width
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.linear(paddle.flatten(functional.avg_pool2d(x, 4), 1))
