"""What the tests run on legacy Programs, of Paddle 3 or, as a script, of 2.6.

`legacy.py WHAT [PATH]` prints what the function WHAT returns.
"""

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

from graphtool.backend.live import LiveProgram
from graphtool.merging import merge
from graphtool.sources import read
from graphtool.sources.layers import from_layer
from graphtool.training import export_student, for_test, for_training, load_parameters
from tests.merging.networks import Built, array_in, build, bytes_of, run, steps

guard = getattr(paddle.pir_utils, "OldIrGuard", nullcontext)
HAS_BRANCHES = guard is nullcontext
SHAPE = (3, 8, 8)
X = np.random.RandomState(0).rand(4, *SHAPE).astype("float32")
LABEL = np.array([[0], [1], [2], [3]])

EVALUATED = {
    "as built for evaluation": True,
    "share of what is right": True,
    "Variables changed": [],
    "feeds": ["x", "label"],
    "feeds of the logits": ["x"],
    "trains": [],
    "not in test mode": [],
}
EXPORTED = {
    "files": ["student.pdiparams", "student.pdmodel", "student.pdparams"],
    "sizes of a student never merged": True,
    "as it was in the merged program": True,
    "of the teacher": [],
    "the Layer loads it": [[], []],
    "as the Layer answers": True,
}


class Student(nn.Layer):
    """Convolution, batch norm, dropout, linear."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, width, 3), nn.BatchNorm2D(width)
        self.dropout, self.head = nn.Dropout(0.4), nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.dropout(F.relu(self.norm(self.conv(x))).mean([2, 3])))


class Teacher(Student):
    """Another one, whose names don't collide."""


