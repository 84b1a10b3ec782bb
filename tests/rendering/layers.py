"""Networks that are drawn, beside those of `tests.networks`."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn

from tests.networks import Pyramid

__all__ = ["Forked", "Pan"]


class Forked(nn.Layer):
    """A layer at the resolution of the input, then two branches that halve it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 8, 1), nn.BatchNorm2D(8), nn.ReLU())
        self.left = _halving(8, 8)
        self.right = nn.Sequential(nn.Conv2D(8, 8, 1), nn.ReLU(), _halving(8, 8))
        self.body = nn.Sequential(
            nn.Conv2D(16, 16, 3, padding=1),
            nn.ReLU(),
            _halving(16, 32),
            nn.ReLU(),
            nn.Conv2D(32, 32, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(32, 5)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        x = paddle.concat([self.left(x), self.right(x)], axis=1)
        return self.head(self.body(x).mean([2, 3]))


def _halving(before: int, after: int) -> nn.Layer:
    return nn.Conv2D(before, after, 3, stride=2, padding=1)


class Pan(nn.Layer):
    """A pyramid whose neck goes down again behind the way up, as detectors' do; three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = Pyramid()
        self.down = nn.LayerList([_halving(8, 8) for _ in range(2)])

    def forward(self, x: Any) -> list[Any]:
        maps: list[Any] = []
        for stage in self.pyramid.stages:
            x = stage(x)
            maps.append(x)
        levels = [join(value) for join, value in zip(self.pyramid.lateral, maps)]
        for index in (1, 0):
            above = nn.functional.interpolate(levels[index + 1], scale_factor=2, mode="nearest")
            levels[index] = levels[index] + above
        for index in (1, 2):
            levels[index] = levels[index] + self.down[index - 1](levels[index - 1])
        return [head(level) for head, level in zip(self.pyramid.heads, levels)]
