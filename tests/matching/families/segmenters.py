"""Segmentation: U-Net, and DeepLab with atrous pyramid pooling and an auxiliary head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer
from tests.matching.families.mobile import InvertedResidual
from tests.matching.families.residual import BottleneckBlock

__all__ = ["DeepLab", "DilatedMobileNet", "DilatedResNet", "UNet"]


class _Encoder(nn.Layer):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            ConvBNLayer(3, widths[0]), ConvBNLayer(widths[0], widths[0])
        )
        self.down_sample_list = nn.LayerList(
            [
                nn.Sequential(
                    nn.MaxPool2D(2, 2), ConvBNLayer(before, after), ConvBNLayer(after, after)
                )
                for before, after in pairwise(widths)
            ]
        )

    def forward(self, x: Any) -> Any:
        x = self.double_conv(x)
        shortcuts: list[Any] = []
        for down in self.down_sample_list:
            shortcuts.append(x)
            x = down(x)
        return x, shortcuts


class _UpSampling(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.deconv = nn.Conv2DTranspose(channels, width, 2, stride=2)
        self.double_conv = nn.Sequential(ConvBNLayer(2 * width, width), ConvBNLayer(width, width))

    def forward(self, x: Any, shortcut: Any) -> Any:
        return self.double_conv(paddle.concat([self.deconv(x), shortcut], axis=1))


class UNet(nn.Layer):
    """An encoder of five resolutions, a decoder back to full size, class scores per pixel."""

    def __init__(self, widths: Sequence[int], classes: int = 6) -> None:
        super().__init__()
        self.encode = _Encoder(widths)
        pairs = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up_sample_list = nn.LayerList([_UpSampling(deep, fine) for deep, fine in pairs])
        self.cls = nn.Conv2D(widths[0], classes, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x, shortcuts = self.encode(x)
        for up, shortcut in zip(self.up_sample_list, shortcuts[::-1]):
            x = up(x, shortcut)
        return [self.cls(x)]


class DilatedResNet(nn.Layer):
    """A ResNet whose last stage is dilated instead of strided: the map stays at 1/16."""

    def __init__(self, width: int = 4, depths: Sequence[int] = (1, 2, 3, 2)) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, width, 3, 2)
        self.stage_list = nn.LayerList()
        channels = width
        for stage, depth in enumerate(depths):
            blocks: list[nn.Layer] = []
            for index in range(depth):
                stride = 2 if index == 0 and stage in (1, 2) else 1
                dilation = 2 if stage == 3 else 1
                blocks.append(BottleneckBlock(channels, width * 2**stage, stride, dilation))
                channels = 4 * width * 2**stage
            self.stage_list.append(nn.Sequential(*blocks))
        self.feat_channels = [4 * width * 2**stage for stage in range(4)]

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(self.conv1(x), 3, 2, 1)
        feats: list[Any] = []
        for stage in self.stage_list:
            x = stage(x)
            feats.append(x)
        return feats


class DilatedMobileNet(nn.Layer):
    """Inverted residual blocks down to 1/16; two groups there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, 8, 3, 2, act="relu6")
        self.groups = nn.LayerList(
            [
                nn.Sequential(InvertedResidual(8, 8, 2), InvertedResidual(8, 8, 1)),
                nn.Sequential(InvertedResidual(8, 12, 2), InvertedResidual(12, 12, 1)),
                nn.Sequential(InvertedResidual(12, 16, 2), InvertedResidual(16, 16, 1)),
                nn.Sequential(InvertedResidual(16, 24, 1), InvertedResidual(24, 24, 1)),
            ]
        )
        self.feat_channels = [8, 12, 16, 24]

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        feats: list[Any] = []
        for group in self.groups:
            x = group(x)
            feats.append(x)
        return feats


class _ASPP(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.LayerList(
            [
                ConvBNLayer(channels, width, 1),
                ConvBNLayer(channels, width, 3, dilation=6),
                ConvBNLayer(channels, width, 3, dilation=12),
            ]
        )
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2D(1), ConvBNLayer(channels, width, 1)
        )
        self.conv_bn_relu = ConvBNLayer(4 * width, width, 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        size = paddle.shape(x)[2:]
        outs = [block(x) for block in self.blocks]
        pooled = functional.interpolate(
            self.global_avg_pool(x), size, mode="bilinear", align_corners=False
        )
        return self.dropout(self.conv_bn_relu(paddle.concat([*outs, pooled], axis=1)))


class _Decoder(nn.Layer):
    def __init__(self, low_channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv_bn_relu1 = ConvBNLayer(low_channels, 8, 1)
        self.conv_bn_relu2 = ConvBNLayer(width + 8, width)
        self.conv_bn_relu3 = ConvBNLayer(width, width)
        self.conv = nn.Conv2D(width, classes, 1)

    def forward(self, x: Any, low: Any) -> Any:
        low = self.conv_bn_relu1(low)
        size = paddle.shape(low)[2:]
        x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
        x = paddle.concat([x, low], axis=1)
        return self.conv(self.conv_bn_relu3(self.conv_bn_relu2(x)))


class DeepLab(nn.Layer):
    """Backbone, ASPP, decoder; with `aux` a convolutional head on the last stage but one."""

    def __init__(
        self, backbone: nn.Layer, *, width: int, classes: int = 6, aux: str = "none"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        channels: Any = backbone.feat_channels
        self.aspp = _ASPP(channels[3], width)
        self.decoder = _Decoder(channels[0], width, classes)
        self.aux_head = (
            nn.Sequential(ConvBNLayer(channels[2], 8), nn.Dropout(0.1), nn.Conv2D(8, classes, 1))
            if aux == "fcn"
            else None
        )

    def forward(self, x: Any) -> Any:
        feats = self.backbone(x)
        logits = [self.decoder(self.aspp(feats[3]), feats[0])]
        if self.aux_head is not None:
            logits.append(self.aux_head(feats[2]))
        size = paddle.shape(x)[2:]
        return [
            functional.interpolate(logit, size, mode="bilinear", align_corners=False)
            for logit in logits
        ]
