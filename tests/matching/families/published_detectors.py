"""Detectors with concatenating necks: PicoDet and PP-YOLOE."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer, SEModule

__all__ = ["PPYOLOE", "PicoDet"]


class _EnhancedUnit(nn.Layer):
    """ESNet's unit: half of the channels pass through ghost features, a gate and 1×1; shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.pw = ConvBNLayer(half, half // 2, 1, act="hardswish")
        self.dw = ConvBNLayer(half // 2, half // 2, 3, groups=half // 2, act=None)
        self.se = SEModule(half, 4)
        self.linear = ConvBNLayer(half, half, 1, act="hardswish")

    def forward(self, x: Any) -> Any:
        kept, y = paddle.split(x, 2, axis=1)
        y = self.pw(y)
        y = self.linear(self.se(paddle.concat([y, self.dw(y)], axis=1)))
        return functional.channel_shuffle(paddle.concat([kept, y], axis=1), 2)


class _EnhancedDown(nn.Layer):
    """ESNet's unit of stride 2: two branches, joined and mixed by a separable convolution."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.dw_1 = ConvBNLayer(channels, channels, 3, 2, groups=channels, act=None)
        self.linear_1 = ConvBNLayer(channels, half, 1, act="hardswish")
        self.pw_2 = ConvBNLayer(channels, half, 1, act="hardswish")
        self.dw_2 = ConvBNLayer(half, half, 3, 2, groups=half, act=None)
        self.se, self.linear_2 = SEModule(half, 4), ConvBNLayer(half, half, 1, act="hardswish")
        self.dw_mv1 = ConvBNLayer(width, width, 3, groups=width, act="hardswish")
        self.pw_mv1 = ConvBNLayer(width, width, 1, act="hardswish")

    def forward(self, x: Any) -> Any:
        left = self.linear_1(self.dw_1(x))
        right = self.linear_2(self.se(self.dw_2(self.pw_2(x))))
        return self.pw_mv1(self.dw_mv1(paddle.concat([left, right], axis=1)))


class _ESNet(nn.Layer):
    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.conv1, self.pool = (
            ConvBNLayer(3, widths[0], 3, 2, act="hardswish"),
            nn.MaxPool2D(3, 2, 1),
        )
        self.stages = nn.LayerList(
            [
                nn.Sequential(_EnhancedDown(a, b), *[_EnhancedUnit(b) for _ in range(depth)])
                for (a, b), depth in zip(pairwise(widths), depths, strict=True)
            ]
        )

    def forward(self, x: Any) -> Any:
        x = self.pool(self.conv1(x))
        outs: list[Any] = []
        for stage in self.stages:
            x = stage(x)
            outs.append(x)
        return outs


class _DPModule(nn.Layer):
    """Depthwise 5×5 and 1×1."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.dwconv = ConvBNLayer(channels, channels, 5, stride, groups=channels, act="hardswish")
        self.pwconv = ConvBNLayer(channels, width, 1, act="hardswish")

    def forward(self, x: Any) -> Any:
        return self.pwconv(self.dwconv(x))


class _CSPMix(nn.Layer):
    """Two 1×1 convolutions, a light block on one, both joined and mixed."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.main_conv = ConvBNLayer(channels, half, 1, act="hardswish")
        self.short_conv = ConvBNLayer(channels, half, 1, act="hardswish")
        self.block = nn.Sequential(
            ConvBNLayer(half, half, 1, act="hardswish"), _DPModule(half, half)
        )
        self.final_conv = ConvBNLayer(width, width, 1, act="hardswish")

    def forward(self, x: Any) -> Any:
        y = self.block(self.main_conv(x))
        return self.final_conv(paddle.concat([y, self.short_conv(x)], axis=1))


class _CSPPAN(nn.Layer):
    """All levels to one width, top down and bottom up by concatenation, one level more at 1/64."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.conv_t = nn.LayerList([ConvBNLayer(c, width, 1, act="hardswish") for c in channels])
        self.top_down_blocks = nn.LayerList([_CSPMix(2 * width, width) for _ in range(2)])
        self.downsamples = nn.LayerList([_DPModule(width, width, 2) for _ in range(2)])
        self.bottom_up_blocks = nn.LayerList([_CSPMix(2 * width, width) for _ in range(2)])
        self.first_top_conv = _DPModule(width, width, 2)
        self.second_top_conv = _DPModule(width, width, 2)

    def forward(self, feats: Any) -> Any:
        c3, c4, c5 = (conv(feat) for conv, feat in zip(self.conv_t, feats))
        p4 = self.top_down_blocks[0](paddle.concat([_enlarged(c5), c4], axis=1))
        p3 = self.top_down_blocks[1](paddle.concat([_enlarged(p4), c3], axis=1))
        n4 = self.bottom_up_blocks[0](paddle.concat([self.downsamples[0](p3), p4], axis=1))
        n5 = self.bottom_up_blocks[1](paddle.concat([self.downsamples[1](n4), c5], axis=1))
        return [p3, n4, n5, self.first_top_conv(c5) + self.second_top_conv(n5)]


def _enlarged(x: Any) -> Any:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


class PicoDet(nn.Layer):
    """ESNet, CSP-PAN, and a head whose one tower a level feeds scores and box distributions."""

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], *, width: int, convs: int
    ) -> None:
        super().__init__()
        self.backbone = _ESNet(widths, depths)
        self.neck = _CSPPAN(widths[1:], width)
        self.towers = nn.LayerList(
            [nn.Sequential(*[_DPModule(width, width) for _ in range(convs)]) for _ in range(4)]
        )
        self.gfl_cls = nn.LayerList([nn.Conv2D(width, 5, 1) for _ in range(4)])
        self.gfl_reg = nn.LayerList([nn.Conv2D(width, 32, 1) for _ in range(4)])

    def forward(self, image: Any) -> Any:
        outs: list[Any] = []
        for level, feat in enumerate(self.neck(self.backbone(image))):
            x = self.towers[level](feat)
            outs += [self.gfl_cls[level](x), self.gfl_reg[level](x)]
        return outs


