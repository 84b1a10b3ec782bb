"""Networks that the tests build: small ones of many families, and Paddle's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import paddle
import pytest
from paddle import nn

import graphtool.sources
from graphtool.graph import Graph
from graphtool.sources.layers import from_layer


@functools.cache
def vision(name: str, side: int = 224) -> Graph:
    """Read one of `paddle.vision.models` at side × side, -1 for unknown."""
    size = f"3,{side},{side}" if side > 0 else "3,?,?"
    return graphtool.sources.read(f"paddle.vision.models:{name}", inputs=[size])


def built(factory: Callable[[], nn.Layer], *shapes: Sequence[int], train: bool = False) -> Graph:
    """Build what a factory makes and read it; shapes are without the batch."""
    return from_layer(factory, [tuple(shape) for shape in shapes], train=train).graph


class Computed(nn.Layer):
    """What a function computes of one feed or two, which makes its layers as it goes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any, other: Any = None) -> Any:
        return self.function(x) if other is None else self.function(x, other)


def computed(function: Callable[..., Any], *shapes: Sequence[int]) -> Graph:
    """Build what a function computes: see `Computed`. Paddle 2.6 refuses layers made on the way."""
    if paddle.__version__.startswith("2."):
        pytest.skip("Paddle 2.6 refuses layers that forward makes")
    return built(lambda: Computed(function), *shapes)


def save(program: Any, path: PathLike[str]) -> None:
    """Write a PIR Program as JSON."""
    # Paddle 3.0 wants the version of the format, of which it knows one.
    version = {"pir_version": 1} if paddle.__version__.startswith("3.0.") else {}
    paddle.base.core.serialize_pir_program(program, str(path), overwrite=True, **version)


class Encoder(nn.Layer):
    """A classifier over a transformer encoder, with post- or pre-normalisation."""

    def __init__(self, layers: int, width: int = 32, *, heads: int = 4, pre: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.1, activation="gelu", normalize_before=pre
        )
        self.project = nn.Linear(16, width)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder(self.project(x)).mean(1))


@functools.cache
def encoder(layers: int, width: int = 32, *, length: int = 7, heads: int = 4) -> Graph:
    """Build an `Encoder` over sequences of a length."""
    return built(lambda: Encoder(layers, width, heads=heads), [length, 16])


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
        levels = [lateral(value) for lateral, value in zip(self.lateral, maps)]
        for index in (1, 0):
            levels[index] = levels[index] + nn.functional.interpolate(
                levels[index + 1], scale_factor=2, mode="nearest"
            )
        return [head(level) for head, level in zip(self.heads, levels)]


@functools.cache
def pyramid(width: int = 8) -> Graph:
    """Build a `Pyramid` for images of 64 pixels."""
    return built(lambda: Pyramid(width), [3, 64, 64])


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


class ChannelsLast(nn.Layer):
    """Two strided convolutions of NHWC maps, a mean over places, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2D(3, 8, 3, stride=2, padding=1, data_format="NHWC"),
            nn.ReLU(),
            nn.Conv2D(8, 16, 3, stride=2, padding=1, data_format="NHWC"),
            nn.ReLU(),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.convolutions(x).mean([1, 2]))


class ConvNext(nn.Layer):
    """Blocks with a depthwise convolution, and a normalisation and linear layers on NHWC."""

    def __init__(self, widths: Sequence[int] = (8, 16, 24)) -> None:
        super().__init__()
        before = [3, *widths[:-1]]
        self.down = nn.LayerList(
            [nn.Conv2D(a, b, 2, stride=2) for a, b in zip(before, widths, strict=True)]
        )
        self.blocks = nn.LayerList([_ConvNextBlock(width) for width in widths])
        self.head = nn.Linear(widths[-1], 5)

    def forward(self, x: Any) -> Any:
        for down, block in zip(self.down, self.blocks):
            x = block(down(x))
        return self.head(x.mean([2, 3]))


class _ConvNextBlock(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2D(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        y = self.norm(self.depthwise(x).transpose([0, 2, 3, 1]))
        y = self.narrow(nn.functional.gelu(self.wide(y)))
        return x + y.transpose([0, 3, 1, 2])


class Mixer(nn.Layer):
    """An MLP-Mixer (Tolstikhin et al. 2021): tokens, then channels, each with a shortcut."""

    def __init__(self, layers: int, width: int = 16, places: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2D(3, width, 16, 16)
        self.layers = nn.LayerList([_Mix(width, places) for _ in range(layers)])
        self.head = nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose([0, 2, 1])
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class _Mix(nn.Layer):
    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.norms = nn.LayerList([nn.LayerNorm(width) for _ in range(2)])
        self.tokens = nn.Sequential(nn.Linear(places, 8), nn.GELU(), nn.Linear(8, places))
        self.channels = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x: Any) -> Any:
        x = x + self.tokens(self.norms[0](x).transpose([0, 2, 1])).transpose([0, 2, 1])
        return x + self.channels(self.norms[1](x))


def convolved_before_its_classifier() -> nn.Layer:
    """Blocks with shortcuts, and a wide convolution behind the last, as ShuffleNetV2 has."""

    class Block(nn.Layer):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv = nn.Conv2D(width, width, 3, padding=1)

        def forward(self, x: Any) -> Any:
            kept, worked = paddle.split(x, [x.shape[1] // 2, x.shape[1] // 2], axis=1)
            return paddle.concat([kept, nn.functional.relu(self.conv(worked))], axis=1)

    return nn.Sequential(
        nn.Conv2D(3, 8, 3, stride=2, padding=1),
        *(nn.Sequential(nn.Conv2D(8, 8, 3, stride=2, padding=1), Block(4)) for _ in range(3)),
        nn.Conv2D(8, 32, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
