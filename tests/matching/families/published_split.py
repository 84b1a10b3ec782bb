"""Classifiers whose channels part ways: ResNeSt, Xception, ReXNet, DPN, MixNet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer, SEModule

__all__ = ["DPN", "MixNet", "ReXNet", "ResNeSt", "Xception"]


class _SplitAttention(nn.Layer):
    """Two groups of channels weighed against each other by a softmax of their pooled sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = ConvBNLayer(channels, 2 * channels, 3, groups=2)
        self.gap = nn.AdaptiveAvgPool2D(1)
        self.fc1 = ConvBNLayer(channels, 8, 1)
        self.fc2 = nn.Conv2D(8, 2 * channels, 1)

    def forward(self, x: Any) -> Any:
        first, second = paddle.split(self.conv(x), 2, axis=1)
        gates = self.fc2(self.fc1(self.gap(first + second)))
        gates = functional.softmax(gates.reshape([-1, 2, self.channels, 1, 1]), axis=1)
        return first * gates[:, 0] + second * gates[:, 1]


class _ResNeStBlock(nn.Layer):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(channels, width, 1)
        self.conv2 = _SplitAttention(width)
        self.avd = nn.AvgPool2D(3, 2, 1) if stride == 2 else None
        self.conv3 = ConvBNLayer(width, 4 * width, 1, act=None)
        self.pool = nn.AvgPool2D(2, 2) if stride == 2 else None
        same = channels == 4 * width
        self.downsample = None if same else ConvBNLayer(channels, 4 * width, 1, act=None)

    def forward(self, x: Any) -> Any:
        y = self.conv2(self.conv1(x))
        y = self.conv3(y if self.avd is None else self.avd(y))
        short = x if self.pool is None else self.pool(x)
        short = short if self.downsample is None else self.downsample(short)
        return functional.relu(y + short)


class ResNeSt(nn.Layer):
    """ResNeSt: a deep stem, bottlenecks with split attention, strides by average pools."""

    def __init__(self, depths: Sequence[int] = (2, 2, 3, 2), classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNLayer(3, 8, 3, 2), ConvBNLayer(8, 8, 3), ConvBNLayer(8, 16, 3)
        )
        self.maxpool = nn.MaxPool2D(3, 2, 1)
        channels = 16
        for stage, depth in enumerate(depths):
            width = 4 * 2**stage
            first = _ResNeStBlock(channels, width, 2 if stage else 1)
            rest = [_ResNeStBlock(4 * width, width, 1) for _ in range(depth - 1)]
            self.add_sublayer(f"layer{stage + 1}", nn.Sequential(first, *rest))
            channels = 4 * width
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.stem(x))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(self.flatten(self.avgpool(x)))


