"""Vision transformers with stages or nested tokens: PVT, LeViT, TNT, and VAN without attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer

__all__ = ["PVT", "TNT", "VAN", "LeViT", "ReducedBlock"]


class _Heads(nn.Layer):
    """Attention of tokens to themselves, or to fewer that a strided convolution made of them."""

    def __init__(self, dim: int, heads: int, side: int = 0, reduction: int = 1) -> None:
        super().__init__()
        self.heads, self.scale, self.side = heads, (dim // heads) ** -0.5, side
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2D(dim, dim, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Any) -> Any:
        tokens, dim = x.shape[1:]
        q = self.q(x).reshape([-1, tokens, self.heads, dim // self.heads]).transpose([0, 2, 1, 3])
        if self.sr is not None:
            grid = x.transpose([0, 2, 1]).reshape([-1, dim, self.side, self.side])
            x = self.norm(self.sr(grid).flatten(2).transpose([0, 2, 1]))
        kv = self.kv(x).reshape([-1, x.shape[1], 2, self.heads, dim // self.heads])
        k, v = kv.transpose([2, 0, 3, 1, 4]).unbind(0)
        attn = functional.softmax(q.matmul(k.transpose([0, 1, 3, 2])) * self.scale, axis=-1)
        return self.proj(attn.matmul(v).transpose([0, 2, 1, 3]).reshape([-1, tokens, dim]))


class _Mlp(nn.Layer):
    """Two linear maps; between them, where `side` is given, a depthwise convolution."""

    def __init__(self, dim: int, ratio: int = 2, side: int = 0) -> None:
        super().__init__()
        inner = ratio * dim
        self.side = side
        self.fc1, self.fc2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.dwconv = nn.Conv2D(inner, inner, 3, padding=1, groups=inner) if side else None

    def forward(self, x: Any) -> Any:
        x = self.fc1(x)
        if self.dwconv is not None:
            grid = x.transpose([0, 2, 1]).reshape([-1, x.shape[2], self.side, self.side])
            x = self.dwconv(grid).flatten(2).transpose([0, 2, 1])
        return self.fc2(functional.gelu(x))


class ReducedBlock(nn.Layer):
    """A pre-norm block over a grid of `side` × `side` tokens; `mixes` puts a 3×3 in its MLP."""

    def __init__(self, dim: int, side: int, reduction: int, *, mixes: str = "") -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = _Heads(dim, max(1, dim // 8), side, reduction)
        self.mlp = _Mlp(dim, 2, side if mixes else 0)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Patches(nn.Layer):
    """A strided convolution, laid out as tokens and normalised."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2D(channels, dim, patch, patch), nn.LayerNorm(dim)

    def forward(self, x: Any) -> Any:
        return self.norm(self.proj(x).flatten(2).transpose([0, 2, 1]))


class _PVTStage(nn.Layer):
    def __init__(
        self, channels: int, dim: int, depth: int, side: int, reduction: int, *, token: str
    ) -> None:
        super().__init__()
        self.patch_embed = _Patches(channels, dim, 4 if channels == 3 else 2)
        self.cls_token = self.create_parameter([1, 1, dim]) if token else None
        self.pos_embed = self.create_parameter([1, side**2 + bool(token), dim])
        self.pos_drop = nn.Dropout(0.1)
        self.blocks = nn.LayerList([ReducedBlock(dim, side, reduction) for _ in range(depth)])

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x)
        if self.cls_token is not None:
            first = self.cls_token.expand([paddle.shape(x)[0], -1, -1])
            x = paddle.concat([first, x], axis=1)
        x = self.pos_drop(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        return x


class _Grid(nn.Layer):
    """Lay a square of tokens out as a map."""

    def forward(self, x: Any) -> Any:
        _, tokens, dim = x.shape
        side = round(tokens**0.5)
        return x.reshape([-1, side, side, dim]).transpose([0, 3, 1, 2])


class PVT(nn.Layer):
    """Pyramid vision transformer: four stages, a class token in the last."""

    def __init__(
        self, depths: Sequence[int], dims: Sequence[int] = (8, 16, 24, 32), classes: int = 10
    ) -> None:
        super().__init__()
        self.stages = nn.LayerList()
        for index, (before, dim) in enumerate(pairwise((3, *dims))):
            side, last = 16 // 2**index, index == len(dims) - 1
            token, reduction = ("token", 1) if last else ("", 8 // 2**index)
            self.stages.append(_PVTStage(before, dim, depths[index], side, reduction, token=token))
        self.grids = nn.LayerList([_Grid() for _ in dims[1:]])
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], classes)

    def forward(self, x: Any) -> Any:
        first, *rest = self.stages
        x = first(x)
        for grid, stage in zip(self.grids, rest):
            x = stage(grid(x))
        return self.head(self.norm(x)[:, 0])


