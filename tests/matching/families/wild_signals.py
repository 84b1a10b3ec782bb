"""Networks that end where they began, and sound: image generator, super-resolution, waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from paddle import nn
from paddle.nn import functional

__all__ = ["EDSR", "DCGenerator", "ResidualGenerator", "WaveNet11", "WaveResNet"]


class _UpBlock(nn.Layer):
    """Norm and activation first, the map enlarged, two convolutions, an enlarged shortcut."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2D(channels), nn.BatchNorm2D(width)
        self.conv1 = nn.Conv2D(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2D(width, width, 3, padding=1)
        self.conv_sc = nn.Conv2D(channels, width, 1)

    def forward(self, x: Any) -> Any:
        y = functional.interpolate(functional.relu(self.bn1(x)), scale_factor=2, mode="nearest")
        y = self.conv2(functional.relu(self.bn2(self.conv1(y))))
        return y + self.conv_sc(functional.interpolate(x, scale_factor=2, mode="nearest"))


class ResidualGenerator(nn.Layer):
    """Noise to 4×4, residual blocks that each double the map, an image of 32×32 behind tanh."""

    def __init__(self, noise: int = 16, widths: Sequence[int] = (32, 24, 16, 12)) -> None:
        super().__init__()
        self.width = widths[0]
        self.linear = nn.Linear(noise, 16 * self.width)
        self.blocks = nn.LayerList([_UpBlock(*both) for both in pairwise(widths)])
        self.bn = nn.BatchNorm2D(widths[-1])
        self.to_image = nn.Conv2D(widths[-1], 3, 3, padding=1)

    def forward(self, noise: Any) -> Any:
        x = self.linear(noise).reshape([-1, self.width, 4, 4])
        for block in self.blocks:
            x = block(x)
        return functional.tanh(self.to_image(functional.relu(self.bn(x))))


class DCGenerator(nn.Layer):
    """Transposed convolutions with BN and ReLU from 4×4 to 32×32, one convolution to the image."""

    def __init__(self, noise: int = 16, widths: Sequence[int] = (16, 12, 8, 8)) -> None:
        super().__init__()
        self.width = widths[0]
        self.project = nn.Linear(noise, 16 * self.width)
        self.ups = nn.LayerList(
            nn.Sequential(
                nn.Conv2DTranspose(before, after, 4, 2, 1, bias_attr=False),
                nn.BatchNorm2D(after),
                nn.ReLU(),
            )
            for before, after in pairwise(widths)
        )
        self.to_image = nn.Conv2D(widths[-1], 3, 3, padding=1)

    def forward(self, noise: Any) -> Any:
        x = functional.relu(self.project(noise)).reshape([-1, self.width, 4, 4])
        for up in self.ups:
            x = up(x)
        return functional.tanh(self.to_image(x))


class _ScaledResidual(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(width, width, 3, padding=1)
        self.conv2 = nn.Conv2D(width, width, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return x + self.conv2(functional.relu(self.conv1(x))) * 0.1


class _Trunk(nn.Layer):
    """Residual blocks of one resolution, a convolution, and the input added to it."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.body = nn.LayerList([_ScaledResidual(width) for _ in range(blocks)])
        self.conv = nn.Conv2D(width, width, 3, padding=1)

    def forward(self, x: Any) -> Any:
        y = x
        for block in self.body:
            y = block(y)
        return x + self.conv(y)


class EDSR(nn.Layer):
    """Super-resolution by two: a trunk of one resolution, sub-pixels, one last convolution."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.head = nn.Conv2D(3, width, 3, padding=1)
        self.trunk = _Trunk(blocks, width)
        self.up = nn.Sequential(nn.Conv2D(width, 4 * width, 3, padding=1), nn.PixelShuffle(2))
        self.tail = nn.Conv2D(width, 3, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return self.tail(self.up(self.trunk(self.head(x))))


class _WaveConv(nn.Layer):
    def __init__(
        self, channels: int, width: int, kernel: int = 3, stride: int = 1, *, act: str = "relu"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1D(channels, width, kernel, stride, kernel // 2, bias_attr=False)
        self.bn = nn.BatchNorm1D(width)
        self.act = act

    def forward(self, x: Any) -> Any:
        x = self.bn(self.conv(x))
        return functional.relu(x) if self.act == "relu" else x


class _WaveBlock(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = _WaveConv(channels, width)
        self.conv2 = _WaveConv(width, width, act="none")
        self.shortcut = None if channels == width else _WaveConv(channels, width, 1, act="none")

    def forward(self, x: Any) -> Any:
        y = self.conv2(self.conv1(x))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class _Waveform(nn.Layer):
    """A long first kernel, pooling by four before each stage, the mean over time."""

    def __init__(self, block: Any, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = _WaveConv(1, widths[0], 79, 4)
        self.pool = nn.MaxPool1D(4)
        self.stages = nn.LayerList()
        channels = widths[0]
        for width, depth in zip(widths, depths, strict=True):
            rest = [block(width, width) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(block(channels, width), *rest))
            channels = width
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        for stage in self.stages:
            x = stage(self.pool(x))
        return self.fc(x.mean(-1))


class WaveResNet(_Waveform):
    """M34: residual blocks on raw sound."""

    def __init__(self) -> None:
        super().__init__(_WaveBlock, (8, 12, 16, 24), (2, 2, 3, 2))


class WaveNet11(_Waveform):
    """M11: plain convolutions on raw sound."""

    def __init__(self) -> None:
        super().__init__(_WaveConv, (8, 8, 12, 16), (1, 1, 2, 1))