class _Separable(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2D(
            channels, channels, 3, padding=1, groups=channels, bias_attr=False
        )
        self.pointwise = ConvBNLayer(channels, width, 1, act=None)

    def forward(self, x: Any) -> Any:
        return self.pointwise(self.depthwise(x))


class _XceptionBlock(nn.Layer):
    """Separable convolutions behind ReLUs; a pool and a 1×1 shortcut where it shrinks."""

    def __init__(self, widths: Sequence[int], *, starts: str = "relu", stride: int = 2) -> None:
        super().__init__()
        self.starts = starts
        self.separables = nn.LayerList([_Separable(a, b) for a, b in pairwise(widths)])
        self.pool = nn.MaxPool2D(3, 2, 1) if stride == 2 else None
        self.short = ConvBNLayer(widths[0], widths[-1], 1, 2, act=None) if stride == 2 else None

    def forward(self, x: Any) -> Any:
        y = x
        for index, separable in enumerate(self.separables):
            y = separable(functional.relu(y) if index or self.starts == "relu" else y)
        y = y if self.pool is None else self.pool(y)
        return y + (x if self.short is None else self.short(x))


class Xception(nn.Layer):
    """Xception: entry, middle and exit flow; `middle` blocks keep 1/16."""

    def __init__(self, middle: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvBNLayer(3, 6, 3, 2), ConvBNLayer(6, 8, 3)
        self.entry = nn.LayerList(
            [
                _XceptionBlock((8, 16, 16), starts="plain"),
                _XceptionBlock((16, 24, 24)),
                _XceptionBlock((24, 32, 32)),
            ]
        )
        self.middle = nn.LayerList(
            [_XceptionBlock((32, 32, 32, 32), stride=1) for _ in range(middle)]
        )
        self.exit = _XceptionBlock((32, 32, 40))
        self.sep1, self.sep2 = _Separable(40, 48), _Separable(48, 64)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv2(self.conv1(x))
        for block in (*self.entry, *self.middle, self.exit):
            x = block(x)
        x = functional.relu(self.sep2(functional.relu(self.sep1(x))))
        return self.fc(self.pool(x).flatten(1))


class _ReXBlock(nn.Layer):
    """A linear bottleneck; its input is added to as many of its channels as there are."""

    def __init__(self, channels: int, width: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = channels * expand
        self.expand = ConvBNLayer(channels, inner, 1, act="swish") if expand > 1 else None
        self.dw = ConvBNLayer(inner, inner, 3, stride, groups=inner, act=None)
        self.se = SEModule(inner, 4, gate="sigmoid") if expand > 1 else None
        self.project = ConvBNLayer(inner, width, 1, act=None)
        self.shared = channels if stride == 1 and channels <= width else None

    def forward(self, x: Any) -> Any:
        y = self.dw(x if self.expand is None else self.expand(x))
        y = functional.relu6(y if self.se is None else self.se(y))
        y = self.project(y)
        if self.shared is None:
            return y
        return paddle.concat([y[:, : self.shared] + x, y[:, self.shared :]], axis=1)


class ReXNet(nn.Layer):
    """ReXNet: widths that grow with every block, a convolutional classifier."""

    STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 2, 1, 1)

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = ConvBNLayer(3, 8, 3, 2, act="swish")
        widths = [8, *(4 + 4 * (index + 1) for index in range(len(self.STRIDES)))]
        self.blocks = nn.LayerList(
            [
                _ReXBlock(a, b, stride, 4 if index else 1)
                for index, ((a, b), stride) in enumerate(
                    zip(pairwise(widths), self.STRIDES, strict=True)
                )
            ]
        )
        self.last = ConvBNLayer(widths[-1], 64, 1, act="swish")
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Conv2D(64, classes, 1)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.output(self.dropout(self.pool(self.last(x)))).flatten(1)


class _BNActConv(nn.Layer):
    def __init__(self, channels: int, width: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2D(channels)
        self.conv = nn.Conv2D(
            channels, width, kernel, stride, kernel // 2, groups=groups, bias_attr=False
        )

    def forward(self, x: Any) -> Any:
        return self.conv(functional.relu(self.bn(x)))


class _DualPath(nn.Layer):
    """A path that adds (`width` channels) and one that concatenates (`grow` more each time)."""

    def __init__(self, channels: int, width: int, grow: int, stride: int, *, first: str) -> None:
        super().__init__()
        self.width = width
        self.proj = (
            _BNActConv(channels, width + 2 * grow, 1, stride, 1) if first == "first" else None
        )
        self.conv1 = _BNActConv(channels, 8, 1, 1, 1)
        self.conv2 = _BNActConv(8, 8, 3, stride, 2)
        self.conv3 = _BNActConv(8, width + grow, 1, 1, 1)

    def forward(self, paths: Any) -> Any:
        x = paddle.concat(paths, axis=1) if len(paths) > 1 else paths[0]
        added, dense = paths if self.proj is None else self._parted(self.proj(x))
        more, grown = self._parted(self.conv3(self.conv2(self.conv1(x))))
        return [added + more, paddle.concat([dense, grown], axis=1)]

    def _parted(self, x: Any) -> list[Any]:
        return [x[:, : self.width], x[:, self.width :]]


class DPN(nn.Layer):
    """A dual path network of four stages."""

    def __init__(self, depths: Sequence[int] = (2, 2, 4, 2), classes: int = 10) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, 8, 7, 2)
        self.pool1 = nn.MaxPool2D(3, 2, 1)
        channels, grow = 8, 4
        self.stages = nn.LayerList()
        for stage, depth in enumerate(depths):
            width, blocks = 8 * (stage + 1), nn.LayerList()
            for index in range(depth):
                first, stride = "first" if index == 0 else "", 2 if index == 0 and stage else 1
                blocks.append(_DualPath(channels, width, grow, stride, first=first))
                channels = width + (3 + index) * grow
            self.stages.append(blocks)
        self.bn = nn.BatchNorm2D(channels)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = [self.pool1(self.conv1(x))]
        stages: Any = self.stages
        for stage in stages:
            for block in stage:
                x = block(x)
        x = functional.relu(self.bn(paddle.concat(x, axis=1)))
        return self.fc(paddle.flatten(self.pool(x), 1))


class _MixBlock(nn.Layer):
    """An inverted residual whose depthwise kernels differ from group to group of the channels."""

    def __init__(self, channels: int, width: int, stride: int, kernels: Sequence[int]) -> None:
        super().__init__()
        inner = 3 * channels
        part = inner // len(kernels)
        self.expand = ConvBNLayer(channels, inner, 1, act="swish")
        self.mixed = nn.LayerList(
            [
                nn.Conv2D(part, part, k, stride, k // 2, groups=part, bias_attr=False)
                for k in kernels
            ]
        )
        self.bn = nn.BatchNorm2D(inner)
        self.se = SEModule(inner, 4, gate="sigmoid")
        self.project = ConvBNLayer(inner, width, 1, act=None)
        self.residual = stride == 1 and channels == width

    def forward(self, x: Any) -> Any:
        parts = paddle.split(self.expand(x), len(self.mixed), axis=1)
        y = paddle.concat([conv(p) for conv, p in zip(self.mixed, parts)], axis=1)
        y = self.project(self.se(functional.swish(self.bn(y))))
        return x + y if self.residual else y


class MixNet(nn.Layer):
    """MixNet-S: mixed depthwise convolutions, a closing 1×1 convolution."""

    # width, stride, kernels
    BLOCKS = (
        (12, 2, (3,)),
        (12, 1, (3,)),
        (16, 2, (3, 5, 7)),
        (16, 1, (3, 5)),
        (24, 2, (3, 5)),
        (24, 1, (3, 5)),
        (32, 1, (3, 5, 7)),
        (32, 1, (3, 5, 7)),
        (40, 2, (3, 5, 7)),
        (40, 1, (3, 5, 7, 9)),
    )

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNLayer(3, 8, 3, 2), ConvBNLayer(8, 8, 3, groups=8), ConvBNLayer(8, 8, 1)
        )
        widths = [8, *(width for width, _, _ in self.BLOCKS)]
        self.blocks = nn.LayerList(
            [
                _MixBlock(before, width, stride, kernels)
                for before, (width, stride, kernels) in zip(widths[:-1], self.BLOCKS, strict=True)
            ]
        )
        self.head_conv = ConvBNLayer(40, 64, 1)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(self.flatten(self.pool(self.head_conv(x))))
