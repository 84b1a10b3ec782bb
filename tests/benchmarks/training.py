"""What runs networks: a merged training step beside its parts, and evidence from data.

A resnet50 teaches a mobilenet_v1, batch 8 of 64 × 64 on CPU: cross entropy on labels, an l2 between
one stage of each (the pair of the distillation tutorial: 512 maps at stride 32) and soft labels,
with momentum and weight decay. Its parts are the teacher's forward pass alone and the student's
step alone, which is the same without the two losses. Evidence is of resnet18 and mobilenet_v1.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.benchmarks.programs import Paddle, initialised, static_paddle
from tests.benchmarks.sampling import SERVE, Case, Row, Sample, Target, Work, question

if TYPE_CHECKING:
    import graphtool as gt

Step: TypeAlias = Callable[[], Any]

_SIDE, _STEPS = 64, 3
_BATCH, _SAMPLES = 8, 32
_FEW, _MANY = 8, 32


def step(*parts: str) -> Work:
    """Run a step of `teacher`, `student` or `merged`, or of several, one after the other.

    Networks are built here; Paddle prepares its kernels in the first step, which nobody times.
    """
    steps = [_step_of(name) for name in parts]
    _check_losses((yield lambda: [one() for one in steps]))


def steps(part: str) -> Work:
    """Build a part and run its first steps, which is when memory grows."""

    def run() -> list[object]:
        one = _step_of(part)
        return [one() for _ in range(_STEPS)]

    _check_losses((yield run))


def _check_losses(found: list[list[Paddle]]) -> None:
    assert all(math.isfinite(float(value.sum())) for (value,) in found)


def parts() -> Work:
    """Take the larger peak of the two parts, each in a process of its own, and add the weights.

    The weights are those of the teacher, as bytes.
    """

    def run() -> Sample:
        graph = initialised("resnet50", _SIDE, train=False)[0].graph
        weights = sum(math.prod(value.shape or ()) * 4 for value in graph.parameters)
        return Sample(0.0, max(map(_elsewhere, ("teacher", "student"))) + weights)

    yield run


def _elsewhere(part: str) -> int:
    command = [sys.executable, "-c", SERVE]
    asked = question(steps, part)
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["peak"]


@cache
def _step_of(part: str) -> Step:
    import graphtool as gt

    paddle = static_paddle()
    if part != "student":
        teacher, teacher_scope = initialised("resnet50", _SIDE, train=False)
        if part == "teacher":
            return _forward(teacher, teacher_scope, _BATCH)
    built, scope = initialised("mobilenet_v1", _SIDE, train=True)
    if part == "merged":
        scopes = {"scope": scope, "teacher_scope": teacher_scope}
        joined = gt.merge(teacher, built, {"image": "image"}, **scopes, share=True)
    with paddle.static.program_guard(built.program, built.startup):
        label = paddle.static.data("label", [None], "int64")
        logits = built.live.value(built.fetches[0])
        loss = paddle.nn.functional.cross_entropy(logits, label)
        if part == "merged":
            pair = (_stage(teacher), _stage(built), "l2")
            loss = loss + gt.distill_loss(joined, [pair]).total
            loss = loss + gt.losses.soft_label(teacher.fetches[0], built.fetches[0])
        gt.minimize(paddle.optimizer.Momentum(0.01, 0.9, weight_decay=1e-4), loss)
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(built.startup)
    return _running(built.program, scope, _feed(), loss)


def _stage(built: gt.Network) -> str:
    """Return the last activation of 512 maps at stride 32."""
    wanted, graph = (-1, 512, _SIDE // 32, _SIDE // 32), built.graph
    made = [one.results[0] for one in graph.operators.values() if one.kind == "relu"]
    return [name for name in made if graph.values[name].shape == wanted][-1]


def _feed(batch: int = _BATCH) -> dict[str, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.normal(size=(batch, 3, _SIDE, _SIDE)).astype("float32")
    return {"image": images, "label": generator.integers(0, 1000, batch)}


def _forward(one: gt.Network, scope: Paddle, batch: int) -> Step:
    image = {"image": _feed(batch)["image"]}
    return _running(one.program, scope, image, one.live.value(one.fetches[0]))


def _running(program: Paddle, scope: Paddle, fed: dict[str, Any], fetched: Paddle) -> Step:
    paddle = static_paddle()
    executor = paddle.static.Executor(paddle.CPUPlace())
    return lambda: executor.run(program, feed=fed, fetch_list=[fetched], scope=scope)


def batch() -> Work:
    """Take in one batch more; opening both networks is over."""
    evidence = yield lambda: next(_endless())
    assert evidence.samples == evidence.batches * _SAMPLES
    assert evidence.scores


@cache
def _endless() -> Iterator[Any]:
    return _gathered(1_000_000)


def batches(count: int) -> Work:
    """Take in so many batches, networks opened first."""
    found = yield lambda: list(_gathered(count))
    assert found[-1].batches == count


def forward() -> Work:
    """Run both networks on one batch and fetch their logits."""
    runs = _forwards()
    _check_losses((yield lambda: [run() for run in runs]))


@cache
def _forwards() -> list[Step]:
    return [_forward(one, scope, _SAMPLES) for one, scope in _compared()]


@cache
def _compared() -> list[tuple[gt.Network, Paddle]]:
    return [initialised(name, _SIDE, train=False) for name in ("resnet18", "mobilenet_v1")]


def _gathered(count: int) -> Iterator[Any]:
    import graphtool as gt
    from graphtool.evidence import names_to_measure
    from graphtool.evidence.cka import gather

    (teacher, teacher_scope), (student, scope) = _compared()
    programs, scopes = (teacher.program, student.program), (teacher_scope, scope)
    samples = ({"image": _feed(_SAMPLES)["image"]} for _ in range(count))
    names = names_to_measure(gt.suggest_pairs(*programs))
    # The weights are drawn at random, which costs the same as any.
    return gather(*programs, names, samples, batches=count, scopes=scopes, allow_random=True)


_PAIR = f"resnet18 and mobilenet_v1, {_SAMPLES} images of {_SIDE} × {_SIDE}"
_PARTS = "the teacher's forward pass, then the student's step"
_LARGER = "the larger of teacher and student, and the teacher's weights"

STEP = (
    Row(
        "step",
        "a training step of mobilenet_v1 merged with resnet50, batch 8 of 64 × 64",
        Case(step, ("merged",)),
        (Target(1.05, "floor"),),
        floor=Case(step, ("teacher", "student"), _PARTS),
    ),
)
EVIDENCE = (
    Row(
        "evidence",
        f"one batch of evidence: {_PAIR}",
        Case(batch),
        (Target(None, "floor"),),
        floor=Case(forward, about="both networks run on it, logits fetched"),
    ),
)
MEMORY = (
    Row(
        "step-memory",
        "growth of the peak over the first three of those steps",
        Case(steps, ("merged",), fresh=True),
        (Target(1.1, "floor", "peak"),),
        floor=Case(parts, about=_LARGER, fresh=True),
        quick=False,
    ),
    Row(
        "evidence-memory",
        f"growth of the peak over {_MANY} batches: {_PAIR}",
        Case(batches, (_MANY,), fresh=True),
        (Target(1.1, "floor", "peak"),),
        floor=Case(batches, (_FEW,), f"{_FEW} batches", fresh=True),
        quick=False,
    ),
)
