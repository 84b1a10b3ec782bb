"""Text recognition: CRNN, SVTR, and a light backbone with an SVTR neck; all end in CTC scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer
from tests.matching.families.residual import BasicBlock

__all__ = ["CRNN", "SVTR", "LightRecogniser"]


class _RecResNet(nn.Layer):
    """Halves the height five times and the width twice: 32 × W becomes 1 × W/4."""

    def __init__(self, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(3, widths[0], 3)
        self.pool1 = nn.MaxPool2D(2, 2)
        blocks: list[nn.Layer] = []
        channels = widths[0]
        for index, width in enumerate(widths):
            stride: Any = (1, 1) if index == 0 else (2, 2) if index == 1 else (2, 1)
            blocks.append(BasicBlock(channels, width, stride))
            blocks += [BasicBlock(width, width, 1) for _ in range(depth - 1)]
            channels = width
        self.block_list = nn.Sequential(*blocks)
        self.out_pool = nn.MaxPool2D((2, 1), (2, 1))

    def forward(self, x: Any) -> Any:
        return self.out_pool(self.block_list(self.pool1(self.conv1(x))))


class _Im2Seq(nn.Layer):
    def forward(self, x: Any) -> Any:
        return x.squeeze(axis=2).transpose([0, 2, 1])


class _RnnNeck(nn.Layer):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.encoder_reshape = _Im2Seq()
        self.lstm = nn.LSTM(channels, hidden, num_layers=2, direction="bidirectional")

    def forward(self, x: Any) -> Any:
        x, _ = self.lstm(self.encoder_reshape(x))
        return x


class CRNN(nn.Layer):
    """Convolutions to height 1, two bidirectional LSTMs, a linear layer at each step."""

    def __init__(
        self, widths: Sequence[int], depth: int, hidden: int, characters: int = 12
    ) -> None:
        super().__init__()
        self.backbone = _RecResNet(widths, depth)
        self.neck = _RnnNeck(widths[-1], hidden)
        self.head = nn.Linear(2 * hidden, characters)

    def forward(self, x: Any) -> Any:
        return self.head(self.neck(self.backbone(x)))


class _ConvMixer(nn.Layer):
    def __init__(self, dim: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.local_mixer = nn.Conv2D(dim, dim, 3, 1, 1, groups=dim // 4)

    def forward(self, x: Any) -> Any:
        height, width = self.size
        dim = x.shape[2]
        x = x.transpose([0, 2, 1]).reshape([-1, dim, height, width])
        return self.local_mixer(x).flatten(2).transpose([0, 2, 1])


class _GlobalMixer(nn.Layer):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.scale = (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attn_drop, self.proj_drop = nn.Dropout(0.0), nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        qkv = self.qkv(x).reshape((0, -1, 3, self.heads, self.dim // self.heads))
        qkv = qkv.transpose((2, 0, 3, 1, 4))
        q, k, v = qkv[0] * self.scale, qkv[1], qkv[2]
        attn = self.attn_drop(functional.softmax(q.matmul(k.transpose((0, 1, 3, 2))), axis=-1))
        x = attn.matmul(v).transpose((0, 2, 1, 3)).reshape((0, -1, self.dim))
        return self.proj_drop(self.proj(x))


class _MixingBlock(nn.Layer):
    """Mixing and an MLP, each normalised after its sum, as SVTR has it."""

    def __init__(self, dim: int, heads: int, size: tuple[int, int], mixer: str) -> None:
        super().__init__()
        local = mixer == "Local"
        self.mixer = _ConvMixer(dim, size) if local else _GlobalMixer(dim, heads)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Any) -> Any:
        x = self.norm1(x + self.mixer(x))
        return self.norm2(x + self.fc2(functional.gelu(self.fc1(x))))


class _SubSample(nn.Layer):
    def __init__(self, dim: int, out: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2D(dim, out, 3, stride=(2, 1), padding=1)
        self.norm = nn.LayerNorm(out)

    def forward(self, x: Any) -> Any:
        height, width = self.size
        x = x.transpose([0, 2, 1]).reshape([-1, x.shape[2], height, width])
        return self.norm(self.conv(x).flatten(2).transpose([0, 2, 1]))


class _SVTRNet(nn.Layer):
    def __init__(self, dims: Sequence[int], depths: Sequence[int], local: int, out: int) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(
            ConvBNLayer(3, dims[0] // 2, 3, 2, act="gelu"),
            ConvBNLayer(dims[0] // 2, dims[0], 3, 2, act="gelu"),
        )
        self.pos_embed = self.create_parameter([1, 8 * 16, dims[0]])
        mixers = iter(["Local"] * local + ["Global"] * (sum(depths) - local))
        for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            size = (8 // 2**index, 16)
            blocks = [_MixingBlock(dim, 2, size, next(mixers)) for _ in range(depth)]
            self.add_sublayer(f"blocks{index + 1}", nn.LayerList(blocks))
            if index < 2:
                down = _SubSample(dim, dims[index + 1], size)
                self.add_sublayer(f"sub_sample{index + 1}", down)
        self.avg_pool = nn.AdaptiveAvgPool2D((1, 16))
        self.last_conv = nn.Conv2D(dims[2], out, 1, bias_attr=False)
        self.hardswish, self.dropout = nn.Hardswish(), nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x).flatten(2).transpose([0, 2, 1]) + self.pos_embed
        for index in (1, 2, 3):
            for block in getattr(self, f"blocks{index}"):
                x = block(x)
            if index < 3:
                x = getattr(self, f"sub_sample{index}")(x)
        x = x.transpose([0, 2, 1]).reshape([-1, x.shape[2], 2, 16])
        return self.dropout(self.hardswish(self.last_conv(self.avg_pool(x))))


class SVTR(nn.Layer):
    """Local and global mixing of 32 × 64 images, the height merged twice and pooled at the end."""

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        *,
        local: int,
        out: int,
        characters: int = 12,
    ) -> None:
        super().__init__()
        self.backbone = _SVTRNet(dims, depths, local, out)
        self.neck = _Im2Seq()
        self.head = nn.Linear(out, characters)

    def forward(self, x: Any) -> Any:
        return self.head(self.neck(self.backbone(x)))


class _RecLCNet(nn.Layer):
    def __init__(self, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        strides: list[Any] = [(1, 1), (2, 1), (2, 1), (2, 1)]
        self.conv1 = ConvBNLayer(3, widths[0], 3, 2, act="hardswish")
        blocks: list[nn.Layer] = []
        channels = widths[0]
        for width, first in zip(widths, strides, strict=True):
            for index in range(depth):
                stride = first if index == 0 else 1
                blocks.append(
                    ConvBNLayer(channels, channels, 3, stride, groups=channels, act="hardswish")
                )
                blocks.append(ConvBNLayer(channels, width, 1, act="hardswish"))
                channels = width
        self.block_list = nn.Sequential(*blocks)
        self.pool = nn.AvgPool2D(2, 2)

    def forward(self, x: Any) -> Any:
        return self.pool(self.block_list(self.conv1(x)))


class _SVTRNeck(nn.Layer):
    """Narrow, mix globally, widen, join with the neck's input, and narrow again."""

    def __init__(self, channels: int, dim: int, depth: int) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(channels, channels // 2, 3, act="swish")
        self.conv2 = ConvBNLayer(channels // 2, dim, 1, act="swish")
        self.svtr_block = nn.LayerList(
            [_MixingBlock(dim, 2, (1, -1), "Global") for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(dim)
        self.conv3 = ConvBNLayer(dim, channels, 1, act="swish")
        self.conv4 = ConvBNLayer(2 * channels, channels // 2, 3, act="swish")
        self.conv1x1 = ConvBNLayer(channels // 2, dim, 1, act="swish")

    def forward(self, x: Any) -> Any:
        short = x
        z = self.conv2(self.conv1(x))
        _, dim, height, _ = z.shape
        z = z.flatten(2).transpose([0, 2, 1])
        for block in self.svtr_block:
            z = block(z)
        z = self.norm(z).reshape([0, height, -1, dim]).transpose([0, 3, 1, 2])
        z = paddle.concat([short, self.conv3(z)], axis=1)
        return self.conv1x1(self.conv4(z))


class LightRecogniser(nn.Layer):
    """PP-OCRv3's recogniser: depthwise-separable backbone, SVTR neck, CTC scores."""

    def __init__(
        self, widths: Sequence[int], depth: int, *, dim: int, mixing: int, characters: int = 12
    ) -> None:
        super().__init__()
        self.backbone = _RecLCNet(widths, depth)
        self.neck = _SVTRNeck(widths[-1], dim, mixing)
        self.encoder_reshape = _Im2Seq()
        self.head = nn.Linear(dim, characters)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder_reshape(self.neck(self.backbone(x))))
