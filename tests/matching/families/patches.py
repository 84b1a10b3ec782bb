"""Classifiers over patches: ConvNeXt, ViT, and Swin with its windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional

__all__ = ["ConvNeXt", "SwinTransformer", "VisionTransformer"]


class _ConvNeXtBlock(nn.Layer):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2D(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, epsilon=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.act = nn.GELU()
        initial = nn.initializer.Constant(1e-6)
        self.gamma = self.create_parameter([dim], default_initializer=initial)

    def forward(self, x: Any) -> Any:
        y = self.dwconv(x).transpose([0, 2, 3, 1])
        y = self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        y = (self.gamma * y).transpose([0, 3, 1, 2])
        return x + y


class _ChannelsFirstNorm(nn.Layer):
    def __init__(self, dim: int) -> None:
        super().__init__()
        one, zero = nn.initializer.Constant(1.0), nn.initializer.Constant(0.0)
        self.weight = self.create_parameter([dim], default_initializer=one)
        self.bias = self.create_parameter([dim], default_initializer=zero)

    def forward(self, x: Any) -> Any:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / paddle.sqrt(variance + 1e-6)
        return self.weight.reshape([1, -1, 1, 1]) * x + self.bias.reshape([1, -1, 1, 1])


class ConvNeXt(nn.Layer):
    """Norms before each down-sampling, layer scale, a norm behind the pooling."""

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 3, 2),
        dims: Sequence[int] = (8, 12, 16, 24),
        classes: int = 10,
    ) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2D(3, dims[0], 4, stride=4), _ChannelsFirstNorm(dims[0]))
        down = [
            nn.Sequential(_ChannelsFirstNorm(before), nn.Conv2D(before, after, 2, stride=2))
            for before, after in pairwise(dims)
        ]
        self.downsample_layers = nn.LayerList([stem, *down])
        self.stages = nn.LayerList(
            nn.Sequential(*[_ConvNeXtBlock(dim) for _ in range(depth)])
            for depth, dim in zip(depths, dims, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], epsilon=1e-6)
        self.head = nn.Linear(dims[-1], classes)

    def forward(self, x: Any) -> Any:
        for down, stage in zip(self.downsample_layers, self.stages):
            x = stage(down(x))
        return self.head(self.norm(x.mean([-2, -1])))


class _Attention(nn.Layer):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop, self.proj_drop = nn.Dropout(0.1), nn.Dropout(0.1)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Any) -> Any:
        tokens, dim = x.shape[1:]
        qkv = self.qkv(x).reshape([-1, tokens, 3, self.heads, dim // self.heads])
        q, k, v = qkv.transpose([2, 0, 3, 1, 4]).unbind(0)
        attn = q.matmul(k.transpose([0, 1, 3, 2])) * self.scale
        attn = self.attn_drop(functional.softmax(attn, axis=-1))
        x = attn.matmul(v).transpose([0, 2, 1, 3]).reshape([-1, tokens, dim])
        return self.proj_drop(self.proj(x))


class _Mlp(nn.Layer):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, ratio * dim), nn.Linear(ratio * dim, dim)
        self.act, self.drop = nn.GELU(), nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class _Block(nn.Layer):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = _Attention(dim, heads), _Mlp(dim, 2)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Layer):
    """Pre-norm blocks over patches; `pool` is `token` for a class token or `mean`."""

    def __init__(
        self,
        depth: int,
        dim: int,
        heads: int,
        *,
        side: int = 32,
        patch: int = 8,
        pool: str = "token",
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.pool = pool
        tokens = (side // patch) ** 2 + (pool == "token")
        self.patch_embed = nn.Conv2D(3, dim, patch, stride=patch)
        self.pos_embed = self.create_parameter([1, tokens, dim])
        if pool == "token":
            self.cls_token = self.create_parameter([1, 1, dim])
        self.pos_drop = nn.Dropout(0.1)
        self.blocks = nn.LayerList([_Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, epsilon=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x).flatten(2).transpose([0, 2, 1])
        if self.pool == "token":
            cls = self.cls_token.expand([paddle.shape(x)[0], -1, -1])
            x = paddle.concat([cls, x], axis=1)
        x = self.pos_drop(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.pool == "token" else x.mean(axis=1))


def _windows(x: Any, window: int) -> Any:
    _, height, width, dim = x.shape
    x = x.reshape([-1, height // window, window, width // window, window, dim])
    return x.transpose([0, 1, 3, 2, 4, 5]).reshape([-1, window * window, dim])


def _joined(windows: Any, window: int, side: int) -> Any:
    count, dim = side // window, windows.shape[-1]
    x = windows.reshape([-1, count, count, window, window, dim])
    return x.transpose([0, 1, 3, 2, 4, 5]).reshape([-1, side, side, dim])


def _relative_index(window: int) -> Any:
    places: Any = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"))
    flat = places.reshape(2, -1)
    relative = (flat[:, :, None] - flat[:, None, :]).transpose(1, 2, 0) + window - 1
    return (relative[..., 0] * (2 * window - 1) + relative[..., 1]).reshape(-1)


def _shift_mask(side: int, window: int, shift: int) -> Any:
    regions: Any = np.zeros((side, side))
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for row, vertical in enumerate(cuts):
        for column, horizontal in enumerate(cuts):
            regions[vertical, horizontal] = 3 * row + column
    count = side // window
    flat = regions.reshape(count, window, count, window).transpose(0, 2, 1, 3)
    flat = flat.reshape(count * count, window * window)
    return np.where(flat[:, None] != flat[:, :, None], -100.0, 0.0).astype("float32")


class _WindowAttention(nn.Layer):
    def __init__(self, dim: int, heads: int, window: int, mask: Any) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.table = self.create_parameter([(2 * window - 1) ** 2, heads])
        self.index, self.mask = _relative_index(window), mask
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Any) -> Any:
        tokens, dim = x.shape[1:]
        qkv = self.qkv(x).reshape([-1, tokens, 3, self.heads, dim // self.heads])
        q, k, v = qkv.transpose([2, 0, 3, 1, 4]).unbind(0)
        attn = paddle.mm(q * self.scale, k.transpose([0, 1, 3, 2]))
        bias = paddle.index_select(self.table, paddle.to_tensor(self.index)).reshape(
            [tokens, tokens, -1]
        )
        attn = attn + bias.transpose([2, 0, 1]).unsqueeze(0)
        if self.mask is not None:
            count = self.mask.shape[0]
            attn = attn.reshape([-1, count, self.heads, tokens, tokens])
            attn = attn + paddle.to_tensor(self.mask).unsqueeze(1).unsqueeze(0)
            attn = attn.reshape([-1, self.heads, tokens, tokens])
        x = (
            paddle.mm(functional.softmax(attn), v)
            .transpose([0, 2, 1, 3])
            .reshape([-1, tokens, dim])
        )
        return self.proj(x)


class _SwinBlock(nn.Layer):
    def __init__(self, dim: int, heads: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        mask = _shift_mask(side, window, shift) if shift else None
        self.attn = _WindowAttention(dim, heads, window, mask)
        self.mlp = _Mlp(dim, 2)

    def forward(self, x: Any) -> Any:
        tokens, dim = x.shape[1:]
        y = self.norm1(x).reshape([-1, self.side, self.side, dim])
        if self.shift:
            y = paddle.roll(y, shifts=(-self.shift, -self.shift), axis=(1, 2))
        y = _joined(self.attn(_windows(y, self.window)), self.window, self.side)
        if self.shift:
            y = paddle.roll(y, shifts=(self.shift, self.shift), axis=(1, 2))
        x = x + y.reshape([-1, tokens, dim])
        return x + self.mlp(self.norm2(x))


class _PatchMerging(nn.Layer):
    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias_attr=False)

    def forward(self, x: Any) -> Any:
        dim = x.shape[-1]
        x = x.reshape([-1, self.side, self.side, dim])
        corners = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        x = paddle.concat(corners, -1).reshape([-1, self.side**2 // 4, 4 * dim])
        return self.reduction(self.norm(x))


class _BasicLayer(nn.Layer):
    def __init__(self, dim: int, depth: int, side: int, *, merging: bool) -> None:
        super().__init__()
        window = min(4, side)
        shifts = [window // 2 if index % 2 and side > window else 0 for index in range(depth)]
        self.blocks = nn.LayerList(
            [_SwinBlock(dim, max(1, dim // 8), side, window, shift) for shift in shifts]
        )
        self.downsample = _PatchMerging(dim, side) if merging else None

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class SwinTransformer(nn.Layer):
    """Four stages of windowed attention, patches merged between them; mean over tokens."""

    def __init__(
        self, depths: Sequence[int], dim: int = 8, *, side: int = 64, classes: int = 10
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2D(3, dim, 4, stride=4)
        self.patch_norm = nn.LayerNorm(dim)
        self.pos_drop = nn.Dropout(0.0)
        last = len(depths) - 1
        self.layers = nn.LayerList(
            _BasicLayer(dim * 2**index, depth, side // 4 // 2**index, merging=index < last)
            for index, depth in enumerate(depths)
        )
        self.norm = nn.LayerNorm(dim * 2**last)
        self.avgpool = nn.AdaptiveAvgPool1D(1)
        self.head = nn.Linear(dim * 2**last, classes)

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x).flatten(2).transpose([0, 2, 1])
        x = self.pos_drop(self.patch_norm(x))
        for layer in self.layers:
            x = layer(x)
        x = self.avgpool(self.norm(x).transpose([0, 2, 1]))
        return self.head(paddle.flatten(x, 1))