class _LinearBN(nn.Layer):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.linear, self.bn = nn.Linear(dim, out, bias_attr=False), nn.BatchNorm1D(out)

    def forward(self, x: Any) -> Any:
        y = self.linear(x)
        return self.bn(y.flatten(0, 1)).reshape([-1, *y.shape[1:]])


class _LeViTAttention(nn.Layer):
    """Attention with learned biases and hardswish; `stride` 2 asks with every other token."""

    def __init__(self, dim: int, out: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.heads, self.key, self.side, self.stride = max(2, dim // 8), 4, side, stride
        value = 8 * self.heads
        self.q = _LinearBN(dim, self.heads * self.key)
        self.kv = _LinearBN(dim, self.heads * self.key + value)
        self.proj = _LinearBN(value, out)
        asked = ((side + stride - 1) // stride) ** 2
        self.biases = self.create_parameter([self.heads, asked, side**2])

    def forward(self, x: Any) -> Any:
        tokens, dim = x.shape[1:]
        kv = self.kv(x).reshape([-1, tokens, self.heads, self.key + 8]).transpose([0, 2, 1, 3])
        k, v = paddle.split(kv, [self.key, 8], axis=3)
        if self.stride > 1:
            grid = x.reshape([-1, self.side, self.side, dim])
            x = grid[:, :: self.stride, :: self.stride].flatten(1, 2)
        q = self.q(x).reshape([-1, x.shape[1], self.heads, self.key]).transpose([0, 2, 1, 3])
        attn = q.matmul(k.transpose([0, 1, 3, 2])) * self.key**-0.5 + self.biases
        y = functional.softmax(attn, axis=-1).matmul(v).transpose([0, 2, 1, 3])
        return self.proj(functional.hardswish(y.reshape([-1, x.shape[1], 8 * self.heads])))


class _LeViTMlp(nn.Layer):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up, self.down = _LinearBN(dim, 2 * dim), _LinearBN(2 * dim, dim)

    def forward(self, x: Any) -> Any:
        return x + self.down(functional.hardswish(self.up(x)))


class _LeViTBlock(nn.Layer):
    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.attn, self.mlp = _LeViTAttention(dim, dim, side), _LeViTMlp(dim)

    def forward(self, x: Any) -> Any:
        return self.mlp(x + self.attn(x))


class _Shrink(nn.Layer):
    """Attention that asks with a quarter of the tokens, and an MLP."""

    def __init__(self, dim: int, out: int, side: int) -> None:
        super().__init__()
        self.attn, self.mlp = _LeViTAttention(dim, out, side, 2), _LeViTMlp(out)

    def forward(self, x: Any) -> Any:
        return self.mlp(self.attn(x))


class LeViT(nn.Layer):
    """LeViT: four strided convolutions, stages at 1/16, 1/32, 1/64; the mean of its two heads."""

    def __init__(
        self, dims: Sequence[int], depths: Sequence[int], side: int = 128, classes: int = 10
    ) -> None:
        super().__init__()
        widths = (3, dims[0] // 4, dims[0] // 2, dims[0], dims[0])
        self.patch_embed = nn.LayerList(
            [ConvBNLayer(a, b, 3, 2, act=None) for a, b in pairwise(widths)]
        )
        self.stages, self.shrinks = nn.LayerList(), nn.LayerList()
        for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            places = side // 16 // 2**index
            if index:
                self.shrinks.append(_Shrink(dims[index - 1], dim, 2 * places))
            self.stages.append(nn.Sequential(*[_LeViTBlock(dim, places) for _ in range(depth)]))
        self.bn, self.bn_dist = nn.BatchNorm1D(dims[-1]), nn.BatchNorm1D(dims[-1])
        self.head, self.head_dist = nn.Linear(dims[-1], classes), nn.Linear(dims[-1], classes)

    def forward(self, x: Any) -> Any:
        for index, conv in enumerate(self.patch_embed):
            x = conv(functional.hardswish(x) if index else x)
        first, *rest = self.stages
        x = first(x.flatten(2).transpose([0, 2, 1]))
        for shrink, stage in zip(self.shrinks, rest):
            x = stage(shrink(x))
        x = x.mean(axis=1)
        return (self.head(self.bn(x)) + self.head_dist(self.bn_dist(x))) / 2


class _Nested(nn.Layer):
    """Pixels of each patch attend to each other, then are added to the patch's token."""

    def __init__(self, inner: int, dim: int, pixels: int) -> None:
        super().__init__()
        self.norm_in, self.attn_in = nn.LayerNorm(inner), _Heads(inner, 2)
        self.norm_mlp_in, self.mlp_in = nn.LayerNorm(inner), _Mlp(inner)
        self.norm1_proj, self.proj = nn.LayerNorm(inner), nn.Linear(pixels * inner, dim)
        self.norm_out, self.attn_out = nn.LayerNorm(dim), _Heads(dim, 2)
        self.norm_mlp, self.mlp = nn.LayerNorm(dim), _Mlp(dim)

    def forward(self, pixels: Any, patches: Any) -> Any:
        pixels = pixels + self.attn_in(self.norm_in(pixels))
        pixels = pixels + self.mlp_in(self.norm_mlp_in(pixels))
        count = patches.shape[1]
        seen = self.proj(
            self.norm1_proj(pixels).reshape([-1, count - 1, self.proj.weight.shape[0]])
        )
        token, rest = paddle.split(patches, [1, count - 1], axis=1)
        patches = paddle.concat([token, rest + seen], axis=1)
        patches = patches + self.attn_out(self.norm_out(patches))
        return pixels, patches + self.mlp(self.norm_mlp(patches))


class TNT(nn.Layer):
    """Transformer in transformer: 8×8 patches of 4×4 pixel embeddings."""

    def __init__(self, depth: int, inner: int, dim: int, *, side: int = 32) -> None:
        super().__init__()
        self.inner, self.grid = inner, side // 8
        self.pixel_conv = nn.Conv2D(3, inner, 7, 2, 3)
        self.pixel_pos = self.create_parameter([1, 16, inner])
        self.norm1_proj, self.proj = nn.LayerNorm(16 * inner), nn.Linear(16 * inner, dim)
        self.norm2_proj = nn.LayerNorm(dim)
        self.cls_token = self.create_parameter([1, 1, dim])
        self.patch_pos = self.create_parameter([1, self.grid**2 + 1, dim])
        self.pos_drop = nn.Dropout(0.0)
        self.blocks = nn.LayerList([_Nested(inner, dim, 16) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Any) -> Any:
        batch = paddle.shape(x)[0]
        x = self.pixel_conv(x).reshape([-1, self.inner, self.grid, 4, self.grid, 4])
        pixels = x.transpose([0, 2, 4, 3, 5, 1]).reshape([-1, 16, self.inner]) + self.pixel_pos
        flat = pixels.reshape([-1, self.grid**2, 16 * self.inner])
        patches = self.norm2_proj(self.proj(self.norm1_proj(flat)))
        patches = paddle.concat([self.cls_token.expand([batch, -1, -1]), patches], axis=1)
        patches = self.pos_drop(patches + self.patch_pos)
        for block in self.blocks:
            pixels, patches = block(pixels, patches)
        return self.head(self.norm(patches)[:, 0])


class _LargeKernel(nn.Layer):
    """1×1, GELU, a gate of depthwise 5×5, dilated 7×7 and 1×1, another 1×1; its own shortcut."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_1, self.proj_2 = nn.Conv2D(dim, dim, 1), nn.Conv2D(dim, dim, 1)
        self.conv0 = nn.Conv2D(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2D(dim, dim, 7, padding=9, dilation=3, groups=dim)
        self.conv1 = nn.Conv2D(dim, dim, 1)

    def forward(self, x: Any) -> Any:
        y = functional.gelu(self.proj_1(x))
        return self.proj_2(y * self.conv1(self.conv_spatial(self.conv0(y)))) + x


class _VANBlock(nn.Layer):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2D(dim), nn.BatchNorm2D(dim)
        self.attn = _LargeKernel(dim)
        self.fc1, self.fc2 = nn.Conv2D(dim, 2 * dim, 1), nn.Conv2D(2 * dim, dim, 1)
        self.dwconv = nn.Conv2D(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        initial = nn.initializer.Constant(0.01)
        self.layer_scale_1 = self.create_parameter([dim, 1, 1], default_initializer=initial)
        self.layer_scale_2 = self.create_parameter([dim, 1, 1], default_initializer=initial)

    def forward(self, x: Any) -> Any:
        x = x + self.layer_scale_1 * self.attn(self.norm1(x))
        y = self.fc2(functional.gelu(self.dwconv(self.fc1(self.norm2(x)))))
        return x + self.layer_scale_2 * y


class VAN(nn.Layer):
    """Visual attention network: overlapping patches, blocks, a norm over tokens in each stage."""

    def __init__(self, depths: Sequence[int] = (1, 1, 3, 2), classes: int = 10) -> None:
        super().__init__()
        self.embeds, self.stages, self.norms = nn.LayerList(), nn.LayerList(), nn.LayerList()
        for index, (before, dim) in enumerate(pairwise((3, 8, 16, 24, 32))):
            kernel, stride = (3, 2) if index else (7, 4)
            self.embeds.append(ConvBNLayer(before, dim, kernel, stride, act=None))
            self.stages.append(nn.Sequential(*[_VANBlock(dim) for _ in range(depths[index])]))
            self.norms.append(nn.LayerNorm(dim))
        self.head = nn.Linear(32, classes)

    def forward(self, x: Any) -> Any:
        tokens = None
        for embed, stage, norm in zip(self.embeds, self.stages, self.norms):
            y = stage(embed(x))
            tokens = norm(y.flatten(2).transpose([0, 2, 1]))
            x = tokens.reshape([-1, *y.shape[2:], y.shape[1]]).transpose([0, 3, 1, 2])
        return self.head(tokens.mean(axis=1))
