"""Networks of which it is known what their feature maps have to do with each other, and samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import paddle
from paddle import nn

from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.evidence import Evidence
from graphtool.evidence.cka import gather
from graphtool.sources.layers import Network, from_layer
from graphtool.structure import analyse

Array = np.ndarray[Any, Any]
IMAGES = np.random.default_rng(0).normal(size=(40, 3, 16, 16)).astype("float32")


def noise(scale: float = 0.3) -> Any:
    """Return an attribute that draws a parameter, as if it had been trained."""
    return paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, scale))


class Small(nn.Layer):
    """A convolution, batch norm, ReLU, a strided convolution, ReLU, a mean and a classifier."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2D(3, width, 3, padding=1, bias_attr=noise())
        self.norm = nn.BatchNorm2D(width, weight_attr=noise(), bias_attr=noise())
        self.second = nn.Conv2D(width, 16, 3, stride=2, padding=1, bias_attr=noise())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, 5, bias_attr=noise())

    def forward(self, x: Any) -> Any:
        x = nn.functional.relu(self.norm(self.first(x)))
        x = nn.functional.relu(self.second(x))
        return self.head(self.drop(x.mean([2, 3])))


def small(seed: int = 1, feed: str = "x", size: int = 16) -> Network:
    paddle.disable_static()
    paddle.seed(seed)
    return from_layer(Small(), [(feed, (3, size, size))], train=True)


def main_lines(*sides: Any) -> tuple[Sequence[str], Sequence[str]]:
    teacher, student = (analyse(side.graph).main_line for side in sides)
    return teacher, student


def gathered(*arguments: Any, **options: Any) -> Evidence:
    *_, found = gather(*arguments, **options)
    return found


def measured(
    samples: Any, teacher: Network, student: Network | None = None, **options: Any
) -> Evidence:
    """Measure the main lines of two networks, or of one with itself."""
    student = teacher if student is None else student
    return gathered(teacher, student, main_lines(teacher, student), samples, **options)


def diagnostic(error: GraphtoolError) -> Diagnostic:
    (found,) = error.report
    return found


def batches() -> Iterator[dict[str, Array]]:
    """Yield more than what the network reads, as data sets do."""
    for seed in range(6):
        images = np.random.default_rng(seed).normal(size=(8, 3, 16, 16)).astype("float32")
        yield {"x": images, "label": np.zeros((8, 1))}


def interrupted() -> Iterator[dict[str, Array]]:
    yield from islice(batches(), 2)
    raise KeyboardInterrupt


def interrupted_at_once() -> Iterator[dict[str, Array]]:
    yield from ()
    raise KeyboardInterrupt


def loaded() -> Small:
    """Build a network and load what another one has, as users do."""
    from graphtool.backend.paddle import in_mode

    with in_mode(static=False):
        paddle.seed(3)
        state = {name: tensor.numpy() for name, tensor in Small().state_dict().items()}
    network = Small()
    network.set_state_dict(state)
    return network
