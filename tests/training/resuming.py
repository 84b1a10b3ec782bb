"""What the tests of checkpoints train, alike in one process, in two, and on legacy Programs.

`resuming.py KIND FOLDER save|load` trains each case for some steps, saves or loads in the middle,
and prints the losses by case, as hexadecimal bytes.
"""

from __future__ import annotations

import json
import sys
import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn, optimizer
from paddle.nn import functional as F  # noqa: N812
from paddle.optimizer import lr

import graphtool as gt

BEFORE, AFTER = 3, 4

CASES: dict[str, Callable[[], Any]] = {
    "momentum": lambda: optimizer.Momentum(0.05, 0.9, use_nesterov=True),
    "adam, steps": lambda: optimizer.Adam(lr.StepDecay(0.05, step_size=2)),
    "adamw, cosine": lambda: optimizer.AdamW(lr.CosineAnnealingDecay(0.05, 6), weight_decay=0.1),
    "sgd, warmup": lambda: optimizer.SGD(lr.LinearWarmup(lr.StepDecay(0.1, 2), 4, 0.0, 0.1)),
    "sgd, restarts": lambda: optimizer.SGD(lr.CosineAnnealingWarmRestarts(0.1, 2, 2)),
    "adam, plateau": lambda: optimizer.Adam(lr.ReduceOnPlateau(0.1, patience=0)),
    "lamb": lambda: optimizer.Lamb(0.01),
}


def legacy(kind: str) -> Any:
    guard = getattr(paddle.pir_utils, "OldIrGuard", None)
    return nullcontext() if kind == "pir" or guard is None else guard()


@dataclass
class Training:
    """A merged Program that trains, with dropout in it, in a Scope of its own."""

    program: Any
    startup: Any
    loss: Any
    optimizer: Any
    scope: Any
    merged: Any
    kind: str

    def run(self, steps: range) -> list[str]:
        executor, losses = paddle.static.Executor(paddle.CPUPlace()), list[str]()
        with legacy(self.kind), paddle.static.scope_guard(self.scope):
            for step in steps:
                (loss,) = executor.run(
                    self.program, feed={"x": batch(step)}, fetch_list=[self.loss]
                )
                losses.append(loss.tobytes().hex())
                self._step(float(loss))
        return losses

    def _step(self, loss: float) -> None:
        rate = self.optimizer._learning_rate
        if isinstance(rate, lr.ReduceOnPlateau):
            rate.step(loss)
        elif isinstance(rate, lr.LRScheduler):
            rate.step()

    def save(self, path: Any, step: int) -> None:
        gt.save_checkpoint(path, self.merged, self.optimizer, step=step, scope=self.scope)

    def load(self, path: Any) -> Any:
        return gt.load_checkpoint(path, self.merged, self.optimizer, scope=self.scope)

    def names(self) -> list[str]:
        held = self.scope.local_var_names()
        return sorted(name for name in held if name not in ("feed", "fetch"))

    def bytes(self) -> dict[str, bytes]:
        arrays = {name: self.scope.find_var(name).get_tensor() for name in self.names()}
        return {name: np.array(held).tobytes() for name, held in arrays.items()}


def batch(step: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(step).normal(size=(4, 8)).astype("float32")


def network(width: int, *, drop: bool = True, norm: bool = True) -> Any:
    hidden = nn.Linear(8, width)(paddle.static.data("x", [-1, 8], "float32"))
    hidden = nn.BatchNorm1D(width)(hidden) if norm else hidden
    return nn.Linear(width, 5)(F.dropout(hidden, 0.4) if drop else hidden)


def training(make: Callable[[], Any], kind: str = "pir", *, seed: int = 1, **net: Any) -> Training:
    """Build a student, merge a teacher into it, minimize, and run the startup program."""
    paddle.enable_static()
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    with legacy(kind), paddle.static.scope_guard(scope):
        programs = [paddle.static.Program() for _ in range(4)]
        theirs, their_startup, ours, our_startup = programs
        their_scope = paddle.static.Scope()
        with paddle.static.program_guard(theirs, their_startup), paddle.utils.unique_name.guard():
            network(7)
        paddle.seed(100)
        with paddle.static.scope_guard(their_scope):
            executor.run(their_startup)
        with paddle.utils.unique_name.guard(), paddle.static.program_guard(ours, our_startup):
            answer = network(**{"width": 6, **net})
        paddle.seed(seed)
        executor.run(our_startup)
        merged = gt.merge(theirs, ours, {"x": "x"}, scope=scope, teacher_scope=their_scope)
        with paddle.static.program_guard(ours, our_startup):
            loss = F.mse_loss(answer, teacher_answer(merged, kind))
            made = make()
            gt.minimize(made, loss)
        paddle.seed(seed)
        executor.run(our_startup)
    return Training(ours, our_startup, loss, made, scope, merged, kind)


def teacher_answer(merged: Any, kind: str) -> Any:
    additions = {"pir": "pd_op.add", "legacy": "elementwise_add"}[kind]
    graph = merged.source.graph
    results = [one.results[0] for one in graph.operators.values() if one.type == additions]
    return merged.teacher(results[-1])


def losses(case: str, kind: str, path: Path, what: str) -> list[str]:
    made = training(CASES[case], kind, seed=1 if what == "save" else 2)
    if what == "save":
        before = made.run(range(BEFORE))
        made.save(path, BEFORE)
    else:
        before = list[str]()
        assert made.load(path).step == BEFORE
    return before + made.run(range(BEFORE, BEFORE + AFTER))


def main() -> None:
    kind, folder, what = sys.argv[1:]
    paths = {case: Path(folder, str(number)) for number, case in enumerate(CASES)}
    print(json.dumps({case: losses(case, kind, path, what) for case, path in paths.items()}))


if __name__ == "__main__":
    main()
