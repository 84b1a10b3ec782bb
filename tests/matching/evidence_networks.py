"""Networks of which it is known what their feature maps have to do with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import paddle
from paddle import nn

Array = np.ndarray[Any, Any]


def noise(scale: float = 0.3) -> Any:
    """Return what sets a parameter to numbers that no training would be needed for."""
    return paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, scale))


class Small(nn.Layer):
    """A convolution, batch norm, ReLU, a strided convolution, ReLU, a mean and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2D(3, 8, 3, padding=1, bias_attr=noise())
        self.norm = nn.BatchNorm2D(8, weight_attr=noise(), bias_attr=noise())
        self.second = nn.Conv2D(8, 16, 3, stride=2, padding=1, bias_attr=noise())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, 5, bias_attr=noise())

    def forward(self, x: Any) -> Any:
        x = nn.functional.relu(self.norm(self.first(x)))
        x = nn.functional.relu(self.second(x))
        return self.head(self.drop(x.mean([2, 3])))


class Block(nn.Layer):
    """Two convolutions with batch norm and a connection around them."""

    def __init__(self, before: int, after: int, *, wide: int = 1) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        inner = wide * after
        self.body = nn.Sequential(
            nn.Conv2D(before, inner, 3, stride=stride, padding=1, bias_attr=False),
            nn.BatchNorm2D(inner),
            nn.ReLU(),
            nn.Conv2D(inner, after, 3, padding=1, bias_attr=False),
            nn.BatchNorm2D(after),
        )
        self.around = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(
                nn.Conv2D(before, after, 1, stride=2, bias_attr=False), nn.BatchNorm2D(after)
            )
        )

    def forward(self, x: Any) -> Any:
        return nn.functional.relu(self.body(x) + self.around(x))


class Residual(nn.Layer):
    """A stem, blocks of two widths, a classifier of ten digits of 8 × 8 pixels."""

    def __init__(self, blocks: Sequence[int] = (3, 3), *, wide: int = 1) -> None:
        super().__init__()
        self.depths = blocks
        self.stem = nn.Sequential(
            nn.Conv2D(1, 16, 3, padding=1, bias_attr=False), nn.BatchNorm2D(16), nn.ReLU()
        )
        widths = [16, *([16] * blocks[0]), *([32] * blocks[1])]
        self.blocks = nn.LayerList(
            [Block(before, after, wide=wide) for before, after in pairwise(widths)]
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean([2, 3]))


def scattered(network: Residual) -> Residual:
    """Set all scales, shifts and running statistics to numbers of their own, as training does."""
    random = np.random.default_rng(0)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for name, array in state.items():
        if array.ndim == 1:
            low = -0.3 if name.endswith(("bias", "_mean")) else 0.5
            state[name] = random.uniform(low, 0.3 if low < 0 else 1.5, array.shape).astype(
                "float32"
            )
    network.set_state_dict(state)
    return network


def trained(network: Residual, epochs: int, rate: float = 2e-3) -> float:
    """Train on digits and return the accuracy on the others."""
    images, labels = digits()
    random = np.random.default_rng(0)
    optimizer = paddle.optimizer.Adam(rate, parameters=network.parameters())
    network.train()
    for _ in range(epochs):
        for rows in np.split(random.permutation(1344), 21):
            logits = network(paddle.to_tensor(images[rows]))
            nn.functional.cross_entropy(logits, paddle.to_tensor(labels[rows])).backward()
            optimizer.step()
            optimizer.clear_grad()
    network.eval()
    found = network(paddle.to_tensor(images[1400:])).numpy().argmax(1)
    return float((found == labels[1400:]).mean())


def digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    held: Any = load_digits()
    return (held.images / 8 - 1).astype("float32")[:, None], held.target.astype("int64")


def widened(network: Residual, jitter: float) -> Residual:
    """Copy a network with twice the channels inside each block: the same function, but for noise.

    Source: Net2Net, Chen, Goodfellow and Shlens 2016 (arXiv 1511.05641).
    """
    random = np.random.default_rng(0)
    wide = Residual(network.depths, wide=2)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for name, tensor in wide.state_dict().items():
        if tuple(tensor.shape) == state[name].shape:
            continue
        axis = 1 if name.endswith("body.3.weight") else 0
        half = state[name] / 2 if axis else state[name]
        other = half + jitter * half.std() * random.normal(size=half.shape).astype("float32")
        state[name] = np.concatenate([half, other if half.ndim > 1 else half], axis)
    wide.set_state_dict(state)
    return wide


def shortened(network: Residual, kept: Sequence[int]) -> Residual:
    """Copy a network without some of its blocks."""
    short = Residual()
    short.set_state_dict(network.state_dict())
    short.blocks = nn.LayerList([short.blocks[place] for place in kept])
    return short


class Loud(nn.Layer):
    """A linear layer, unlike any other, beside one feature of the input that drowns it."""

    def __init__(self, volume: float) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 24, weight_attr=noise(), bias_attr=noise())
        self.volume = volume

    def forward(self, x: Any) -> Any:
        return paddle.concat([self.linear(x[:, 1:]), self.volume * x[:, :1]], axis=1)


def batches() -> Iterator[dict[str, Array]]:
    """Yield more than what the network reads, as data sets do."""
    for seed in range(6):
        images = np.random.default_rng(seed).normal(size=(8, 3, 16, 16)).astype("float32")
        yield {"x": images, "label": np.zeros((8, 1))}


def interrupted() -> Iterator[dict[str, Array]]:
    """Yield two batches; then the user has enough."""
    yield from islice(batches(), 2)
    raise KeyboardInterrupt


def interrupted_at_once() -> Iterator[dict[str, Array]]:
    """Yield nothing: the user has had enough before."""
    yield from ()
    raise KeyboardInterrupt


def failing() -> Iterator[Array]:
    """Yield one batch, then fail."""
    yield np.zeros((8, 3, 16, 16), "float32")
    raise RuntimeError("the disk is gone")


def empty() -> list[Array]:
    """Yield nothing."""
    return []


def labelled() -> list[list[Array]]:
    """Yield images and labels, of which none says which it is."""
    return [[np.zeros((8, 3, 16, 16), "float32"), np.zeros(8)]]


def loaded() -> Small:
    """Build a network and load what another one has, as users do."""
    from graphtool.backend.paddle import in_mode

    with in_mode(static=False):
        paddle.seed(3)
        state = {name: tensor.numpy() for name, tensor in Small().state_dict().items()}
    network = Small()
    network.set_state_dict(state)
    return network
