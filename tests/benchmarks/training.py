"""A merged training step beside its parts.

A resnet50 teaches a mobilenet_v1, batch 8 of 64 × 64 on CPU: cross entropy on labels, an l2 between
one stage of each (the pair of the distillation tutorial: 512 maps at stride 32) and soft labels,
with momentum and weight decay. Its parts are the teacher's forward pass alone and the student's
step alone, which is the same without the two losses.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.benchmarks.programs import initialised, static_paddle
from tests.benchmarks.row import Case, Of, Prepare, Quantity, Row, Sample, Target, Work

if TYPE_CHECKING:
    import graphtool as gt

__all__ = ["MEMORY", "ROWS"]

# Scopes and losses are Paddle's, which has no types.
_Paddle: TypeAlias = Any
Step: TypeAlias = Callable[[], object]

_BATCH, _SIDE, _STEPS = 8, 64, 3


def step(*parts: str) -> Prepare:
    """Run a step of `teacher`, `student` or `merged`, or of several, one after the other.

    Networks are built here; Paddle prepares its kernels in the first step, which nobody times.
    """
    steps = [_STEP_OF[name]() for name in parts]
    return lambda: Work(lambda: [one() for one in steps], _check_losses)


def _check_losses(found: list[list[_Paddle]]) -> None:
    assert all(math.isfinite(float(value.sum())) for (value,) in found)


def steps(part: str) -> Prepare:
    """Build a part and run its first steps, which is when memory grows."""

    def run() -> list[object]:
        one = _STEP_OF[part]()
        return [one() for _ in range(_STEPS)]

    return lambda: Work(run, _check_losses)


def parts() -> Prepare:
    """Take the larger peak of the two parts, each in a process of its own, and add the weights.

    The weights are those of the teacher, as bytes.
    """

    def run() -> Sample:
        graph = initialised("resnet50", _SIDE, train=False)[0].graph
        weights = sum(math.prod(value.shape or ()) * 4 for value in graph.parameters)
        return Sample(0.0, max(map(_elsewhere, ("teacher", "student"))) + weights)

    return lambda: Work(run)


def _elsewhere(part: str) -> int:
    asked = json.dumps([f"{__name__}:{steps.__name__}", [part]])
    command = [sys.executable, "-m", "tests.benchmarks.worker"]
    done = subprocess.run(
        command, input=f"{asked}\n", stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)["peak"]


def _teacher() -> Step:
    built, scope = initialised("resnet50", _SIDE, train=False)
    image = {"image": _feed()["image"]}
    return _running(built.program, scope, image, built.live.value(built.fetches[0]))


def _student() -> Step:
    import graphtool as gt

    built, scope = initialised("mobilenet_v1", _SIDE, train=True)
    with static_paddle().static.program_guard(built.program, built.startup):
        loss = _task_loss(built)
        gt.minimize(_optimizer(), loss)
    return _started(built, scope, loss)


def _merged() -> Step:
    import graphtool as gt

    theirs, their_scope = initialised("resnet50", _SIDE, train=False)
    built, scope = initialised("mobilenet_v1", _SIDE, train=True)
    joined = gt.merge(
        theirs, built, {"image": "image"}, scope=scope, teacher_scope=their_scope, share=True
    )
    pair = (_stage(theirs), _stage(built), "l2")
    with static_paddle().static.program_guard(built.program, built.startup):
        loss = _task_loss(built) + gt.distill_loss(joined, [pair]).total
        loss = loss + gt.losses.soft_label(theirs.fetches[0], built.fetches[0])
        gt.minimize(_optimizer(), loss)
    return _started(built, scope, loss)


_STEP_OF: Mapping[str, Callable[[], Step]] = {
    "teacher": _teacher,
    "student": _student,
    "merged": _merged,
}


def _stage(built: gt.Network) -> str:
    """Return the last activation of 512 maps at stride 32."""
    wanted, graph = (-1, 512, _SIDE // 32, _SIDE // 32), built.graph
    made = [one.results[0] for one in graph.operators.values() if one.kind == "relu"]
    return [name for name in made if graph.values[name].shape == wanted][-1]


def _task_loss(built: gt.Network) -> _Paddle:
    paddle = static_paddle()
    label = paddle.static.data("label", [None], "int64")
    return paddle.nn.functional.cross_entropy(built.live.value(built.fetches[0]), label)


def _optimizer() -> _Paddle:
    return static_paddle().optimizer.Momentum(0.01, 0.9, weight_decay=1e-4)


def _feed() -> dict[str, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.normal(size=(_BATCH, 3, _SIDE, _SIDE)).astype("float32")
    return {"image": images, "label": generator.integers(0, 1000, _BATCH)}


def _started(built: gt.Network, scope: _Paddle, loss: _Paddle) -> Step:
    paddle = static_paddle()
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(built.startup)
    return _running(built.program, scope, _feed(), loss)


def _running(program: _Paddle, scope: _Paddle, fed: dict[str, Any], fetched: _Paddle) -> Step:
    paddle = static_paddle()
    executor = paddle.static.Executor(paddle.CPUPlace())
    return lambda: executor.run(program, feed=fed, fetch_list=[fetched], scope=scope)


ROWS = (
    Row(
        name="step",
        about="a training step of mobilenet_v1 merged with resnet50, batch 8 of 64 × 64",
        ours=Case(about="the merged step", make=step, arguments=("merged",)),
        floor=Case(
            about="the teacher's forward pass, then the student's step",
            make=step,
            arguments=("teacher", "student"),
        ),
        targets=(Target(1.05, Of.FLOOR),),
    ),
)
MEMORY = (
    Row(
        name="step-memory",
        about="growth of the peak over the first three of those steps",
        ours=Case(about="merged", make=steps, arguments=("merged",), fresh=True),
        floor=Case(
            about="the larger of teacher and student, and the teacher's weights",
            make=parts,
            fresh=True,
        ),
        targets=(Target(1.1, Of.FLOOR, Quantity.PEAK),),
        quick=False,
    ),
)
