"""Networks as PaddleClas and PaddleOCR have them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.graph import Graph
from tests.networks import built


class Classifier(nn.Layer):
    """Three blocks in a list, then a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 32]
        self.blocks = nn.LayerList(
            [
                nn.Sequential(nn.Conv2D(a, b, 3, 2, 1), nn.BatchNorm2D(b), nn.ReLU())
                for a, b in pairwise(widths)
            ]
        )
        self.head = nn.Linear(32, 7)

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Recogniser(nn.Layer):
    """A backbone, a neck and a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2D(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2D(width, 32, 3, 2, 1), nn.ReLU()
        )
        self.neck = nn.Conv2D(32, 16, 1)
        self.head = nn.Linear(16, 7)

    def forward(self, x: Any) -> Any:
        x = self.neck(self.backbone(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class TwoOutputs(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.net = Classifier(8)
        self.other = nn.Linear(7, 7)

    def forward(self, x: Any) -> Any:
        y = self.net(x)
        return y, self.other(F.relu(y))


Networks = tuple[Graph, Graph]


@pytest.fixture(scope="session")
def classifiers() -> Networks:
    return built(lambda: Classifier(8), (3, 32, 32)), built(lambda: Classifier(4), (3, 32, 32))


@pytest.fixture(scope="session")
def recognisers() -> Networks:
    return built(lambda: Recogniser(12), (3, 32, 32)), built(lambda: Recogniser(4), (3, 32, 32))


@pytest.fixture(scope="session")
def two_outputs() -> Networks:
    network = built(TwoOutputs, (3, 32, 32))
    return network, network
