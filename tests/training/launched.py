"""What the tests of launches run on each rank: `launched.py PATH CASE...`.

Each case trains on this rank's half of a batch by `gt.minimize`, then, by Paddle's own `minimize`
and in the same process, on the whole batch; PATH.RANK gets what came out of both as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import distributed, nn, optimizer

import graphtool as gt

STEPS, BATCH = 6, 8
Minimize = Callable[[Any, Any, Any], Any]


class Net(nn.Layer):
    def __init__(self, *, norm: bool = False, embed: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 8, sparse=True) if embed else None
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 3)
        self.norm = nn.BatchNorm1D(12) if norm else nn.Identity()

    def forward(self, x: Any) -> Any:
        if self.embedding is not None:
            x = x + self.embedding((x.abs() * 4).astype("int64").clip(0, 15)).mean(1)
        return self.second(paddle.tanh(self.norm(self.first(x))))


def steps_down() -> Any:
    return optimizer.lr.StepDecay(0.05, step_size=2, gamma=0.5)


CASES: dict[str, Callable[[], Any]] = {
    "sgd": lambda: optimizer.SGD(0.1),
    "global norm": lambda: optimizer.Momentum(0.1, 0.9, grad_clip=nn.ClipGradByGlobalNorm(0.05)),
    "norm": lambda: optimizer.Adam(0.01, grad_clip=nn.ClipGradByNorm(0.02)),
    "value": lambda: optimizer.SGD(0.5, grad_clip=nn.ClipGradByValue(0.01)),
    "decay": lambda: optimizer.SGD(0.1, weight_decay=paddle.regularizer.L2Decay(0.05)),
    "schedule": lambda: optimizer.AdamW(steps_down(), weight_decay=0.1),
    "batch norm": lambda: optimizer.SGD(0.1),
    "embedding": lambda: optimizer.SGD(0.1),
    "merged": lambda: optimizer.Adam(0.01),
    "accumulated": lambda: optimizer.Adam(0.01, grad_clip=nn.ClipGradByGlobalNorm(0.05)),
}


def trained(case: str, minimize: Minimize, share: slice, seed: int) -> dict[str, Any]:
    """Train for some steps on a share of the batch; return losses and what the Scope holds."""
    paddle.seed(seed)
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    executor = paddle.static.Executor(paddle.CPUPlace())
    made = CASES[case]()
    runs = 2 if case == "accumulated" and minimize is gt.minimize else 1
    with paddle.static.scope_guard(scope), paddle.utils.unique_name.guard():
        with paddle.static.program_guard(main, startup):
            x = paddle.static.data("x", [-1, 8])
            y = Net(norm=case == "batch norm", embed=case == "embedding")(x)
            loss = ((y - 0.5) ** 2).mean()
            if case == "merged":
                loss = loss + distilled(main, executor, y)
            minimize(made, loss, startup, **({"accumulate": runs} if runs > 1 else {}))
        executor.run(startup)
        start = digest(main, scope)
        losses: list[float] = []
        for batch in batches():
            # The mean of the same gradients is each of them.
            for _ in range(runs - 1):
                executor.run(main, feed={"x": batch[share]})
            losses += executor.run(main, feed={"x": batch[share]}, fetch_list=[loss])
            if isinstance(made._learning_rate, optimizer.lr.LRScheduler):
                made._learning_rate.step()
        test = gt.for_test(main, fetch=[y]).program
        return {
            "collectives": [collectives(program) for program in (main, test)],
            "start": start,
            "end": digest(main, scope),
            "losses": [float(value) for value in losses],
            "parameters": {
                name: np.asarray(scope.find_var(name).get_tensor()).ravel().tolist()
                for name in names(main)
            },
        }


def distilled(main: Any, executor: Any, y: Any) -> Any:
    """Merge a teacher whose weights are those of no rank's seed; pair it through an adapter."""
    program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard("t_"):
        hidden = nn.Linear(8, 7)(paddle.static.data("x", [-1, 8]))
    state = paddle.get_rng_state()
    paddle.seed(100)
    executor.run(startup)
    paddle.set_rng_state(state)
    merged = gt.merge(program, main, {"x": "x"})
    teacher = merged.teacher(gt.read(program).operators["add_0"].results[0])
    assert teacher.shape[-1] == hidden.shape[-1]
    return ((nn.Linear(3, 7)(y) - teacher) ** 2).mean()


def batches() -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=(BATCH, 8)).astype("float32") for _ in range(STEPS)]


def collectives(program: Any) -> int:
    return sum("all_reduce" in op.name() for op in program.global_block().ops)


def names(main: Any) -> list[str]:
    return sorted(value.name for value in main.global_block().all_parameters())


