"""Small static networks for merging, and what builds, runs and saves them, PIR or legacy."""

from __future__ import annotations

import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from graphtool.merging import Merged, merge

Forward = Callable[..., Any]
Feed = tuple[str, list[int], str]

KINDS = ("pir", "legacy")


def legacy() -> Any:
    """Let Paddle 3 build and run legacy Programs; Paddle 2.6 does by itself."""
    guard = getattr(paddle.pir_utils, "OldIrGuard", None)
    return nullcontext() if guard is None else guard()


@dataclass
class Built:
    """A Program that has been initialised in a Scope, with its startup program and output."""

    program: Any
    startup: Any
    output: Any
    scope: Any
    feeds: tuple[str, ...] = ()

    def mode(self) -> Any:
        return legacy() if hasattr(self.program, "desc") else nullcontext()

    def guard(self) -> ExitStack:
        """Let operators be added to the Program."""
        with ExitStack() as stack:
            stack.enter_context(self.mode())
            stack.enter_context(paddle.static.program_guard(self.program, self.startup))
            return stack.pop_all()

    def run(self, feed: Mapping[str, Any], *fetch: Any, program: Any = None) -> list[Any]:
        return run(program or self.program, self.scope, feed, *fetch)

    def initialise(self) -> None:
        self.run({}, program=self.startup)

    def held(self, name: str) -> Any:
        return array_in(self.scope, name)

    def hold(self, name: str, array: Any) -> None:
        hold(self.scope, name, array)

    def save(self, prefix: Path) -> Path:
        """Save the network with its weights for inference; return the file of its program."""
        block, executor = self.program.global_block(), paddle.static.Executor(paddle.CPUPlace())
        if hasattr(self.program, "desc"):
            feeds = [var for var in block.vars.values() if getattr(var, "is_data", False)]
        else:
            feeds = [op.result(0) for op in block.ops if op.name() == "pd_op.data"]
        with self.mode(), paddle.static.scope_guard(self.scope):
            paddle.static.save_inference_model(
                str(prefix), feeds, [self.output], executor, program=self.program
            )
        return prefix.with_suffix(".pdmodel" if hasattr(self.program, "desc") else ".json")


def array_in(scope: Any, name: str) -> Any:
    return np.array(scope.find_var(name).get_tensor())


def hold(scope: Any, name: str, array: Any) -> None:
    scope.var(name).get_tensor().set(array, paddle.CPUPlace())


def run(program: Any, scope: Any, feed: Mapping[str, Any], *fetch: Any) -> list[Any]:
    return steps(1, program, scope, feed, *fetch)[0]


def steps(
    count: int, program: Any, scope: Any, feed: Mapping[str, Any], *fetch: Any
) -> list[list[Any]]:
    """Run several times by one Executor, which prepares the Program once."""
    executor = paddle.static.Executor(paddle.CPUPlace())
    mode = legacy() if hasattr(program, "desc") else nullcontext()
    with mode, paddle.static.scope_guard(scope):
        return [
            executor.run(program, feed=dict(feed), fetch_list=list(fetch)) for _ in range(count)
        ]


def merge_built(
    teacher: Built, student: Built, feed_map: Mapping[str, str] | None = None, **options: Any
) -> Merged:
    """Merge a teacher into a student, by default one that is fed `image` into one fed `data`."""
    scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
    feeds = {"image": "data"} if feed_map is None else feed_map
    return merge(teacher.program, student.program, feeds, **scopes | options)


def build(
    forward: Forward,
    *feeds: Feed,
    scope: Any = None,
    start: bool = True,
    names: str = "",
    kind: str = "pir",
    seed: int = 7,
) -> Built:
    """Build a network into a Program of its own, where names count from 0, and initialise it.

    `names` are put before those of its parameters.
    """
    paddle.enable_static()
    with legacy() if kind == "legacy" else nullcontext():
        main, startup = paddle.static.Program(), paddle.static.Program()
        if kind == "legacy":
            main.random_seed = startup.random_seed = seed
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard(names):
            output = forward(*(paddle.static.data(*feed) for feed in feeds))
    scope = paddle.static.Scope() if scope is None else scope
    built = Built(main, startup, output, scope, tuple(name for name, _, _ in feeds))
    if start:
        paddle.seed(seed)
        built.initialise()
    return built


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


def bytes_of(scope: Any, names: Iterable[str]) -> dict[str, bytes]:
    return {name: array_in(scope, name).tobytes() for name in names}


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
