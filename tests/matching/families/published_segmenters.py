"""Segmentation by two paths or by tokens: SegFormer, BiSeNetV2; text detection by DBNet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer, SEModule
from tests.matching.families.published_patches import ReducedBlock

__all__ = ["BiSeNetV2", "DBNet", "SegFormer"]


def _resized(x: Any, like: Any) -> Any:
    return functional.interpolate(x, size=paddle.shape(like)[2:], mode="bilinear")


class _MiTStage(nn.Layer):
    """Overlapping patches, blocks with reduced attention and mixing MLPs, a norm; a map again."""

    def __init__(self, channels: int, dim: int, depth: int, side: int, reduction: int) -> None:
        super().__init__()
        kernel, stride = (7, 4) if channels == 3 else (3, 2)
        self.side = side
        self.proj = nn.Conv2D(channels, dim, kernel, stride, kernel // 2)
        self.patch_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.blocks = nn.LayerList(
            [ReducedBlock(dim, side, reduction, mixes="mixes") for _ in range(depth)]
        )

    def forward(self, x: Any) -> Any:
        x = self.patch_norm(self.proj(x).flatten(2).transpose([0, 2, 1]))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x.reshape([-1, self.side, self.side, x.shape[2]]).transpose([0, 3, 1, 2])


class SegFormer(nn.Layer):
    """MixVisionTransformer and the decoder of linear maps, as PaddleSeg has it."""

    def __init__(
        self, dims: Sequence[int], depths: Sequence[int], *, embed: int, side: int = 64
    ) -> None:
        super().__init__()
        self.stages = nn.LayerList(
            [
                _MiTStage(a, b, depths[index], side // 4 // 2**index, 8 // 2**index)
                for index, (a, b) in enumerate(pairwise((3, *dims)))
            ]
        )
        self.linears = nn.LayerList([nn.Linear(dim, embed) for dim in dims])
        self.linear_fuse = ConvBNLayer(4 * embed, embed, 1)
        self.dropout = nn.Dropout2D(0.1)
        self.linear_pred = nn.Conv2D(embed, 5, 1)

    def forward(self, image: Any) -> Any:
        x = image
        feats: list[Any] = []
        for stage in self.stages:
            x = stage(x)
            feats.append(x)
        maps: list[Any] = []
        for linear, feat in zip(self.linears, feats):
            _, _, height, width = feat.shape
            y = linear(feat.flatten(2).transpose([0, 2, 1])).transpose([0, 2, 1])
            y = y.reshape([0, -1, height, width])
            maps.append(_resized(y, feats[0]))
        x = self.linear_fuse(paddle.concat(maps[::-1], axis=1))
        return _resized(self.linear_pred(self.dropout(x)), image)


class _Stem(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvBNLayer(3, width, 3, 2)
        self.left = nn.Sequential(
            ConvBNLayer(width, width // 2, 1), ConvBNLayer(width // 2, width, 3, 2)
        )
        self.right = nn.MaxPool2D(3, 2, 1)
        self.fuse = ConvBNLayer(2 * width, width, 3)

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        return self.fuse(paddle.concat([self.left(x), self.right(x)], axis=1))


class _GatherExpand(nn.Layer):
    """3×3, depthwise expansion (two of them where it shrinks), 1×1; shortcut, sum, ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.conv = ConvBNLayer(channels, channels, 3)
        self.expand = nn.Sequential(
            ConvBNLayer(channels, inner, 3, stride, groups=channels, act=None),
            *([ConvBNLayer(inner, inner, 3, groups=inner, act=None)] if stride == 2 else []),
        )
        self.project = ConvBNLayer(inner, width, 1, act=None)
        self.short = None
        if stride == 2:
            self.short = nn.Sequential(
                ConvBNLayer(channels, channels, 3, 2, groups=channels, act=None),
                ConvBNLayer(channels, width, 1, act=None),
            )

    def forward(self, x: Any) -> Any:
        y = self.project(self.expand(self.conv(x)))
        return functional.relu(y + (x if self.short is None else self.short(x)))


