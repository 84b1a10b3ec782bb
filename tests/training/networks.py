"""The networks of these tests, and a student with its teacher, trained for two steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

import graphtool as gt
from tests.merging.networks import Built, build, run, steps

IMAGE = ("image", (3, 8, 8), "float32")
FEED = {"image": np.random.RandomState(0).rand(4, 3, 8, 8).astype("float32")}


class Net(nn.Layer):
    """A batch norm and dropout at the top, in a branch and in a loop, and an LSTM with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, 6, 3), nn.BatchNorm2D(6)
        self.inner, self.looped = nn.BatchNorm2D(6), nn.BatchNorm1D(6)
        self.recurrent = nn.LSTM(6, 8, num_layers=2, dropout=0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = F.dropout(F.relu(self.norm(self.conv(x))), 0.3, training=self.training)
        x = paddle.static.nn.cond(
            x.mean() > -100,
            lambda: F.dropout(self.inner(x), 0.4, training=self.training),
            lambda: x * 2,
        )
        x = x.mean([2, 3])
        count = paddle.full([1], 0, "int64")
        _, x = paddle.static.nn.while_loop(
            lambda count, _: count < 3,
            lambda count, x: [count + 1, F.dropout(self.looped(x), training=self.training)],
            [count, x],
        )
        return self.head(self.recurrent(x.unsqueeze(1))[0].squeeze(1))


class Teacher(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 16, 3), nn.BatchNorm2D(16), nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x).mean([2, 3]))


class Half(nn.Layer):
    """Multiplies by a bfloat16 weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = self.create_parameter([4, 3], dtype="bfloat16")

    def forward(self, x: Any) -> Any:
        return paddle.matmul(x.cast("bfloat16"), self.weight).cast("float32")


class Recurrent(nn.Layer):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, width), nn.Linear(width, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0])


class Distilled:
    """A student that was taught by a teacher for two steps, an adapter between them."""

    def __init__(self, student: Any, *, train: bool = True) -> None:
        teacher = gt.from_layer(Teacher, [IMAGE], train=False)
        self.student = student
        paddle.enable_static()
        self.scope, scope = paddle.static.Scope(), paddle.static.Scope()
        run(teacher.startup, scope, {})
        run(student.startup, self.scope, {})
        scopes = {"scope": self.scope, "teacher_scope": scope}
        self.merged = gt.merge(teacher, student, {"image": "image"}, **scopes)
        if train:
            self.train()

    def train(self) -> None:
        answer = self.merged.student(self.merged.before.graph.fetches[0])
        main, startup = self.merged.program, self.student.startup
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard("new_"):
            self.adapted = nn.Linear(5, 16)(answer)
            self.loss = F.mse_loss(self.adapted, self.merged.teacher("mean_0"))
            paddle.optimizer.Adam(0.01).minimize(self.loss)
        run(startup, self.scope, {})
        steps(2, main, self.scope, FEED, self.loss)

    def outputs(self) -> Any:
        """Return what the student answers in test mode, before it was saved."""
        test, fetches = gt.for_test(self.merged)
        return run(test, self.scope, FEED, *fetches)[0]


SAMPLES = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


@dataclass
class Regression(Built):
    """A small network with a loss, in a Scope of its own."""

    hidden: Any = None

    @property
    def loss(self) -> Any:
        return self.output

    def step(self, x: Any = SAMPLES) -> bytes:
        """Run the Program, and return the loss."""
        return self.run({"x": x}, self.loss)[0].tobytes()

    def initialise(self) -> None:
        paddle.seed(3)
        super().initialise()

    def losses(self) -> list[bytes]:
        self.initialise()
        return [self.step() for _ in range(4)]

    def types(self) -> list[str]:
        programs = self.program, self.startup
        return [op.name() for program in programs for op in program.global_block().ops]

    def parameters(self) -> dict[str, Any]:
        # The learning rate counts as a parameter under PIR.
        every = self.program.global_block().all_parameters()
        return {one.name: self.held(one.name) for one in every if not one.stop_gradient}


def regression(kind: str = "pir") -> Regression:
    def network(x: Any) -> tuple[Any, Any]:
        if kind == "pir":
            hidden = F.relu(nn.Linear(8, 5)(x))
            return hidden, (nn.Linear(5, 3)(hidden) ** 2).mean()
        hidden = paddle.static.nn.fc(x, 5)
        return hidden, paddle.mean(paddle.square(paddle.static.nn.fc(hidden, 3)))

    made = build(network, ("x", [-1, 8], "float32"), kind=kind, seed=3, start=False)
    hidden, loss = made.output
    return Regression(made.program, made.startup, loss, made.scope, made.feeds, hidden)
