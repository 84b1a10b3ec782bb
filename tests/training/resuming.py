"""What the tests of checkpoints train, alike in one process, in two, and on legacy Programs.

`resuming.py KIND FOLDER save|load` trains each case for some steps, saves or loads in the middle,
and prints the losses by case, as hexadecimal bytes.
"""

from __future__ import annotations

import json
import sys
import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn, optimizer
from paddle.nn import functional as F  # noqa: N812
from paddle.optimizer import lr

import graphtool as gt
from tests.merging.networks import Built, merge_built, small

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


@dataclass
class Training(Built):
    """A merged Program that trains, with dropout in it, in a Scope of its own."""

    loss: Any = None
    optimizer: Any = None
    merged: Any = None

    def train(self, which: range) -> list[str]:
        executor, losses = paddle.static.Executor(paddle.CPUPlace()), list[str]()
        rate = self.optimizer._learning_rate
        with self.mode(), paddle.static.scope_guard(self.scope):
            for step in which:
                feed = {"x": batch(step)}
                (loss,) = executor.run(self.program, feed=feed, fetch_list=[self.loss])
                losses.append(loss.tobytes().hex())
                if isinstance(rate, lr.LRScheduler):
                    rate.step(*([float(loss)] * isinstance(rate, lr.ReduceOnPlateau)))
        return losses

    def save_checkpoint(self, path: Any, step: int) -> None:
        gt.save_checkpoint(path, self.merged, self.optimizer, step=step, scope=self.scope)

    def load(self, path: Any) -> Any:
        return gt.load_checkpoint(path, self.merged, self.optimizer, scope=self.scope)

    def names(self) -> list[str]:
        return sorted({*self.scope.local_var_names()} - {"feed", "fetch"})


def batch(step: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(step).normal(size=(4, 8)).astype("float32")


def network(x: Any, width: int = 6, *, drop: bool = True, norm: bool = True) -> Any:
    hidden = nn.Linear(8, width)(x)
    hidden = nn.BatchNorm1D(width)(hidden) if norm else hidden
    return nn.Linear(width, 5)(F.dropout(hidden, 0.4) if drop else hidden)


def training(make: Callable[[], Any], kind: str = "pir", *, seed: int = 1, **net: Any) -> Training:
    """Build a student, merge a teacher into it, minimize, and run the startup program."""
    # A seed of a legacy Program would give each run the same dropout.
    options: dict[str, Any] = {"kind": kind, "seed": 0, "start": False}
    teacher = small(lambda x: network(x, 7), "x", **options)
    student = small(lambda x: network(x, **net), "x", **options)
    for built, own in ((teacher, 100), (student, seed)):
        paddle.seed(own)
        built.initialise()
    merged = merge_built(teacher, student, {"x": "x"})
    with student.guard(), paddle.static.scope_guard(student.scope):
        loss = F.mse_loss(student.output, teacher_answer(merged, kind))
        made = make()
        gt.minimize(made, loss)
    paddle.seed(seed)
    student.initialise()
    return Training(**vars(student), loss=loss, optimizer=made, merged=merged)


def teacher_answer(merged: Any, kind: str) -> Any:
    additions = {"pir": "pd_op.add", "legacy": "elementwise_add"}[kind]
    graph = merged.source.graph
    results = [one.results[0] for one in graph.operators.values() if one.type == additions]
    return merged.teacher(results[-1])


def losses(case: str, kind: str, path: Path, what: str) -> list[str]:
    made = training(CASES[case], kind, seed=1 if what == "save" else 2)
    if what == "save":
        before = made.train(range(BEFORE))
        made.save_checkpoint(path, BEFORE)
    else:
        before = list[str]()
        assert made.load(path).step == BEFORE
    return before + made.train(range(BEFORE, BEFORE + AFTER))


def main() -> None:
    kind, folder, what = sys.argv[1:]
    paths = {case: Path(folder, str(number)) for number, case in enumerate(CASES)}
    print(json.dumps({case: losses(case, kind, path, what) for case, path in paths.items()}))


if __name__ == "__main__":
    main()
