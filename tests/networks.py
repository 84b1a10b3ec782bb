"""Networks that the tests build: small ones of many families, and Paddle's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import paddle
from paddle import nn

import graphtool.readers
from graphtool.graph import Graph
from graphtool.readers.layers import from_layer


@functools.cache
def vision(name: str, side: int = 224) -> Graph:
    """Read one of `paddle.vision.models` at side × side, -1 for unknown."""
    size = f"3,{side},{side}" if side > 0 else "3,?,?"
    return graphtool.readers.read(f"paddle.vision.models:{name}", inputs=[size])


def built(factory: Callable[[], nn.Layer], *shapes: Sequence[int], train: bool = False) -> Graph:
    """Build what a factory makes and read it; shapes are without the batch."""
    return from_layer(factory, [tuple(shape) for shape in shapes], train=train).graph


class Encoder(nn.Layer):
    """A classifier over a transformer encoder, with post- or pre-normalisation."""

    def __init__(self, layers: int, width: int = 32, *, pre: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.1, activation="gelu", normalize_before=pre
        )
        self.project = nn.Linear(16, width)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder(self.project(x)).mean(1))


class Wrapped(nn.Layer):
    """Encoder layers with one connection around all of them, as necks of recognisers have."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(2)
        self.mix = nn.Linear(64, 5)

    def forward(self, x: Any) -> Any:
        start = self.encoder.project(x)
        return self.mix(paddle.concat([start, self.encoder.encoder(start)], axis=-1).mean(1))


class Pyramid(nn.Layer):
    """A backbone of three stages and a neck that comes back up; three heads."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        wide = [width, 2 * width, 4 * width]
        self.stages = nn.LayerList(
            [_down(before, after) for before, after in zip([3, *wide[:2]], wide, strict=True)]
        )
        self.lateral = nn.LayerList([nn.Conv2D(channels, width, 1) for channels in wide])
        self.heads = nn.LayerList([nn.Conv2D(width, 6, 3, padding=1) for _ in wide])

    def forward(self, x: Any) -> list[Any]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        levels = [lateral(value) for lateral, value in zip(self.lateral, maps, strict=True)]
        for index in (1, 0):
            levels[index] = levels[index] + nn.functional.interpolate(
                levels[index + 1], scale_factor=2, mode="nearest"
            )
        return [head(level) for head, level in zip(self.heads, levels, strict=True)]


class Segmenter(nn.Layer):
    """An encoder and a decoder with connections across, and class scores per pixel at full size."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.LayerList([_down(3, width), _down(width, 2 * width)])
        self.up = nn.Conv2DTranspose(2 * width, width, 2, stride=2)
        self.merge = nn.Sequential(nn.Conv2D(2 * width, width, 3, padding=1), nn.ReLU())
        self.classify = nn.Conv2D(width, 4, 1)

    def forward(self, x: Any) -> Any:
        first = self.down[0](x)
        second = self.down[1](first)
        merged = self.merge(paddle.concat([self.up(second), first], axis=1))
        scores = self.classify(merged)
        return nn.functional.interpolate(scores, scale_factor=2, mode="bilinear")


def _down(before: int, after: int) -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(before, after, 3, stride=2, padding=1),
        nn.BatchNorm2D(after),
        nn.ReLU(),
        nn.Conv2D(after, after, 3, padding=1),
        nn.BatchNorm2D(after),
        nn.ReLU(),
    )


class PlainConvolutions(nn.Layer):
    """Convolutions with an activation of one's choice, a strided one first in each stage."""

    def __init__(self, widths: Sequence[int], *, classes: int = 10) -> None:
        super().__init__()
        pairs = zip([3, *widths[:-1]], widths, strict=True)
        self.stages = nn.LayerList([_down(before, after) for before, after in pairs])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Any) -> Any:
        for stage in self.stages:
            x = stage(x)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
