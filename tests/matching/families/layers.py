"""Layers that the networks of several families share."""

from __future__ import annotations

from typing import Any

from paddle import nn
from paddle.nn import functional

__all__ = ["ConvBNLayer", "SEModule"]


class ConvBNLayer(nn.Layer):
    """A convolution without bias, batch normalisation, and an activation if one is named."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: Any = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        act: str | None = "relu",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=kernel // 2 * dilation,
            groups=groups,
            dilation=dilation,
            bias_attr=False,
        )
        self.bn = nn.BatchNorm2D(out_channels)
        self.act = act

    def forward(self, x: Any) -> Any:
        x = self.bn(self.conv(x))
        return getattr(functional, self.act)(x) if self.act else x


class SEModule(nn.Layer):
    """Squeeze and excitation: each channel times a gate that the mean over places decides."""

    def __init__(self, channels: int, inner: int, *, gate: str = "hardsigmoid") -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.reduce = nn.Conv2D(channels, inner, 1)
        self.expand = nn.Conv2D(inner, channels, 1)
        self.gate = gate

    def forward(self, x: Any) -> Any:
        y = functional.relu(self.reduce(self.avg_pool(x)))
        return x * getattr(functional, self.gate)(self.expand(y))