class _Effective(nn.Layer):
    """A gate of one convolution on the pooled map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2D(channels, channels, 1)

    def forward(self, x: Any) -> Any:
        return x * functional.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class _RepBlock(nn.Layer):
    """3×3, then the sum of 3×3 and 1×1; a shortcut in the backbone."""

    def __init__(self, width: int, *, shortcut: str) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(width, width, 3, act="swish")
        self.conv2_1, self.conv2_2 = (ConvBNLayer(width, width, k, act=None) for k in (3, 1))
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        y = self.conv1(x)
        y = functional.swish(self.conv2_1(y) + self.conv2_2(y))
        return x + y if self.shortcut else y


class _CSPResStage(nn.Layer):
    def __init__(
        self, channels: int, width: int, depth: int, *, stride: int, shortcut: str
    ) -> None:
        super().__init__()
        half = width // 2
        self.conv_down = ConvBNLayer(channels, width, 3, 2, act="swish") if stride == 2 else None
        before = width if stride == 2 else channels
        self.conv1 = ConvBNLayer(before, half, 1, act="swish")
        self.conv2 = ConvBNLayer(before, half, 1, act="swish")
        self.blocks = nn.Sequential(*[_RepBlock(half, shortcut=shortcut) for _ in range(depth)])
        self.attn = _Effective(width) if shortcut else None
        self.conv3 = ConvBNLayer(width, width, 1, act="swish")

    def forward(self, x: Any) -> Any:
        x = x if self.conv_down is None else self.conv_down(x)
        y = paddle.concat([self.conv1(x), self.blocks(self.conv2(x))], axis=1)
        return self.conv3(y if self.attn is None else self.attn(y))


class _TaskHead(nn.Layer):
    """For each level, scores (with the level itself added) and box distributions, both gated."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.fcs = nn.LayerList([nn.Conv2D(w, w, 1) for w in widths for _ in range(2)])
        self.stem_cls = nn.LayerList([ConvBNLayer(w, w, 1, act="swish") for w in widths])
        self.stem_reg = nn.LayerList([ConvBNLayer(w, w, 1, act="swish") for w in widths])
        self.pred_cls = nn.LayerList([nn.Conv2D(w, 5, 3, padding=1) for w in widths])
        self.pred_reg = nn.LayerList([nn.Conv2D(w, 36, 3, padding=1) for w in widths])

    def forward(self, feats: Any) -> Any:
        outs: list[Any] = []
        for level, feat in enumerate(feats):
            pooled = functional.adaptive_avg_pool2d(feat, 1)
            gates = [functional.sigmoid(self.fcs[2 * level + task](pooled)) for task in (0, 1)]
            outs.append(self.pred_cls[level](self.stem_cls[level](feat * gates[0]) + feat))
            outs.append(self.pred_reg[level](self.stem_reg[level](feat * gates[1])))
        return outs


class PPYOLOE(nn.Layer):
    """PP-YOLOE: CSPRepResNet, CustomCSPPAN, ET-head; the smallest level comes first."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], *, neck_depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNLayer(3, widths[0] // 2, 3, 2, act="swish"),
            ConvBNLayer(widths[0] // 2, widths[0], 3, act="swish"),
        )
        self.stages = nn.LayerList(
            [
                _CSPResStage(a, b, depth, stride=2, shortcut="shortcut")
                for (a, b), depth in zip(pairwise(widths), depths, strict=True)
            ]
        )
        c3, c4, c5 = widths[2:]
        self.fpn_stages = nn.LayerList(
            [
                self._mixed(a, b, neck_depth)
                for a, b in ((c5, c5), (c4 + c5 // 2, c4), (c3 + c4 // 2, c3))
            ]
        )
        self.fpn_routes = nn.LayerList([ConvBNLayer(c, c // 2, 1, act="swish") for c in (c5, c4)])
        self.pan_routes = nn.LayerList([ConvBNLayer(c, c, 3, 2, act="swish") for c in (c3, c4)])
        self.pan_stages = nn.LayerList(
            [self._mixed(a, b, neck_depth) for a, b in ((c3 + c4, c4), (c4 + c5, c5))]
        )
        self.head = _TaskHead((c5, c4, c3))

    @staticmethod
    def _mixed(channels: int, width: int, depth: int) -> nn.Layer:
        return _CSPResStage(channels, width, depth, stride=1, shortcut="")

    def forward(self, image: Any) -> Any:
        x = self.stem(image)
        feats: list[Any] = []
        for stage in self.stages:
            x = stage(x)
            feats.append(x)
        _, c3, c4, c5 = feats
        p5 = self.fpn_stages[0](c5)
        p4 = self.fpn_stages[1](paddle.concat([_enlarged(self.fpn_routes[0](p5)), c4], axis=1))
        p3 = self.fpn_stages[2](paddle.concat([_enlarged(self.fpn_routes[1](p4)), c3], axis=1))
        n4 = self.pan_stages[0](paddle.concat([self.pan_routes[0](p3), p4], axis=1))
        n5 = self.pan_stages[1](paddle.concat([self.pan_routes[1](n4), p5], axis=1))
        return self.head([n5, n4, p3])
