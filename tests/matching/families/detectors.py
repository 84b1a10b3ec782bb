"""Detectors: FPN with an anchor-free head that the levels share, PAN with one YOLO head a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer
from tests.matching.families.mobile import InvertedResidual
from tests.matching.families.residual import BasicBlock, BottleneckBlock

__all__ = [
    "FCOS",
    "YOLO",
    "CSPDarkNet",
    "MobileBackbone",
    "basic_backbone",
    "bottleneck_backbone",
]


class _ResNetBackbone(nn.Layer):
    """C3, C4 and C5 of a ResNet."""

    def __init__(self, block: Any, depths: Sequence[int], width: int) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, width, 7, 2)
        channels = width
        stages: list[nn.Layer] = []
        for stage, depth in enumerate(depths):
            blocks: list[nn.Layer] = []
            for index in range(depth):
                stride = 2 if index == 0 and stage > 0 else 1
                blocks.append(block(channels, width * 2**stage, stride))
                channels = block.expansion * width * 2**stage
            stages.append(nn.Sequential(*blocks))
        self.res_layers = nn.LayerList(stages)
        self.out_channels = [block.expansion * width * 2**stage for stage in (1, 2, 3)]

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(self.conv1(x), 3, 2, 1)
        outs: list[Any] = []
        for stage in self.res_layers:
            x = stage(x)
            outs.append(x)
        return outs[1:]


def bottleneck_backbone() -> nn.Layer:
    """Return a backbone of bottleneck blocks with 16, 32, 64 and 128 channels."""
    return _ResNetBackbone(BottleneckBlock, (1, 2, 3, 2), 4)


def basic_backbone() -> nn.Layer:
    """Return a backbone of basic blocks with 8, 16, 32 and 64 channels."""
    return _ResNetBackbone(BasicBlock, (1, 1, 1, 1), 8)


class MobileBackbone(nn.Layer):
    """Inverted residual blocks; the maps at 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, 8, 3, 2, act="relu6")
        self.layers = nn.LayerList(
            [
                nn.Sequential(InvertedResidual(8, 8, 2), InvertedResidual(8, 8, 1)),
                nn.Sequential(InvertedResidual(8, 12, 2), InvertedResidual(12, 12, 1)),
                nn.Sequential(InvertedResidual(12, 16, 2), InvertedResidual(16, 16, 1)),
                nn.Sequential(InvertedResidual(16, 24, 2), InvertedResidual(24, 24, 1)),
            ]
        )
        self.out_channels = [12, 16, 24]

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        outs: list[Any] = []
        for layer in self.layers:
            x = layer(x)
            outs.append(x)
        return outs[1:]


class _CSPLayer(nn.Layer):
    def __init__(self, channels: int, width: int, depth: int, *, shortcut: str = "yes") -> None:
        super().__init__()
        half = width // 2
        self.conv1 = ConvBNLayer(channels, half, 1, act="silu")
        self.conv2 = ConvBNLayer(channels, half, 1, act="silu")
        self.bottlenecks = nn.Sequential(
            *[_DarkBlock(half, shortcut=shortcut) for _ in range(depth)]
        )
        self.conv3 = ConvBNLayer(2 * half, width, 1, act="silu")

    def forward(self, x: Any) -> Any:
        deep = self.bottlenecks(self.conv1(x))
        return self.conv3(paddle.concat([deep, self.conv2(x)], axis=1))


