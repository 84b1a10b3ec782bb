"""Light classifiers: inverted residual, depthwise-separable, EfficientNet and shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer, SEModule

__all__ = ["EfficientNet", "InvertedResidual", "LCNet", "MobileNetV2", "ShuffleNetV2"]


class InvertedResidual(nn.Layer):
    """Expand, depthwise, linear 1×1; a sum where nothing changes its shape."""

    def __init__(self, in_channels: int, width: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        inner = in_channels * expand
        self.expand = ConvBNLayer(in_channels, inner, 1, act="relu6")
        self.depthwise = ConvBNLayer(inner, inner, 3, stride, groups=inner, act="relu6")
        self.linear = ConvBNLayer(inner, width, 1, act=None)
        self.short = stride == 1 and in_channels == width

    def forward(self, x: Any) -> Any:
        y = self.linear(self.depthwise(self.expand(x)))
        return paddle.add(x, y) if self.short else y


class MobileNetV2(nn.Layer):
    """Stem, one group of blocks for each (width, depth, stride), a 1×1 convolution, classifier."""

    def __init__(
        self,
        groups: Sequence[tuple[int, int, int]],
        *,
        stem_stride: int = 2,
        last: int = 64,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, 8, 3, stem_stride, act="relu6")
        channels = 8
        stages: list[nn.Layer] = []
        for width, depth, stride in groups:
            rest = [InvertedResidual(width, width, 1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(InvertedResidual(channels, width, stride), *rest))
            channels = width
        self.groups = nn.LayerList(stages)
        self.conv9 = ConvBNLayer(channels, last, 1, act="relu6")
        self.pool2d_avg = nn.AdaptiveAvgPool2D(1)
        self.out = nn.Linear(last, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        for group in self.groups:
            x = group(x)
        x = self.pool2d_avg(self.conv9(x))
        return self.out(paddle.flatten(x, start_axis=1, stop_axis=-1))


class _DepthwiseSeparable(nn.Layer):
    def __init__(self, channels: int, width: int, kernel: int, stride: int, se: str | None) -> None:
        super().__init__()
        self.dw_conv = ConvBNLayer(
            channels, channels, kernel, stride, groups=channels, act="hardswish"
        )
        self.se = None if se is None else SEModule(channels, 4)
        self.pw_conv = ConvBNLayer(channels, width, 1, act="hardswish")

    def forward(self, x: Any) -> Any:
        x = self.dw_conv(x)
        if self.se is not None:
            x = self.se(x)
        return self.pw_conv(x)


class LCNet(nn.Layer):
    """PP-LCNet: five lists of blocks, and a 1×1 convolution with hard swish after the pooling."""

    SETTINGS = (
        ((3, 8, 16, 1, None),),
        ((3, 16, 16, 2, None), (3, 16, 16, 1, None)),
        ((3, 16, 24, 2, None), (3, 24, 24, 1, None)),
        ((3, 24, 32, 2, None), (5, 32, 32, 1, None), (5, 32, 32, 1, None)),
        ((5, 32, 48, 2, "se"), (5, 48, 48, 1, "se")),
    )

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, 8, 3, 2, act="hardswish")
        for index, rows in enumerate(self.SETTINGS):
            blocks = [
                _DepthwiseSeparable(before, after, kernel, stride, se)
                for kernel, before, after, stride, se in rows
            ]
            self.add_sublayer(f"blocks{index + 2}", nn.Sequential(*blocks))
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.last_conv = nn.Conv2D(48, 64, 1, bias_attr=False)
        self.hardswish = nn.Hardswish()
        self.dropout = nn.Dropout(p=0.2, mode="downscale_in_infer")
        self.flatten = nn.Flatten(start_axis=1, stop_axis=-1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        for index in range(5):
            x = getattr(self, f"blocks{index + 2}")(x)
        x = self.hardswish(self.last_conv(self.avg_pool(x)))
        return self.fc(self.flatten(self.dropout(x)))


class _MBConv(nn.Layer):
    def __init__(self, channels: int, width: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = channels * expand
        self.expand = None if expand == 1 else ConvBNLayer(channels, inner, 1, act="swish")
        self.depthwise = ConvBNLayer(inner, inner, kernel, stride, groups=inner, act="swish")
        self.se = SEModule(inner, 4, gate="sigmoid")
        self.project = ConvBNLayer(inner, width, 1, act=None)
        self.skip = stride == 1 and channels == width

    def forward(self, inputs: Any) -> Any:
        x = inputs if self.expand is None else self.expand(inputs)
        x = self.project(self.se(self.depthwise(x)))
        if not self.skip:
            return x
        return _drop_connect(x, 0.2, training=self.training) + inputs


def _drop_connect(x: Any, prob: float, *, training: bool) -> Any:
    if not training:
        return x
    keep = 1.0 - prob
    noise = paddle.rand([paddle.shape(x)[0], 1, 1, 1], dtype=x.dtype)
    return x / keep * paddle.floor(keep + noise)


class EfficientNet(nn.Layer):
    """Seven groups of MBConv blocks, their drop connection while training; 1×1 head."""

    # kernel, stride, expansion, width, depth
    GROUPS = (
        (3, 1, 1, 8, 1),
        (3, 2, 4, 12, 2),
        (5, 2, 4, 16, 2),
        (3, 2, 4, 24, 2),
        (5, 1, 4, 32, 2),
        (5, 2, 4, 40, 2),
        (3, 1, 4, 48, 1),
    )

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv_stem = ConvBNLayer(3, 8, 3, 2, act="swish")
        blocks: list[nn.Layer] = []
        channels = 8
        for kernel, stride, expand, width, depth in self.GROUPS:
            for index in range(depth):
                step = stride if index == 0 else 1
                blocks.append(_MBConv(channels, width, kernel, step, expand))
                channels = width
        self.blocks = nn.LayerList(blocks)
        self.conv_head = ConvBNLayer(channels, 64, 1, act="swish")
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv_stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.drop(self.pool(self.conv_head(x)))
        return self.fc(x.squeeze([2, 3]))


def _shuffle(x: Any, groups: int = 2) -> Any:
    _, channels, height, width = x.shape
    x = x.reshape([-1, groups, channels // groups, height, width])
    return x.transpose([0, 2, 1, 3, 4]).reshape([-1, channels, height, width])


class _ShuffleUnit(nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv_pw = ConvBNLayer(half, half, 1)
        self.conv_dw = ConvBNLayer(half, half, 3, groups=half, act=None)
        self.conv_linear = ConvBNLayer(half, half, 1)

    def forward(self, x: Any) -> Any:
        left, right = paddle.split(x, 2, axis=1)
        right = self.conv_linear(self.conv_dw(self.conv_pw(right)))
        return _shuffle(paddle.concat([left, right], axis=1))


class _ShuffleDown(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.left = nn.Sequential(
            ConvBNLayer(channels, channels, 3, 2, groups=channels, act=None),
            ConvBNLayer(channels, half, 1),
        )
        self.right = nn.Sequential(
            ConvBNLayer(channels, half, 1),
            ConvBNLayer(half, half, 3, 2, groups=half, act=None),
            ConvBNLayer(half, half, 1),
        )

    def forward(self, x: Any) -> Any:
        return _shuffle(paddle.concat([self.left(x), self.right(x)], axis=1))


class ShuffleNetV2(nn.Layer):
    """Split, shuffle, concatenate; with `small` the stem keeps 32×32 and has no pooling."""

    def __init__(
        self,
        widths: Sequence[int] = (16, 24, 32),
        depths: Sequence[int] = (2, 3, 2),
        *,
        stem: str = "large",
        classes: int = 10,
    ) -> None:
        super().__init__()
        small = stem == "small"
        self.conv1 = ConvBNLayer(3, 8, 1 if small else 3, 1 if small else 2)
        self.max_pool = None if small else nn.MaxPool2D(3, 2, 1)
        stages: list[nn.Layer] = []
        for before, width, depth in zip([8, *widths[:-1]], widths, depths, strict=True):
            rest = [_ShuffleUnit(width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(_ShuffleDown(before, width), *rest))
        self.stages = nn.LayerList(stages)
        self.last_conv = ConvBNLayer(widths[-1], 48, 1)
        self.fc = nn.Linear(48, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        if self.max_pool is not None:
            x = self.max_pool(x)
        for stage in self.stages:
            x = stage(x)
        x = functional.adaptive_avg_pool2d(self.last_conv(x), 1)
        return self.fc(paddle.flatten(x, 1))