class _ContextEmbedding(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gap, self.bn = nn.AdaptiveAvgPool2D(1), nn.BatchNorm2D(width)
        self.conv_1x1, self.conv_3x3 = (
            ConvBNLayer(width, width, 1),
            nn.Conv2D(width, width, 3, 1, 1),
        )

    def forward(self, x: Any) -> Any:
        return self.conv_3x3(self.conv_1x1(self.bn(self.gap(x))) + x)


class _Aggregation(nn.Layer):
    """Detail and semantics, each gated by the other, at 1/8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.detail_keep = self._separable(width)
        self.detail_down = nn.Sequential(
            ConvBNLayer(width, width, 3, 2, act=None), nn.AvgPool2D(3, 2, 1)
        )
        self.semantic_up = ConvBNLayer(width, width, 3, act=None)
        self.semantic_keep = self._separable(width)
        self.conv = ConvBNLayer(width, width, 3, act=None)

    @staticmethod
    def _separable(width: int) -> nn.Layer:
        depthwise = ConvBNLayer(width, width, 3, groups=width, act=None)
        return nn.Sequential(depthwise, nn.Conv2D(width, width, 1))

    def forward(self, detail: Any, semantic: Any) -> Any:
        gate = functional.sigmoid(_resized(self.semantic_up(semantic), detail))
        left = self.detail_keep(detail) * gate
        right = self.detail_down(detail) * functional.sigmoid(self.semantic_keep(semantic))
        return self.conv(left + _resized(right, left))


class _SegHead(nn.Layer):
    def __init__(self, channels: int, inner: int, classes: int = 5) -> None:
        super().__init__()
        self.conv, self.dropout = ConvBNLayer(channels, inner, 3), nn.Dropout(0.1)
        self.cls = nn.Conv2D(inner, classes, 1)

    def forward(self, x: Any) -> Any:
        return self.cls(self.dropout(self.conv(x)))


class BiSeNetV2(nn.Layer):
    """Detail and semantic branch; four heads more on the semantic one while it trains."""

    def __init__(self, detail: Sequence[int], semantic: Sequence[int]) -> None:
        super().__init__()
        last = detail[-1]
        self.db = nn.LayerList(
            [
                nn.Sequential(ConvBNLayer(a, b, 3, 2), ConvBNLayer(b, b, 3))
                for a, b in pairwise((3, *detail))
            ]
        )
        stages: list[nn.Layer] = [_Stem(semantic[0])]
        for index, (a, b) in enumerate(pairwise(semantic)):
            repeats = [_GatherExpand(b, b, 1) for _ in range(3 if index == 2 else 1)]
            stages.append(nn.Sequential(_GatherExpand(a, b, 2), *repeats))
        self.sb = nn.LayerList(stages)
        self.ce = _ContextEmbedding(semantic[-1])
        self.bga = _Aggregation(last)
        self.head = _SegHead(last, 2 * last)
        self.aux_heads = nn.LayerList([_SegHead(width, width) for width in semantic])

    def forward(self, image: Any) -> Any:
        detail = image
        for stage in self.db:
            detail = stage(detail)
        x = image
        feats: list[Any] = []
        for stage in self.sb:
            x = stage(x)
            feats.append(x)
        logits = [self.head(self.bga(detail, self.ce(x)))]
        if self.training:
            logits += [head(feat) for head, feat in zip(self.aux_heads, feats)]
        return [_resized(logit, image) for logit in logits]


class _DetResidual(nn.Layer):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv0 = ConvBNLayer(channels, width, 3, stride)
        self.conv1 = ConvBNLayer(width, width, 3, act=None)
        self.short = ConvBNLayer(channels, width, 1, stride, act=None)

    def forward(self, x: Any) -> Any:
        return functional.relu(self.conv1(self.conv0(x)) + self.short(x))


class _DetInverted(nn.Layer):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        inner = 3 * channels
        self.expand = ConvBNLayer(channels, inner, 1, act="hardswish")
        self.dw = ConvBNLayer(inner, inner, 5, stride, groups=inner, act="hardswish")
        self.se, self.project = SEModule(inner, 4), ConvBNLayer(inner, width, 1, act=None)
        self.residual = stride == 1 and channels == width

    def forward(self, x: Any) -> Any:
        y = self.project(self.se(self.dw(self.expand(x))))
        return x + y if self.residual else y


class _DBFPN(nn.Layer):
    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.ins = nn.LayerList([nn.Conv2D(c, width, 1, bias_attr=False) for c in channels])
        self.ps = nn.LayerList(
            [nn.Conv2D(width, width // 4, 3, padding=1, bias_attr=False) for _ in channels]
        )

    def forward(self, feats: Any) -> Any:
        maps = [conv(feat) for conv, feat in zip(self.ins, feats)]
        for level in (2, 1, 0):
            maps[level] = maps[level] + functional.interpolate(maps[level + 1], scale_factor=2)
        outs = [conv(feat) for conv, feat in zip(self.ps, maps)]
        outs = [
            functional.interpolate(out, scale_factor=2**level) if level else out
            for level, out in enumerate(outs)
        ]
        return paddle.concat(outs[::-1], axis=1)


class _DBMap(nn.Layer):
    """3×3 and two transposed convolutions to the size of the image; a sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.conv1 = ConvBNLayer(channels, inner, 3)
        self.conv2, self.bn = nn.Conv2DTranspose(inner, inner, 2, 2), nn.BatchNorm2D(inner)
        self.conv3 = nn.Conv2DTranspose(inner, 1, 2, 2)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.bn(self.conv2(self.conv1(x))))
        return functional.sigmoid(self.conv3(x))


class DBNet(nn.Layer):
    """Residual or inverted residual stages, FPN, maps of shrunk text, threshold, and both."""

    def __init__(self, block: str, widths: Sequence[int], depth: int, *, inner: int) -> None:
        super().__init__()
        made = _DetResidual if block == "residual" else _DetInverted
        self.stem = ConvBNLayer(3, widths[0], 3, 2)
        self.stages = nn.LayerList()
        for before, width in pairwise((widths[0], *widths)):
            rest = [made(width, width, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(made(before, width, 2), *rest))
        self.neck = _DBFPN(widths, inner)
        self.binarize, self.thresh = _DBMap(inner), _DBMap(inner)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        feats: list[Any] = []
        for stage in self.stages:
            x = stage(x)
            feats.append(x)
        fused = self.neck(feats)
        shrink, threshold = self.binarize(fused), self.thresh(fused)
        binary = functional.sigmoid(50.0 * (shrink - threshold))
        return paddle.concat([shrink, threshold, binary], axis=1)
