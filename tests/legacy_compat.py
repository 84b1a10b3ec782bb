"""The tutorial's script, also on legacy Programs of Paddle 3 or 2.6; run by the tests and alone."""

from __future__ import annotations

import json
import zlib  # noqa: F401  # Paddle 2.6 segfaults where it loads its own first
from contextlib import nullcontext
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.compat import fsp_loss, l2_loss, loss, merge, soft_label_loss

FEED = {"image": np.random.RandomState(0).rand(4, 3, 8, 8).astype("float32")}
WANTED = {
    "the student's Program": True,
    "l2": True,
    "finite": True,
    "falls": True,
    "the teacher moved": False,
}


class Script:
    """What stands before `merge` in the tutorial: two programs in one Scope, initialised."""

    def __init__(self, *, start_teacher: bool = True) -> None:
        paddle.enable_static()
        self.place = paddle.CPUPlace()
        self.executor = paddle.static.Executor(self.place)
        self.scope = paddle.static.Scope()
        self.teacher, teacher_startup, self.teacher_maps = network("data", 16)
        self.student, self.startup, self.student_maps = network("image", 16, names="student_")
        with paddle.static.scope_guard(self.scope):
            self.executor.run(self.startup)
            if start_teacher:
                self.executor.run(teacher_startup)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The first arguments of `merge`."""
        return self.teacher, self.student, {"data": "image"}, self.place, self.scope

    def values(self, *fetch: Any) -> list[Any]:
        program = self.student
        return self.executor.run(program, feed=FEED, fetch_list=list(fetch), scope=self.scope)


def network(feed: str, width: int, names: str = "") -> tuple[Any, Any, list[Any]]:
    """Return a Program, its startup Program, and its maps and logits."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard(names):
        image = paddle.static.data(feed, [-1, 3, 8, 8])
        first = F.relu(nn.Conv2D(3, width, 3)(image))
        second = F.relu(nn.Conv2D(width, width, 3, padding=1)(first))
        logits = nn.Linear(width, 5)(second.mean([2, 3]))
    return main, startup, [first, second, logits]


def outcome() -> dict[str, Any]:
    """Return what `WANTED` has of legacy Programs, as it was found."""
    with getattr(paddle.pir_utils, "OldIrGuard", nullcontext)():
        script = Script()
        returned = merge(*script.ends)
        teacher = [f"teacher_{value.name}" for value in script.teacher_maps]
        student = [value.name for value in script.student_maps]
        guards = paddle.static.program_guard(script.student, script.startup)
        with guards, paddle.utils.unique_name.guard("loss_"):
            losses = [
                l2_loss(teacher[1], student[1], script.student),
                soft_label_loss(teacher[2], student[2], script.student, 2.0, 2.0),
                fsp_loss(*teacher[:2], *student[:2], script.student),
                loss(_squared, script.student, a=teacher[0], b=student[0]),
            ]
            total = sum(losses[1:], losses[0])
            paddle.optimizer.SGD(0.05).minimize(total)
        script.executor.run(script.startup, scope=script.scope)
        weight = script.scope.find_var("teacher_conv2d_0.w_0").get_tensor()
        before = np.array(weight).tobytes()
        runs = [script.values(total, *losses, teacher[1], student[1]) for _ in range(5)]
        first, last = runs[0], runs[-1]
        return {
            "the student's Program": returned is script.student,
            "l2": bool(np.isclose(first[1], np.square(first[-2] - first[-1]).mean(), rtol=1e-5)),
            "finite": all(bool(np.isfinite(array).all()) for array in last),
            "falls": float(np.ravel(last[0])[0]) < float(np.ravel(first[0])[0]),
            "the teacher moved": before != np.array(weight).tobytes(),
        }


def _squared(a: Any, b: Any) -> Any:
    return paddle.mean(paddle.square(a - b))


if __name__ == "__main__":
    print(json.dumps(outcome()))
