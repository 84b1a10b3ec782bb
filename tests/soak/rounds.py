"""Rounds of a soak: each builds two networks of its own, works on them, and lets all of it go."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

import graphtool as gt

IMAGE = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("float32")
PAIRS = 5


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network that has been initialised in a Scope of its own."""

    program: Any
    startup: Any
    scope: Any


@contextmanager
def networks(*widths: int, legacy: bool) -> Iterator[list[Built]]:
    """Build networks, and free their Scopes afterwards, which Paddle would keep until it exits."""
    with mode(legacy=legacy):
        built = [network(width) for width in widths]
        yield built
        for one in built:
            one.scope._remove_from_pool()


def mode(*, legacy: bool) -> AbstractContextManager[Any]:
    """Work on Programs of one kind."""
    return paddle.pir_utils.OldIrGuard() if legacy else nullcontext()


def network(width: int) -> Built:
    """Build two convolutions with batch norms, and a classifier."""
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    guards = paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard()
    with guards[0], guards[1]:
        x = paddle.static.data("image", [-1, 3, 8, 8])
        for index in range(2):
            before, after = x.shape[1], width * 2**index
            x = nn.Conv2D(before, after, 3, 2, 1, bias_attr=False)(x)
            x = nn.functional.relu(nn.BatchNorm2D(after)(x))
        nn.Linear(2 * width, 5)(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.static.scope_guard(scope):
        executor.run(startup)
    return Built(program=main, startup=startup, scope=scope)


def everything(number: int, *, legacy: bool = False) -> None:
    """Suggest pairs, merge, add losses, train a step; verify, draw and export now and then."""
    with networks(8, 4, legacy=legacy) as (teacher, student):
        pairs = gt.suggest_pairs(teacher.program, student.program)
        assert len(pairs) == PAIRS
        scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
        merged = gt.merge(teacher.program, student.program, {"image": "image"}, **scopes)
        if number % 10 == 0:
            assert merged.verify({"image": IMAGE}).equal
        with paddle.static.program_guard(merged.program, student.startup):
            loss = gt.distill_loss(merged, pairs).total
            gt.minimize(paddle.optimizer.SGD(0.1), loss)
        executor = paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.scope_guard(student.scope):
            executor.run(student.startup)
            executor.run(student.program, feed={"image": IMAGE}, fetch_list=[loss])
        if number % 10 == 5:
            assert "digraph" in gt.render(merged).dot
            with tempfile.TemporaryDirectory() as folder:
                gt.export_student(merged, Path(folder) / "student", scope=student.scope)
                saved = f"{folder}/student.{'pdmodel' if legacy else 'json'}"
                assert gt.read(saved).feeds == ("image",)