class _DarkBlock(nn.Layer):
    def __init__(self, width: int, *, shortcut: str) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(width, width, 1, act="silu")
        self.conv2 = ConvBNLayer(width, width, 3, act="silu")
        self.shortcut = shortcut == "yes"

    def forward(self, x: Any) -> Any:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class _SPP(nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(channels, channels // 2, 1, act="silu")
        self.pools = nn.LayerList([nn.MaxPool2D(size, 1, size // 2) for size in (5, 9, 13)])
        self.conv2 = ConvBNLayer(2 * channels, channels, 1, act="silu")

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        return self.conv2(paddle.concat([x, *[pool(x) for pool in self.pools]], axis=1))


class CSPDarkNet(nn.Layer):
    """Down-sampling convolutions and CSP layers, SPP in the last stage; maps at 1/8, 1/16, 1/32."""

    def __init__(self, width: int = 8, depths: Sequence[int] = (1, 2, 2, 1)) -> None:
        super().__init__()
        self.stem = ConvBNLayer(3, width, 3, 2, act="silu")
        stages: list[nn.Layer] = []
        for index, depth in enumerate(depths):
            before, after = width * 2**index, width * 2 ** (index + 1)
            parts: list[nn.Layer] = [ConvBNLayer(before, after, 3, 2, act="silu")]
            if index == len(depths) - 1:
                parts.append(_SPP(after))
            stages.append(nn.Sequential(*parts, _CSPLayer(after, after, depth)))
        self.csp_dark_blocks = nn.LayerList(stages)
        self.out_channels = [width * 4, width * 8, width * 16]

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        outs: list[Any] = []
        for stage in self.csp_dark_blocks:
            x = stage(x)
            outs.append(x)
        return outs[1:]


class _FPN(nn.Layer):
    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral_convs = nn.LayerList([nn.Conv2D(count, width, 1) for count in channels])
        self.fpn_convs = nn.LayerList([nn.Conv2D(width, width, 3, padding=1) for _ in channels])

    def forward(self, feats: Any) -> Any:
        laterals = [conv(feat) for conv, feat in zip(self.lateral_convs, feats)]
        for level in (2, 1):
            up = functional.interpolate(laterals[level], scale_factor=2.0, mode="nearest")
            laterals[level - 1] = laterals[level - 1] + up
        return [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals)]


class _ScaleReg(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale_reg = self.create_parameter([1])

    def forward(self, x: Any) -> Any:
        return x * self.scale_reg


class _FCOSHead(nn.Layer):
    def __init__(self, width: int, convs: int, classes: int) -> None:
        super().__init__()
        self.cls_tower = nn.Sequential(*[ConvBNLayer(width, width, 3) for _ in range(convs)])
        self.reg_tower = nn.Sequential(*[ConvBNLayer(width, width, 3) for _ in range(convs)])
        self.fcos_head_cls = nn.Conv2D(width, classes, 3, padding=1)
        self.fcos_head_reg = nn.Conv2D(width, 4, 3, padding=1)
        self.scales_on_reg = nn.LayerList([_ScaleReg() for _ in range(3)])

    def forward(self, feats: Any) -> Any:
        scores: list[Any] = []
        boxes: list[Any] = []
        for scale, feat in zip(self.scales_on_reg, feats):
            scores.append(self.fcos_head_cls(self.cls_tower(feat)))
            boxes.append(functional.relu(scale(self.fcos_head_reg(self.reg_tower(feat)))))
        return scores, boxes


class FCOS(nn.Layer):
    """Backbone, FPN, and one head for all levels: classes and four distances at each place.

    There are four classes, so scores and boxes of a level have one shape.
    """

    def __init__(self, backbone: nn.Layer, *, width: int, convs: int) -> None:
        super().__init__()
        self.backbone = backbone
        channels: Any = backbone.out_channels
        self.neck = _FPN(channels, width)
        self.fcos_head = _FCOSHead(width, convs, 4)

    def forward(self, image: Any) -> Any:
        return self.fcos_head(self.neck(self.backbone(image)))


class _PAN(nn.Layer):
    """Down from coarse to fine and back up, a CSP layer at each join."""

    def __init__(self, channels: Sequence[int], depth: int) -> None:
        super().__init__()
        c3, c4, c5 = channels
        self.lateral_convs = nn.LayerList(
            [ConvBNLayer(c5, c4, 1, act="silu"), ConvBNLayer(c4, c3, 1, act="silu")]
        )
        self.fpn_blocks = nn.LayerList(
            [
                _CSPLayer(2 * c4, c4, depth, shortcut="no"),
                _CSPLayer(2 * c3, c3, depth, shortcut="no"),
            ]
        )
        self.downsample_convs = nn.LayerList(
            [ConvBNLayer(c3, c3, 3, 2, act="silu"), ConvBNLayer(c4, c4, 3, 2, act="silu")]
        )
        self.pan_blocks = nn.LayerList(
            [
                _CSPLayer(2 * c3, c4, depth, shortcut="no"),
                _CSPLayer(2 * c4, c5, depth, shortcut="no"),
            ]
        )

    def forward(self, feats: Any) -> Any:
        c3, c4, c5 = feats
        p5 = self.lateral_convs[0](c5)
        up = functional.interpolate(p5, scale_factor=2.0, mode="nearest")
        p4 = self.lateral_convs[1](self.fpn_blocks[0](paddle.concat([up, c4], axis=1)))
        up = functional.interpolate(p4, scale_factor=2.0, mode="nearest")
        n3 = self.fpn_blocks[1](paddle.concat([up, c3], axis=1))
        n4 = self.pan_blocks[0](paddle.concat([self.downsample_convs[0](n3), p4], axis=1))
        n5 = self.pan_blocks[1](paddle.concat([self.downsample_convs[1](n4), p5], axis=1))
        return [n5, n4, n3]


class YOLO(nn.Layer):
    """Backbone, PAN, and a 1×1 convolution a level for 3 anchors × (4 + 1 + 4 classes)."""

    def __init__(self, backbone: nn.Layer, *, depth: int) -> None:
        super().__init__()
        self.backbone = backbone
        channels: Any = backbone.out_channels
        self.neck = _PAN(channels, depth)
        self.yolo_outputs = nn.LayerList([nn.Conv2D(count, 27, 1) for count in channels[::-1]])

    def forward(self, image: Any) -> Any:
        feats = self.neck(self.backbone(image))
        return [conv(feat) for conv, feat in zip(self.yolo_outputs, feats)]
