"""Classifiers without sums: VGG, DenseNet, Inception with auxiliary heads, SqueezeNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer

__all__ = ["VGG", "CoarseNet", "DenseNet", "GoogLeNet", "SqueezeNet"]


class VGG(nn.Layer):
    """Convolutions and ReLU in one Sequential, pooling between stages, two hidden linear layers."""

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], *, side: int, classes: int = 10
    ) -> None:
        super().__init__()
        layers: list[nn.Layer] = []
        channels = 3
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                layers += [nn.Conv2D(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2D(2, 2))
        self.features = nn.Sequential(*layers)
        places = (side // 2 ** len(widths)) ** 2
        self.classifier = nn.Sequential(
            nn.Linear(channels * places, 64),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(64, classes),
        )

    def forward(self, x: Any) -> Any:
        return self.classifier(paddle.flatten(self.features(x), 1))


class CoarseNet(nn.Layer):
    """Plain convolutions with BN; each stage says how much it shrinks the map at its start."""

    def __init__(
        self, stages: Sequence[tuple[int, int, int]], *, stem_stride: int = 2, classes: int = 10
    ) -> None:
        super().__init__()
        self.stem = ConvBNLayer(3, 8, 3, stem_stride)
        channels = 8
        self.body = nn.LayerList()
        for width, depth, shrink in stages:
            first = ConvBNLayer(channels, width, max(3, shrink + 1), shrink)
            rest = [ConvBNLayer(width, width, 3) for _ in range(depth - 1)]
            self.body.append(nn.Sequential(first, *rest))
            channels = width
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for stage in self.body:
            x = stage(x)
        return self.head(x.mean([2, 3]))


class _DenseLayer(nn.Layer):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2D(channels), nn.BatchNorm2D(4 * growth)
        self.conv1 = nn.Conv2D(channels, 4 * growth, 1, bias_attr=False)
        self.conv2 = nn.Conv2D(4 * growth, growth, 3, padding=1, bias_attr=False)

    def forward(self, x: Any) -> Any:
        y = self.conv1(functional.relu(self.bn1(x)))
        y = self.conv2(functional.relu(self.bn2(y)))
        return paddle.concat([x, y], axis=1)


class _Transition(nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2D(channels)
        self.conv = nn.Conv2D(channels, channels // 2, 1, bias_attr=False)
        self.pool = nn.AvgPool2D(2, 2)

    def forward(self, x: Any) -> Any:
        return self.pool(self.conv(functional.relu(self.bn(x))))


class DenseNet(nn.Layer):
    """Dense blocks with transitions between them, BN and ReLU behind the last."""

    def __init__(self, depths: Sequence[int], growth: int = 4, classes: int = 10) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = ConvBNLayer(3, channels, 7, 2)
        self.pool1 = nn.MaxPool2D(3, 2, 1)
        self.dense_blocks, self.transitions = nn.LayerList(), nn.LayerList()
        for index, depth in enumerate(depths):
            layers = [_DenseLayer(channels + growth * place, growth) for place in range(depth)]
            self.dense_blocks.append(nn.Sequential(*layers))
            channels += growth * depth
            if index < len(depths) - 1:
                self.transitions.append(_Transition(channels))
                channels //= 2
        self.batch_norm = nn.BatchNorm2D(channels)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        x = self.pool1(self.conv1(x))
        for index, block in enumerate(self.dense_blocks):
            x = block(x)
            if index < len(self.transitions):
                x = self.transitions[index](x)
        x = functional.relu(self.batch_norm(x))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class _Inception(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.one = ConvBNLayer(channels, width, 1)
        self.three = nn.Sequential(
            ConvBNLayer(channels, width // 2, 1), ConvBNLayer(width // 2, 2 * width, 3)
        )
        self.five = nn.Sequential(
            ConvBNLayer(channels, width // 4, 1), ConvBNLayer(width // 4, width // 2, 5)
        )
        self.pool = nn.Sequential(nn.MaxPool2D(3, 1, 1), ConvBNLayer(channels, width // 2, 1))

    def forward(self, x: Any) -> Any:
        return paddle.concat([self.one(x), self.three(x), self.five(x), self.pool(x)], axis=1)


class GoogLeNet(nn.Layer):
    """Inception blocks; two auxiliary classifiers hang on the middle stage."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        w = width
        self.conv = ConvBNLayer(3, w, 7, 2)
        self.conv_1 = ConvBNLayer(w, w, 1)
        self.conv_2 = ConvBNLayer(w, 3 * w, 3)
        self.ince3a, self.ince3b = _Inception(3 * w, w), _Inception(4 * w, 2 * w)
        self.ince4a, self.ince4b = _Inception(8 * w, 2 * w), _Inception(8 * w, 2 * w)
        self.ince4c = _Inception(8 * w, 2 * w)
        self.ince5a, self.ince5b = _Inception(8 * w, 2 * w), _Inception(8 * w, 3 * w)
        self.drop = nn.Dropout(p=0.4, mode="downscale_in_infer")
        self.fc_out = nn.Linear(12 * w, classes)
        self.aux1, self.aux2 = _Auxiliary(8 * w, classes), _Auxiliary(8 * w, classes)

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(self.conv(x), 3, 2, 1)
        x = functional.max_pool2d(self.conv_2(self.conv_1(x)), 3, 2, 1)
        x = functional.max_pool2d(self.ince3b(self.ince3a(x)), 3, 2, 1)
        early = self.ince4a(x)
        late = self.ince4c(self.ince4b(early))
        x = self.ince5b(self.ince5a(functional.max_pool2d(late, 3, 2, 1)))
        x = self.drop(functional.adaptive_avg_pool2d(x, 1)).squeeze([2, 3])
        return self.fc_out(x), self.aux1(early), self.aux2(late)


class _Auxiliary(nn.Layer):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvBNLayer(channels, 16, 1)
        self.fc = nn.Linear(16, 24)
        self.out = nn.Linear(24, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv(functional.adaptive_avg_pool2d(x, 1)).flatten(1)
        return self.out(functional.relu(self.fc(x)))


class _Fire(nn.Layer):
    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self._conv = nn.Conv2D(channels, squeeze, 1)
        self._path1 = nn.Conv2D(squeeze, expand, 1)
        self._path2 = nn.Conv2D(squeeze, expand, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self._conv(x))
        return paddle.concat(
            [functional.relu(self._path1(x)), functional.relu(self._path2(x))], axis=1
        )


class SqueezeNet(nn.Layer):
    """Fire modules; the classifier is a 1×1 convolution before the pooling."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self._conv = nn.Conv2D(3, 16, 3, stride=2, padding=1)
        self._fire1, self._fire2 = _Fire(16, 4, 8), _Fire(16, 4, 8)
        self._fire3, self._fire4 = _Fire(16, 6, 16), _Fire(32, 6, 16)
        self._fire5, self._fire6 = _Fire(32, 8, 24), _Fire(48, 8, 24)
        self._fire7 = _Fire(48, 8, 32)
        self._drop = nn.Dropout(p=0.5, mode="downscale_in_infer")
        self._conv9 = nn.Conv2D(64, classes, 1)
        self._avg_pool = nn.AdaptiveAvgPool2D(1)

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(functional.relu(self._conv(x)), 3, 2, 1)
        x = functional.max_pool2d(self._fire2(self._fire1(x)), 3, 2, 1)
        x = functional.max_pool2d(self._fire4(self._fire3(x)), 3, 2, 1)
        x = self._drop(self._fire7(self._fire6(self._fire5(x))))
        x = self._avg_pool(functional.relu(self._conv9(x)))
        return paddle.squeeze(x, axis=[2, 3])
