"""The tutorial's script on legacy Programs, of Paddle 3 or 2.6; run by the tests, also alone."""

from __future__ import annotations

import json
import zlib  # noqa: F401  # Paddle 2.6 segfaults where it loads its own first
from contextlib import nullcontext
from typing import Any

import numpy as np
import paddle

from graphtool.compat import fsp_loss, l2_loss, loss, merge, soft_label_loss

guard = getattr(paddle.pir_utils, "OldIrGuard", nullcontext)
FEED = {"image": np.random.RandomState(0).rand(4, 3, 8, 8).astype("float32")}
WANTED = {
    "the student's Program": True,
    "l2": True,
    "finite": True,
    "falls": True,
    "the teacher moved": False,
}


def _network(feed: str, name: str) -> list[Any]:
    attribute = paddle.ParamAttr
    image = paddle.static.data(feed, [-1, 3, 8, 8])
    first = paddle.static.nn.conv2d(
        image, 8, 3, act="relu", param_attr=attribute(f"{name}1"), bias_attr=attribute(f"{name}2")
    )
    second = paddle.static.nn.conv2d(
        first, 8, 3, padding=1, param_attr=attribute(f"{name}3"), bias_attr=attribute(f"{name}4")
    )
    pooled = paddle.mean(second, axis=[2, 3])
    logits = paddle.static.nn.fc(
        pooled, 5, weight_attr=attribute(f"{name}5"), bias_attr=attribute(f"{name}6")
    )
    return [first, second, logits]


def outcome() -> dict[str, Any]:
    """Return what `WANTED` has, as it was found."""
    paddle.enable_static()
    with guard():
        return _tutorial()


def _tutorial() -> dict[str, Any]:
    scope, place = paddle.static.Scope(), paddle.CPUPlace()
    executor = paddle.static.Executor(place)
    student_program, student_startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(student_program, student_startup):
        ours = _network("image", "student")
    teacher_program, teacher_startup = paddle.static.Program(), paddle.static.Program()
    own_names = paddle.utils.unique_name.guard()
    with paddle.static.program_guard(teacher_program, teacher_startup), own_names:
        theirs = [value.name for value in _network("data", "taught")]
    names = [value.name for value in ours]
    with paddle.static.scope_guard(scope):
        executor.run(teacher_startup)
        executor.run(student_startup)
        returned = merge(teacher_program, student_program, {"data": "image"}, place)
        own_names = paddle.utils.unique_name.guard("loss_")
        with paddle.static.program_guard(student_program, student_startup), own_names:
            losses = [
                l2_loss(f"teacher_{theirs[1]}", names[1], student_program),
                soft_label_loss(f"teacher_{theirs[2]}", names[2], student_program, 2.0, 2.0),
                fsp_loss(*(f"teacher_{name}" for name in theirs[:2]), *names[:2], student_program),
                loss(_own, student_program, a=f"teacher_{theirs[0]}", b=names[0]),
            ]
            total = losses[0] + losses[1] + losses[2] + losses[3]
            paddle.optimizer.SGD(0.05).minimize(total)
        executor.run(student_startup)
        before = np.array(scope.find_var("teacher_taught1").get_tensor())
        runs = [
            _run(executor, student_program, total, *losses, *_ends(theirs, names)) for _ in "12345"
        ]
        after = np.array(scope.find_var("teacher_taught1").get_tensor())
    first, last = runs[0], runs[-1]
    return {
        "the student's Program": returned is student_program,
        "l2": bool(np.isclose(first[1], np.square(first[-2] - first[-1]).mean(), rtol=1e-5)),
        "finite": all(bool(np.isfinite(array).all()) for array in last),
        "falls": float(np.ravel(last[0])[0]) < float(np.ravel(first[0])[0]),
        "the teacher moved": before.tobytes() != after.tobytes(),
    }


def _ends(theirs: list[str], names: list[str]) -> tuple[str, str]:
    return f"teacher_{theirs[1]}", names[1]


def _own(a: Any, b: Any) -> Any:
    return paddle.mean(paddle.square(a - b))


def _run(executor: Any, program: Any, *fetch: Any) -> list[Any]:
    return executor.run(program, feed=FEED, fetch_list=list(fetch))


if __name__ == "__main__":
    print(json.dumps(outcome()))
