"""Networks that are drawn, beside those of `tests.networks`."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn

__all__ = ["Forked"]


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