class Joined(nn.Layer):
    """Two branches that come together, and biases that translation reshapes."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2D(3, 4, 3), nn.Conv2D(3, 4, 3)
        self.norm = nn.BatchNorm2D(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        both = paddle.concat([self.left(x), self.right(x)], axis=1)
        return self.head(F.relu(self.norm(both)).mean([2, 3]))


def _forward(x: Any, *, train: bool) -> Any:
    mode = nn.Layer.train if train else nn.Layer.eval
    norm, inner = nn.BatchNorm2D(6), nn.BatchNorm2D(6)
    mode(norm), mode(inner)
    x = F.dropout(F.relu(norm(nn.Conv2D(3, 6, 3)(x))), 0.3, training=train)
    if HAS_BRANCHES:
        x = paddle.static.nn.cond(
            x.mean() > -100, lambda: F.dropout(inner(x), 0.4, training=train), lambda: x * 2
        )
    x = x.mean([2, 3])
    count = paddle.full([1], 0, "int64")
    _, x = paddle.static.nn.while_loop(
        lambda count, _: count < 3,
        lambda count, x: [count + 1, F.dropout(x * 1.5, training=train)],
        [count, x],
    )
    return nn.Linear(6, 5)(x)


def _built(*, train: bool) -> Built:
    """Build a network that trains, or one for evaluation; its outputs are logits, loss, share."""

    def network(x: Any, label: Any) -> tuple[Any, ...]:
        logits = _forward(x, train=train)
        loss = F.cross_entropy(logits, label).mean()
        if train:
            rate = paddle.optimizer.lr.StepDecay(0.1, 1)
            paddle.optimizer.Adam(rate).minimize(loss)
        return logits, loss, paddle.static.accuracy(F.softmax(logits), label)

    feeds = ("x", [-1, *SHAPE], "float32"), ("label", [-1, 1], "int64")
    return build(network, *feeds, kind="legacy", seed=0, start=train)


def evaluated() -> dict[str, Any]:
    """Evaluate a Program that trains: what `EVALUATED` has, as it was found."""
    feed, trained, alone = {"x": X, "label": LABEL}, _built(train=True), _built(train=False)
    logits, loss, right = trained.output
    trained.run(feed, loss)
    whole = for_test(trained.program, fetch=[logits, right.name, loss])
    only = for_test(trained.program, fetch=[logits.name])
    (want,) = trained.run(feed, alone.output[0], program=alone.program)
    held = [var.name for var in trained.program.list_vars() if var.persistable]
    names = [name for name in held if name not in ("feed", "fetch")]
    before = bytes_of(trained.scope, names)
    got, share, _ = trained.run(feed, *whole.fetches, program=whole.program)
    trained.run({"x": X}, *only.fetches, program=only.program)
    after = bytes_of(trained.scope, names)
    operators = LiveProgram.of(whole.program).graph.operators.values()
    right_share = float(np.mean(want.argmax(1) == LABEL.ravel()))
    return {
        "as built for evaluation": want.tobytes() == got.tobytes() and bool(want.std() > 0),
        "share of what is right": float(np.ravel(share)[0]) == right_share,
        "Variables changed": [name for name in names if after[name] != before[name]],
        "feeds": list(whole.feeds),
        "feeds of the logits": list(only.feeds),
        "trains": [
            one.name for one in operators if one.kind.endswith("_grad") or one.kind == "adam"
        ],
        "not in test mode": [
            one.name for one in operators if not one.attributes.get("is_test", True)
        ],
    }


def exported(path: str) -> dict[str, Any]:
    """Export a merged student into a folder: what `EXPORTED` has, as it was found."""
    paddle.enable_static()
    folder, feed = Path(path), {"image": X}
    scope, theirs, others = (paddle.static.Scope() for _ in range(3))
    spec = [("image", SHAPE, "float32")]
    with guard():
        teacher = from_layer(Teacher, spec, train=False)
        student, alone = (from_layer(Student, spec, train=True) for _ in range(2))
        for net, own in ((teacher, theirs), (student, scope), (alone, others)):
            run(net.startup, own, {})
        merged = merge(teacher, student, {"image": "image"}, scope=scope, teacher_scope=theirs)
        own_names = paddle.utils.unique_name.guard("loss_")
        with paddle.static.program_guard(merged.program, student.startup), own_names:
            answer = merged.student(student.fetches[0])
            loss = F.mse_loss(answer, merged.teacher(teacher.fetches[0]))
            paddle.optimizer.Momentum(0.1).minimize(loss)
        run(student.startup, scope, {})
        run(merged.program, scope, feed, loss)
    # From one line, for a legacy file keeps the stack of calls that wrote it.
    for one, name, held in ((merged, "student", scope), (alone, "alone", others)):
        export_student(one, folder / name, scope=held)
    test, fetches = for_test(merged)
    (want,) = run(test, scope, feed, *fetches)
    loaded = paddle.static.Scope()
    with guard(), paddle.static.scope_guard(loaded):
        program, feeds, found = paddle.static.load_inference_model(
            str(folder / "student"), paddle.static.Executor()
        )
    (got,) = run(program, loaded, {feeds[0]: X}, *found)
    graph = read(folder / "student.pdmodel")
    paddle.disable_static()
    layer = Student()
    left = layer.set_state_dict(paddle.load(str(folder / "student.pdparams")))
    layer.eval()
    sizes = [
        [file.stat().st_size for file in sorted(folder.glob(f"{name}.pd*"))]
        for name in ("student", "alone")
    ]
    return {
        "files": sorted(file.name for file in folder.glob("student.pd*")),
        "sizes of a student never merged": sizes[0] == sizes[1],
        "as it was in the merged program": got.tobytes() == want.tobytes() and bool(want.std() > 0),
        "of the teacher": [name for name in graph.values if "teacher" in name],
        "the Layer loads it": list(left),
        "as the Layer answers": layer(paddle.to_tensor(X)).numpy().tobytes() == want.tobytes(),
    }


def sums(file: str) -> list[float]:
    """Load a state dict into a network, and return the sum of each tensor."""
    net, scope = from_layer(Student, [SHAPE]), paddle.base.core.Scope()
    load_parameters(net, file, scope=scope)
    arrays = (array_in(scope, one) for _, one in sorted(net.parameters.items()))
    return [float(array.astype("float64").sum()) for array in arrays]


def losses(path: str) -> list[list[str]]:
    """Export a network, and train it in dynamic mode and made trainable again."""
    layer = Joined()
    layer.eval()
    spec = paddle.static.InputSpec([-1, *SHAPE], "float32", "x")
    paddle.jit.save(layer, f"{path}/inference", input_spec=[spec])
    layer.train()
    optimizer, dynamic = paddle.optimizer.SGD(0.1, parameters=layer.parameters()), list[str]()
    for _ in range(4):
        loss = (layer(paddle.to_tensor(X)) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        dynamic.append(loss.numpy().tobytes().hex())
    paddle.enable_static()
    trainable, scope = for_training(path), paddle.base.core.Scope()
    startup, names = paddle.static.Program(), paddle.utils.unique_name.guard("loss_")
    with paddle.static.program_guard(trainable.program, startup), names:
        loss = (trainable.value(trainable.fetches[0]) ** 2).mean()
        paddle.optimizer.SGD(0.1).minimize(loss)
    run(startup, scope, {})
    load_parameters(trainable.program, path, scope=scope)
    static = steps(4, trainable.program, scope, {"x": X}, loss)
    return [dynamic, [value.tobytes().hex() for (value,) in static]]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
