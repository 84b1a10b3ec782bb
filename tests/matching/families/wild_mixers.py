"""Networks over patches beside ViT and Swin: PoolFormer, MobileViT, DeiT with two heads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer
from tests.matching.families.mobile import InvertedResidual

__all__ = ["DeiT", "MobileViT", "PoolFormer", "PreNormBlock"]


class _PoolBlock(nn.Layer):
    """Mixing by a mean over neighbours, then 1×1 convolutions, each with a layer scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, dim), nn.GroupNorm(1, dim)
        self.pool = nn.AvgPool2D(3, 1, 1, exclusive=True)
        self.fc1, self.fc2 = nn.Conv2D(dim, 2 * dim, 1), nn.Conv2D(2 * dim, dim, 1)
        small = nn.initializer.Constant(1e-5)
        self.scale1 = self.create_parameter([dim, 1, 1], default_initializer=small)
        self.scale2 = self.create_parameter([dim, 1, 1], default_initializer=small)

    def forward(self, x: Any) -> Any:
        y = self.norm1(x)
        x = x + self.scale1 * (self.pool(y) - y)
        y = self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return x + self.scale2 * y


class PoolFormer(nn.Layer):
    """Four stages of pooling blocks, a strided convolution before each."""

    def __init__(self, depths: Sequence[int], dims: Sequence[int], classes: int = 10) -> None:
        super().__init__()
        self.embeds = nn.LayerList([nn.Conv2D(3, dims[0], 7, 4, 2)])
        for before, after in pairwise(dims):
            self.embeds.append(nn.Conv2D(before, after, 3, 2, 1))
        self.stages = nn.LayerList(
            nn.Sequential(*[_PoolBlock(dim) for _ in range(depth)])
            for depth, dim in zip(depths, dims, strict=True)
        )
        self.norm = nn.GroupNorm(1, dims[-1])
        self.head = nn.Linear(dims[-1], classes)

    def forward(self, x: Any) -> Any:
        for embed, stage in zip(self.embeds, self.stages):
            x = stage(embed(x))
        return self.head(self.norm(x).mean([-2, -1]))


class _Attention(nn.Layer):
    """Heads over the last axis but one; any number of axes before it."""

    def __init__(self, dim: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Any) -> Any:
        tokens, dim = x.shape[-2:]
        size = dim // self.heads
        q, k, v = (
            part(x).reshape([-1, tokens, self.heads, size]).transpose([0, 2, 1, 3])
            for part in (self.q, self.k, self.v)
        )
        scores = q.matmul(k, transpose_y=True) / size**0.5
        if self.causal:
            scores = scores + paddle.triu(paddle.full([tokens, tokens], -1e4), diagonal=1)
        x = functional.softmax(scores).matmul(v).transpose([0, 2, 1, 3])
        return self.proj(x.reshape([-1, tokens, dim]))


class PreNormBlock(nn.Layer):
    """Attention and an MLP, each behind its norm; `causal` hides the tokens that follow."""

    def __init__(self, dim: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = _Attention(dim, heads, causal=causal)
        self.c_fc, self.c_proj = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        return x + self.c_proj(functional.gelu(self.c_fc(self.ln_2(x))))


class _MobileViTBlock(nn.Layer):
    """A local convolution, attention between equal places of 2×2 patches, a join with the input."""

    def __init__(self, channels: int, dim: int, depth: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv_kxk = ConvBNLayer(channels, channels, 3, act="silu")
        self.conv_1x1 = nn.Conv2D(channels, dim, 1, bias_attr=False)
        self.transformer = nn.Sequential(*[PreNormBlock(dim, 2) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.conv_proj = ConvBNLayer(dim, channels, 1, act="silu")
        self.conv_fusion = ConvBNLayer(2 * channels, channels, 3, act="silu")

    def forward(self, x: Any) -> Any:
        y = self.conv_1x1(self.conv_kxk(x))
        half, dim = self.side // 2, y.shape[1]
        y = y.reshape([-1, dim, half, 2, half, 2]).transpose([0, 3, 5, 2, 4, 1])
        y = self.norm(self.transformer(y.reshape([-1, half * half, dim])))
        y = y.reshape([-1, 2, 2, half, half, dim]).transpose([0, 5, 3, 1, 4, 2])
        y = self.conv_proj(y.reshape([-1, dim, self.side, self.side]))
        return self.conv_fusion(paddle.concat([x, y], axis=1))


class MobileViT(nn.Layer):
    """Inverted residual blocks; at 1/8, 1/16 and 1/32 each stage ends in attention."""

    def __init__(
        self, depths: Sequence[int] = (2, 3, 2), side: int = 64, classes: int = 10
    ) -> None:
        super().__init__()
        self.stem = ConvBNLayer(3, 8, 3, 2, act="silu")
        self.stages = nn.LayerList(
            [
                InvertedResidual(8, 8, 1, 2),
                nn.Sequential(InvertedResidual(8, 12, 2, 2), InvertedResidual(12, 12, 1, 2)),
            ]
        )
        widths, dims = (12, 16, 20, 24), (12, 16, 20)
        for index, (before, after) in enumerate(pairwise(widths)):
            block = _MobileViTBlock(after, dims[index], depths[index], side // 8 // 2**index)
            self.stages.append(nn.Sequential(InvertedResidual(before, after, 2, 2), block))
        self.final_conv = ConvBNLayer(widths[-1], 64, 1, act="silu")
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.pool(self.final_conv(x)).flatten(1))


class DeiT(nn.Layer):
    """A ViT with a class token and a distillation token, each with a head of its own."""

    def __init__(
        self, depth: int, dim: int, *, side: int = 64, patch: int = 16, classes: int = 10
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2D(3, dim, patch, stride=patch)
        self.cls_token = self.create_parameter([1, 1, dim])
        self.dist_token = self.create_parameter([1, 1, dim])
        self.pos_embed = self.create_parameter([1, (side // patch) ** 2 + 2, dim])
        self.blocks = nn.LayerList([PreNormBlock(dim, 2) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head, self.head_dist = nn.Linear(dim, classes), nn.Linear(dim, classes)

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x).flatten(2).transpose([0, 2, 1])
        batch = paddle.shape(x)[0]
        tokens = [token.expand([batch, -1, -1]) for token in (self.cls_token, self.dist_token)]
        x = paddle.concat([*tokens, x], axis=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0]), self.head_dist(x[:, 1])
