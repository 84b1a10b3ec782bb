"""Export a merged legacy student, on Paddle 3 or 2.6; run by the tests, also as a script."""

from __future__ import annotations

import json
import sys
import zlib  # noqa: F401  # Paddle 2.6 segfaults where it loads its own first
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.merging import merge
from graphtool.sources import read
from graphtool.sources.layers import from_layer
from graphtool.training import export_student, for_test

guard = getattr(paddle.pir_utils, "OldIrGuard", nullcontext)
IMAGE = ("image", (3, 8, 8), "float32")
FEED = {"image": np.random.RandomState(0).rand(4, 3, 8, 8).astype("float32")}
WANTED = {
    "files": ["student.pdiparams", "student.pdmodel", "student.pdparams"],
    "sizes of a student never merged": True,
    "as it was in the merged program": True,
    "of the teacher": [],
    "the Layer loads it": [[], []],
    "as the Layer answers": True,
}


class Student(nn.Layer):
    """Convolution, batch norm, dropout, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Linear(4, 5)
        self.dropout = nn.Dropout(0.4)

    def forward(self, x: Any) -> Any:
        return self.head(self.dropout(F.relu(self.norm(self.conv(x))).mean([2, 3])))


class Teacher(Student):
    """Another one, whose names don't collide."""


def outcome(folder: Path) -> dict[str, Any]:
    """Return what `WANTED` has, as it was found."""
    paddle.enable_static()
    executor, scope, theirs = paddle.static.Executor(), *_scopes()
    with guard():
        teacher = from_layer(Teacher, [IMAGE], train=False)
        student = from_layer(Student, [IMAGE], train=True)
        executor.run(teacher.startup, scope=theirs)
        executor.run(student.startup, scope=scope)
        merged = merge(teacher, student, {"image": "image"}, scope=scope, teacher_scope=theirs)
        own_names = paddle.utils.unique_name.guard("loss_")
        with paddle.static.program_guard(merged.program, student.startup), own_names:
            answer = merged.student(student.fetches[0])
            loss = F.mse_loss(answer, merged.teacher(teacher.fetches[0]))
            paddle.optimizer.Momentum(0.1).minimize(loss)
        executor.run(student.startup, scope=scope)
        executor.run(merged.program, feed=FEED, fetch_list=[loss], scope=scope)
    with guard():
        alone, others = from_layer(Student, [IMAGE], train=True), paddle.static.Scope()
        executor.run(alone.startup, scope=others)
    # From one line, for a legacy file keeps the stack of calls that wrote it.
    for one, name, held in ((merged, "student", scope), (alone, "alone", others)):
        export_student(one, folder / name, scope=held)
    written = sorted(path.name for path in folder.glob("student.pd*"))
    test, fetches = for_test(merged)
    with guard():
        (want,) = executor.run(test, feed=FEED, fetch_list=list(fetches), scope=scope)
        with paddle.static.scope_guard(paddle.static.Scope()):
            program, feeds, found = paddle.static.load_inference_model(
                str(folder / "student"), executor
            )
            (got,) = executor.run(program, feed={feeds[0]: FEED["image"]}, fetch_list=found)
    graph = read(folder / "student.pdmodel")
    paddle.disable_static()
    layer = Student()
    left = layer.set_state_dict(paddle.load(str(folder / "student.pdparams")))
    layer.eval()
    return {
        "files": written,
        "sizes of a student never merged": _sizes(folder, "student") == _sizes(folder, "alone"),
        "as it was in the merged program": got.tobytes() == want.tobytes() and bool(want.std() > 0),
        "of the teacher": [name for name in graph.values if "teacher" in name],
        "the Layer loads it": list(left),
        "as the Layer answers": layer(paddle.to_tensor(FEED["image"])).numpy().tobytes()
        == want.tobytes(),
    }


def _scopes() -> tuple[Any, Any]:
    return paddle.static.Scope(), paddle.static.Scope()


def _sizes(folder: Path, name: str) -> list[int]:
    return [path.stat().st_size for path in sorted(folder.glob(f"{name}.pd*"))]


if __name__ == "__main__":
    print(json.dumps(outcome(Path(sys.argv[1]))))
