"""All losses on live legacy Programs, on Paddle 2.6.2 or on Paddle 3 inside of OldIrGuard.

`python -m tests.losses.legacy` prints what came out, as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import paddle

from graphtool import losses
from graphtool.diagnostics import GraphtoolError
from tests.losses import reference
from tests.losses.cases import CASES, run
from tests.losses.merges import FEED, built, inside, merged_with, sizes
from tests.merging.networks import Built


@contextmanager
def legacy() -> Iterator[None]:
    """Let Paddle 3 build and run legacy Programs; Paddle 2.6 does by itself."""
    guard = getattr(paddle.pir_utils, "OldIrGuard", None)
    with nullcontext() if guard is None else guard():
        yield


def refusals() -> dict[str, list[str]]:
    """Return the codes that bad input gets; operators left behind would be one more."""
    teacher = built(8, probabilities=True)
    softmax = made_by(teacher, "softmax")
    merged, student = merged_with(teacher)
    relu, logits = made_by(student, "relu"), student.output.name
    other = paddle.static.Program()
    with paddle.static.program_guard(other):
        foreign = paddle.static.data("foreign", [-1, 5])
    with inside(student):
        labels = paddle.static.data("labels", [-1, 5], "float32")
        found = {
            "unknown names": refusal(student, partial(losses.l2, "no_such_name", "nor_this")),
            "shapes": refusal(student, partial(losses.l2, relu, relu)),
            "ranks": refusal(student, partial(losses.l2, relu, logits)),
            "softmax": refusal(student, partial(losses.soft_label, softmax, logits)),
            "frozen": refusal(student, partial(losses.similarity, relu, merged.teacher(relu))),
            "foreign": refusal(student, partial(losses.kl, logits, foreign)),
            "labels": refusal(student, partial(losses.dkd, logits, logits, labels=labels)),
            "temperature": refusal(student, partial(losses.kl, logits, logits, temperature=0)),
            "custom": refusal(student, partial(losses.custom, dict, x=3)),
        }
        map_, jumps = merged.student(relu), paddle.cast(merged.student(logits) > 0, "float32")
        mixed, one = paddle.reshape(map_, [-1, 8, 8, 4]), merged.student(logits)[:, :1]
        found["axis"] = refusal(student, partial(losses.kl, mixed, mixed))
        found["one class"] = refusal(student, partial(losses.kl, one, one))
        found["jumps"] = refusal(student, partial(losses.l2, logits, jumps))
        learning = [one for one in student.program.all_parameters() if one.trainable]
        for parameter in learning:
            parameter.trainable = False
        found["frozen parameters"] = refusal(student, partial(losses.kl, logits, logits))
        for parameter in learning:
            parameter.trainable = True
        paddle.optimizer.SGD(0.1).minimize(paddle.mean(merged.student(logits)))
        found["minimized"] = refusal(student, partial(losses.kl, logits, logits))
    return found


def refusal(student: Built, call: Callable[[], Any]) -> list[str]:
    before = sizes(student)
    try:
        call()
    except GraphtoolError as error:
        left = [] if sizes(student) == before else ["something was built"]
        return [found.code for found in error.report] + left
    except (TypeError, ValueError) as error:
        return [repr(error)]
    return ["nothing was found"]


def broadcast() -> str:
    """Return how a run ends whose shapes would broadcast."""
    main = paddle.static.Program()
    with paddle.static.program_guard(main, paddle.static.Program()):
        ends = [paddle.static.data(name, [-1, 4, -1, -1]) for name in ("teacher", "student")]
        ends[1].stop_gradient = False
        loss = losses.l2(*ends)
    feed = {
        "teacher": np.ones((2, 4, 6, 6), "float32"),
        "student": np.ones((2, 4, 1, 1), "float32"),
    }
    try:
        paddle.static.Executor().run(main, feed=feed, fetch_list=[loss])
    except ValueError as error:
        return "[2, 4, 1, 1], X[1]'s shape = [2, 4, 6, 6]" if "same shape" in str(error) else ""
    return "no error"


def fixed_batches() -> bool:
    """Tell whether a teacher that was exported at a batch of 1 is compared right at 8."""
    merged, student = merged_with(built(4, batch=1), batch=8)
    relu = made_by(student, "relu")
    ends = merged.teacher(relu), merged.student(relu)
    with inside(student):
        loss = losses.l2(*ends)
    feed = {"image": np.repeat(FEED["image"], 2, axis=0)}
    value, *arrays = student.run(feed, loss, *ends)
    assert ends[0].shape[0] == 1
    return bool(np.isclose(value, reference.l2(*arrays), rtol=1e-5))


def classes_of_maps() -> bool:
    """Tell whether the classes of a map are found by its name."""
    merged, student = merged_with(built(4, seed=2))
    relu = made_by(student, "relu")
    ends = merged.teacher(relu), merged.student(relu)
    with inside(student):
        found = [losses.kl(relu, relu), losses.kl(*ends, axis=1)]
    *values, theirs, ours = student.run(FEED, *found, *ends)
    wanted = reference.kl(theirs, ours, axis=1)
    return bool(np.allclose(values, wanted, rtol=1e-4) and wanted > 1e-4)


def made_by(network: Built, type: str) -> str:
    """Return the name of what the first operator of a type makes; versions name it differently."""
    ops = network.program.global_block().ops
    return next(op.output("Out")[0] for op in ops if op.type == type)


def main() -> None:
    # Paddle keeps the call stack with each operator; one frame of it takes a fifth less time.
    sys.tracebacklimit = 1
    paddle.enable_static()
    with legacy():
        answers = {
            "version": paddle.__version__,
            "wrong": [case.name for case in CASES if not run(case).agrees()],
            "refusals": refusals(),
            "broadcast": broadcast(),
            "fixed batches": fixed_batches(),
            "classes of maps": classes_of_maps(),
        }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
