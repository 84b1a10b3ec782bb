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
from collections.abc import Callable
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
}


def trained(case: str, minimize: Minimize, share: slice, seed: int) -> dict[str, Any]:
    """Train for some steps on a share of the batch; return losses and what the Scope holds."""
    paddle.seed(seed)
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    executor = paddle.static.Executor(paddle.CPUPlace())
    made = CASES[case]()
    with paddle.static.scope_guard(scope), paddle.utils.unique_name.guard():
        with paddle.static.program_guard(main, startup):
            x = paddle.static.data("x", [-1, 8])
            y = Net(norm=case == "batch norm", embed=case == "embedding")(x)
            loss = ((y - 0.5) ** 2).mean()
            if case == "merged":
                loss = loss + distilled(main, executor, y)
            minimize(made, loss, startup)
        executor.run(startup)
        start = digest(main, scope)
        losses: list[float] = []
        for batch in batches():
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


def stop(how: str) -> None:
    """Train until rank 1 stops in one way or another."""
    rank = distributed.get_rank()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        loss = (Net()(paddle.static.data("x", [-1, 8])) ** 2).mean()
        gt.minimize(optimizer.SGD(0.1), loss)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    for step in range(10_000):
        if rank == 1 and step == 3 and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 1 and step == 3 and how == "busy":
            time.sleep(300)
        if rank == 1 and step == 3:
            raise ValueError("the data have run out")
        executor.run(main, feed={"x": batches()[0]}, fetch_list=[loss])


def main() -> None:
    path, *cases = sys.argv[1:]
    if cases == ["unjoined"]:
        paddle.enable_static()
        gt.minimize(optimizer.SGD(0.1), nn.Linear(8, 3)(paddle.static.data("x", [-1, 8])).mean())
    distributed.init_parallel_env()
    paddle.enable_static()
    if cases == ["legacy"]:
        with paddle.pir_utils.OldIrGuard():
            y = paddle.static.nn.fc(paddle.static.data("x", [-1, 8]), 3)
            gt.minimize(optimizer.SGD(0.1), paddle.mean(y))
    if cases == ["wrapped"]:
        loss = nn.Linear(8, 3)(paddle.static.data("x", [-1, 8])).mean()
        gt.minimize(paddle.incubate.optimizer.LookAhead(optimizer.SGD(0.1)), loss)
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    if cases[0] in ("killed", "busy", "raised"):
        stop(cases[0])
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
