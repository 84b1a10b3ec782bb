"""Small static networks for merging: one input, one output, each a family of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn

from graphtool.merging import Merged, merge

Forward = Callable[..., Any]
Feed = tuple[str, list[int], str]


@dataclass
class Built:
    """A Program with its startup program, output and a Scope in which it has been initialised."""

    program: Any
    startup: Any
    output: Any
    scope: Any
    feeds: tuple[str, ...]

    def run(self, feed: dict[str, Any], *fetch: Any) -> list[Any]:
        return run(self.program, self.scope, feed, *fetch)


def run(program: Any, scope: Any, feed: dict[str, Any], *fetch: Any) -> list[Any]:
    return steps(1, program, scope, feed, *fetch)[0]


def merge_built(teacher: Built, student: Built, **options: Any) -> Merged:
    """Merge a teacher that is fed `image` into a student that is fed `data`."""
    scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
    return merge(teacher.program, student.program, {"image": "data"}, **scopes | options)


def steps(
    count: int, program: Any, scope: Any, feed: dict[str, Any], *fetch: Any
) -> list[list[Any]]:
    """Run several times by one Executor, which prepares the Program once."""
    executor = paddle.static.Executor()
    return [
        executor.run(program, feed=feed, fetch_list=list(fetch), scope=scope) for _ in range(count)
    ]


def build(
    forward: Forward, *feeds: Feed, scope: Any = None, start: bool = True, names: str = ""
) -> Built:
    """Build a network into a Program of its own, where names count from 0, and initialise it.

    `names` are put before those of its parameters.
    """
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard(names):
        inputs = [paddle.static.data(name, shape, dtype) for name, shape, dtype in feeds]
        output = forward(*inputs)
    scope = paddle.static.Scope() if scope is None else scope
    if start:
        paddle.seed(7)
        paddle.static.Executor().run(startup, scope=scope)
    return Built(main, startup, output, scope, tuple(name for name, _, _ in feeds))


def headed(features: nn.Layer, size: int) -> nn.Layer:
    """Put a head of few weights on features: those of its own are 100 million, which take long."""
    head = [nn.Dropout(0.5), nn.Linear(size, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 1000)]
    return nn.Sequential(features, nn.Flatten(), *head)


def vgg11() -> nn.Layer:
    """Make a VGG of convolutions for images of 64 pixels."""
    return headed(paddle.vision.models.vgg11(num_classes=0, with_pool=False), 2048)


def alexnet() -> nn.Layer:
    """Make an AlexNet for images of 64 pixels."""
    return headed(paddle.vision.models.alexnet(num_classes=0), 256)


def small(forward: Forward, feed: str = "data", **options: Any) -> Built:
    return build(forward, (feed, [-1, 8], "float32"), **options)


def samples(count: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(count, 8)).astype("float32")


def bytes_of(scope: Any, names: Any) -> dict[str, bytes]:
    return {name: np.array(scope.find_var(name).get_tensor()).tobytes() for name in names}


def perceptron(x: Any) -> Any:
    hidden = nn.functional.relu(nn.BatchNorm1D(6)(nn.Linear(8, 6)(x)))
    return nn.Linear(6, 5)(nn.functional.dropout(hidden, 0.3))


def plain(x: Any) -> Any:
    """No dropout and no running statistics: losses can be compared bit by bit."""
    return nn.Linear(6, 5)(nn.functional.tanh(nn.Linear(8, 6)(x)))


def branching(x: Any) -> Any:
    linear = nn.Linear(8, 5)
    return paddle.static.nn.cond(
        x.sum() > 100, lambda: nn.functional.dropout(linear(x), 0.5), lambda: linear(x) * 3
    )


def looping(x: Any) -> Any:
    """A branch with dropout in it, then a loop that reads a parameter from outside of it."""
    linear, dropout = nn.Linear(8, 5), nn.Dropout(0.5)
    y = paddle.static.nn.cond(
        x.mean() > 0, lambda: dropout(linear(x)) * 2, lambda: dropout(linear(x)) - 1
    )
    _, y = paddle.static.nn.while_loop(
        lambda step, _: step < 3,
        lambda step, y: [step + 1, nn.functional.dropout(nn.functional.relu(y) + linear(x), 0.2)],
        [paddle.full([1], 0, "int64"), y],
    )
    return y


def lstm(x: Any) -> Any:
    states, _ = nn.LSTM(4, 6, num_layers=2, dropout=0.3)(x.reshape([-1, 2, 4]))
    return nn.Linear(6, 5)(states[:, -1])


def gru(x: Any) -> Any:
    states, _ = nn.GRU(4, 6, direction="bidirectional")(x.reshape([-1, 2, 4]))
    return nn.Linear(12, 5)(states[:, -1])


def cell(x: Any) -> Any:
    """A cell in a loop over arrays of tensors, which hands nothing out of the loop itself."""
    states, _ = nn.RNN(nn.SimpleRNNCell(4, 6))(x.reshape([-1, 2, 4]))
    return nn.Linear(6, 5)(states[:, -1])


def transformer(x: Any) -> Any:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1)
    return nn.Linear(4, 5)(nn.TransformerEncoder(layer, 2)(x.reshape([-1, 2, 4])).mean(1))


def half(x: Any) -> Any:
    scaled = x.cast("bfloat16") * paddle.full([8], 1.5, "bfloat16")
    return nn.Linear(8, 5)(scaled.cast("float32"))


def normalised(x: Any) -> Any:
    return nn.Linear(8, 5)(nn.GroupNorm(2, 8)(nn.LayerNorm(8)(x)))


def embedded(x: Any, ids: Any) -> Any:
    return nn.Linear(8, 5)(nn.Embedding(10, 8)(ids).mean(1) + x)
