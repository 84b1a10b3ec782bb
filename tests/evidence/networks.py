"""Networks of which it is known what their feature maps have to do with each other, and samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import paddle
from paddle import nn

from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.evidence.cka import gather
from graphtool.evidence.suggest import Evidence
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


class Block(nn.Layer):
    """Two convolutions with batch norm and a connection around them."""

    def __init__(self, before: int, after: int, *, wide: int = 1) -> None:
        super().__init__()
        stride, inner = 1 if before == after else 2, wide * after

        def convolved(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Layer]:
            padding = kernel // 2
            convolution = nn.Conv2D(before, after, kernel, stride, padding, bias_attr=False)
            return [convolution, nn.BatchNorm2D(after)]

        self.body = nn.Sequential(
            *convolved(before, inner, 3, stride), nn.ReLU(), *convolved(inner, after, 3)
        )
        around = [] if stride == 1 else convolved(before, after, 1, 2)
        self.around = nn.Sequential(*around)

    def forward(self, x: Any) -> Any:
        return nn.functional.relu(self.body(x) + self.around(x))


class Residual(nn.Layer):
    """A stem, blocks of two widths, a classifier of ten digits of 8 × 8 pixels."""

    def __init__(self, blocks: Sequence[int] = (3, 3), *, wide: int = 1) -> None:
        super().__init__()
        stem = nn.Conv2D(1, 16, 3, padding=1, bias_attr=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2D(16), nn.ReLU())
        widths = [16, *([16] * blocks[0]), *([32] * blocks[1])]
        made = [Block(before, after, wide=wide) for before, after in pairwise(widths)]
        self.blocks = nn.LayerList(made)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean([2, 3]))


def state_of(network: nn.Layer) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def scattered(network: Residual) -> Residual:
    """Set all scales, shifts and running statistics to numbers of their own, as training does."""
    random, state = np.random.default_rng(0), state_of(network)
    for name, array in state.items():
        if array.ndim == 1:
            low, high = (-0.3, 0.3) if name.endswith(("bias", "_mean")) else (0.5, 1.5)
            state[name] = random.uniform(low, high, array.shape).astype("float32")
    network.set_state_dict(state)
    return network


def widened(network: Residual, jitter: float) -> Residual:
    """Copy a network with twice the channels inside each block: the same function, but for noise.

    Source: Net2Net, Chen, Goodfellow and Shlens 2016 (arXiv 1511.05641).
    """
    random, wide, state = np.random.default_rng(0), Residual(wide=2), state_of(network)
    for name, tensor in wide.state_dict().items():
        if tuple(tensor.shape) == state[name].shape:
            continue
        axis = 1 if name.endswith("body.3.weight") else 0
        half = state[name] / 2 if axis else state[name]
        other = half + jitter * half.std() * random.normal(size=half.shape).astype("float32")
        state[name] = np.concatenate([half, other if half.ndim > 1 else half], axis)
    wide.set_state_dict(state)
    return wide


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
        state = state_of(Small())
    network = Small()
    network.set_state_dict(state)
    return network