def digest(main: Any, scope: Any) -> dict[str, str]:
    held = {name: np.asarray(scope.find_var(name).get_tensor()).tobytes() for name in names(main)}
    return {name: hashlib.sha256(data).hexdigest() for name, data in held.items()}


def own(made: Any, loss: Any, startup: Any) -> None:
    """Minimize as Paddle does; clipping by value, which it leaves out under PIR, by hand."""
    clip = made._grad_clip
    if not isinstance(clip, nn.ClipGradByValue):
        made.minimize(loss, startup)
        return
    made._grad_clip = None
    gradients = made.backward(loss, startup)
    made.apply_gradients([(one, paddle.clip(grad, clip.min, clip.max)) for one, grad in gradients])


def small(*, different: str = "") -> tuple[Any, Any]:
    """Build a small network with its loss; return an optimizer too. One thing may be different."""
    batch = distributed.get_rank() + 4 if different == "batch" else -1
    x = paddle.static.data("x", [batch, 8])
    width = 13 if different == "width" else 12
    first, second = nn.Linear(8, width), nn.Linear(width, 3)
    second.weight.stop_gradient = different == "frozen"
    y = first(x)
    if different == "metric":
        y.mean()
    if different == "batch":
        y = y.reshape([batch, width]) + paddle.zeros([batch, width])
    y = paddle.tanh(y * 2) if different == "order" else paddle.tanh(y) * 2
    loss = (second(y) ** 2).mean() * (0.25 if different == "weight" else 0.5)
    clip = nn.ClipGradByNorm(1.0) if different == "clip" else None
    rate = 0.2 if different == "rate" else 0.1
    made = optimizer.Adam if different == "optimizer" else optimizer.SGD
    name = "second" if different == "name" else "first"
    return made(rate, grad_clip=clip, name=name), loss


def stop(how: str) -> None:
    """Train until one rank stops in one way or another: the launcher has to stop the other."""
    rank = distributed.get_rank()
    if how == "raised before" and rank == 1:
        raise FileNotFoundError("no data on rank 1")
    if how == "first ended" and rank == 0:
        time.sleep(1)
        return
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        made, loss = small()
        if how == "killed in minimize" and rank == 1:
            made.apply_gradients = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        gt.minimize(made, loss)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    for step in range(10_000):
        if step == 3 and rank == 1:
            if how == "ended":
                return
            os.kill(os.getpid(), signal.SIGKILL)
        executor.run(main, feed={"x": batches()[0]}, fetch_list=[loss])


def refusals() -> dict[str, str]:
    """Return what `gt.minimize` says to what it refuses, by case."""
    paddle.enable_static()
    found = {"unjoined": refusal(*small())}
    paddle.disable_static()
    distributed.init_parallel_env()
    paddle.enable_static()
    with paddle.pir_utils.OldIrGuard():
        y = paddle.static.nn.fc(paddle.static.data("x", [-1, 8]), 3)
        found["legacy"] = refusal(optimizer.SGD(0.1), paddle.mean(y))
    made, loss = small()
    found["wrapped"] = refusal(paddle.incubate.optimizer.LookAhead(made), loss)
    is_second = distributed.get_rank() == 1
    for case in ("width", "order", "weight", "optimizer", "rate", "clip", "frozen"):
        with program() as main, paddle.utils.unique_name.guard():
            made, loss = small(different=case if is_second else "")
            found["operators before"] = str(computing(main))
            found[case] = refusal(made, loss)
            found["operators after"] = str(computing(main))
    for case in ("metric", "name", "batch"):
        with program(), paddle.utils.unique_name.guard():
            found[case] = refusal(*small(different=case if is_second or case == "batch" else ""))
    with paddle.utils.unique_name.guard():
        with program():
            if is_second:
                nn.Linear(8, 8)
        with program():
            found["counted"] = refusal(*small())
    return found


def refusal(made: Any, loss: Any) -> str:
    try:
        gt.minimize(made, loss)
    except gt.GraphtoolError as error:
        return str(error)
    return ""


@contextmanager
def program() -> Iterator[Any]:
    main = paddle.static.Program()
    with paddle.static.program_guard(main, paddle.static.Program()):
        yield main


def computing(main: Any) -> int:
    return sum(op.name() != "builtin.parameter" for op in main.global_block().ops)


def main() -> None:
    path, *cases = sys.argv[1:]
    if cases == ["refusals"]:
        Path(f"{path}.{distributed.get_rank()}").write_text(json.dumps(refusals()))
        return
    distributed.init_parallel_env()
    paddle.enable_static()
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    if cases[0] not in CASES:
        stop(cases[0])
        return
    share = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
    found = {
        case: {
            "ranks": trained(case, gt.minimize, share, seed=1 + rank),
            "joint": trained(case, own, slice(None), seed=1),
        }
        for case in cases
    }
    Path(f"{path}.{rank}").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
