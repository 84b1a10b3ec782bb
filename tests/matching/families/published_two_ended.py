"""Networks that end in an embedding (ArcFace) or in two readings of a text line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer

__all__ = ["IResNet", "MobileFaceNet", "TwoReadings"]


class _IBasicBlock(nn.Layer):
    """BN, 3×3, BN, PReLU, 3×3, BN; nothing after the sum."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2D(c) for c in (channels, width, width))
        self.conv1 = nn.Conv2D(channels, width, 3, 1, 1, bias_attr=False)
        self.conv2 = nn.Conv2D(width, width, 3, stride, 1, bias_attr=False)
        self.prelu = nn.PReLU(width)
        plain = stride == 1 and channels == width
        self.downsample = None if plain else ConvBNLayer(channels, width, 1, stride, act=None)

    def forward(self, x: Any) -> Any:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Layer):
    """ArcFace's ResNet: four stages from 1/2, a linear map and a BN to a unit vector."""

    def __init__(self, depths: Sequence[int], *, side: int = 64, embed: int = 32) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = (
            nn.Conv2D(3, 8, 3, 1, 1, bias_attr=False),
            nn.BatchNorm2D(8),
            nn.PReLU(8),
        )
        for stage, (a, b) in enumerate(pairwise((8, 8, 16, 24, 32))):
            rest = [_IBasicBlock(b, b, 1) for _ in range(depths[stage] - 1)]
            self.add_sublayer(f"layer{stage + 1}", nn.Sequential(_IBasicBlock(a, b, 2), *rest))
        self.bn2, self.dropout = nn.BatchNorm2D(32), nn.Dropout(0.1)
        self.fc = nn.Linear(32 * (side // 16) ** 2, embed)
        self.features = nn.BatchNorm1D(embed)

    def forward(self, x: Any) -> Any:
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        x = self.features(self.fc(paddle.flatten(self.dropout(self.bn2(x)), 1)))
        return functional.normalize(x)


class _ConvPReLU(nn.Layer):
    def __init__(
        self, channels: int, width: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = ConvBNLayer(channels, width, kernel, stride, groups=groups, act=None)
        self.prelu = nn.PReLU(width)

    def forward(self, x: Any) -> Any:
        return self.prelu(self.conv(x))


class _FaceBottleneck(nn.Layer):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        inner = 2 * width
        self.conv = _ConvPReLU(channels, inner, 1, 1)
        self.conv_dw = _ConvPReLU(inner, inner, 3, stride, inner)
        self.project = ConvBNLayer(inner, width, 1, act=None)
        self.residual = stride == 1 and channels == width

    def forward(self, x: Any) -> Any:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y


class MobileFaceNet(nn.Layer):
    """Bottlenecks with PReLU; a depthwise convolution over the whole last map, a linear one."""

    def __init__(self, *, side: int = 64, embed: int = 32) -> None:
        super().__init__()
        self.conv1, self.conv2_dw = _ConvPReLU(3, 12, 3, 2), _ConvPReLU(12, 12, 3, 1, 12)
        for stage, (a, b, depth) in enumerate(((12, 12, 2), (12, 20, 3), (20, 20, 1))):
            rest = [_FaceBottleneck(b, b, 1) for _ in range(depth)]
            self.add_sublayer(f"stage{stage + 1}", nn.Sequential(_FaceBottleneck(a, b, 2), *rest))
        self.conv_6_sep = _ConvPReLU(20, 48, 1, 1)
        self.conv_6_dw = nn.Conv2D(48, 48, side // 16, groups=48, bias_attr=False)
        self.bn = nn.BatchNorm2D(48)
        self.linear, self.features = nn.Linear(48, embed, bias_attr=False), nn.BatchNorm1D(embed)

    def forward(self, x: Any) -> Any:
        x = self.conv2_dw(self.conv1(x))
        for stage in (self.stage1, self.stage2, self.stage3):
            x = stage(x)
        x = paddle.flatten(self.bn(self.conv_6_dw(self.conv_6_sep(x))), 1)
        return functional.normalize(self.features(self.linear(x)))


class _Separable(nn.Layer):
    def __init__(self, channels: int, width: int, stride: Any) -> None:
        super().__init__()
        self.dw = ConvBNLayer(channels, channels, 3, stride, groups=channels, act="hardswish")
        self.pw = ConvBNLayer(channels, width, 1, act="hardswish")

    def forward(self, x: Any) -> Any:
        return self.pw(self.dw(x))


class _Mixing(nn.Layer):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.MultiHeadAttention(dim, 2)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(functional.swish(self.fc1(self.norm2(x))))


class _Reader(nn.Layer):
    """NRTR: the text so far attends to itself and to the image, one decoder layer at a time."""

    def __init__(self, channels: int, dim: int, layers: int, symbols: int) -> None:
        super().__init__()
        self.before = nn.Linear(channels, dim, bias_attr=False)
        self.embedding = nn.Embedding(symbols, dim)
        layer = nn.TransformerDecoderLayer(dim, 2, 2 * dim, 0.1)
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.tgt_word_prj = nn.Linear(dim, symbols, bias_attr=False)

    def forward(self, feat: Any, label: Any) -> Any:
        memory = self.before(feat.flatten(2).transpose([0, 2, 1]))
        length = label.shape[1]
        later = paddle.triu(paddle.full([length, length], -1e4), 1)
        return self.tgt_word_prj(self.decoder(self.embedding(label), memory, later))


class _Steps(nn.Layer):
    """The mean over the height, one step a column."""

    def forward(self, x: Any) -> Any:
        return x.mean(axis=2).transpose([0, 2, 1])


class TwoReadings(nn.Layer):
    """PP-OCRv3's recogniser in training: a CTC head behind its mixing neck, an NRTR head beside."""

    def __init__(
        self, widths: Sequence[int], depth: int, *, dim: int, mixing: int, layers: int
    ) -> None:
        super().__init__()
        strides = ((1, 1), (2, 1), (2, 2), (2, 1))
        self.conv1 = ConvBNLayer(3, widths[0], 3, (2, 2), act="hardswish")
        blocks: list[nn.Layer] = []
        for (before, width), stride in zip(pairwise((widths[0], *widths)), strides, strict=True):
            blocks.append(_Separable(before, width, stride))
            blocks += [_Separable(width, width, 1) for _ in range(depth - 1)]
        self.block_list = nn.Sequential(*blocks)
        self.pool = nn.MaxPool2D((2, 1), (2, 1))
        last = widths[-1]
        self.neck_in, self.neck_down = ConvBNLayer(last, 8, 3), ConvBNLayer(8, dim, 1)
        self.mixing = nn.Sequential(*[_Mixing(dim) for _ in range(mixing)])
        self.norm = nn.LayerNorm(dim)
        self.neck_up, self.neck_join = ConvBNLayer(dim, last, 1), ConvBNLayer(2 * last, 8, 3)
        self.neck_out = ConvBNLayer(8, dim, 1)
        self.steps, self.ctc_head = _Steps(), nn.Linear(dim, 20)
        self.gtc_head = _Reader(last, 16, layers, 22)

    def forward(self, image: Any, label: Any) -> Any:
        feat = self.pool(self.block_list(self.conv1(image)))
        x = self.neck_down(self.neck_in(feat))
        tokens = self.norm(self.mixing(x.flatten(2).transpose([0, 2, 1])))
        grid = tokens.transpose([0, 2, 1]).reshape([0, tokens.shape[2], *x.shape[2:]])
        x = self.neck_out(self.neck_join(paddle.concat([feat, self.neck_up(grid)], axis=1)))
        return self.ctc_head(self.steps(x)), self.gtc_head(feat, label)
