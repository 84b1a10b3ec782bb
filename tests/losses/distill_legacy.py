"""Distil on legacy Programs, of Paddle 2.6 and of Paddle 3 inside OldIrGuard; prints `ok`."""

from __future__ import annotations

import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from contextlib import nullcontext
from typing import Any

import numpy as np
import paddle

import graphtool as gt


def network(x: Any, width: int, *, test: bool) -> None:
    layers, functional = paddle.static.nn, paddle.nn.functional
    for factor in (1, 2):
        x = layers.conv2d(x, factor * width, 3, stride=2, padding=1)
        x = functional.relu(layers.batch_norm(x, is_test=test))
    layers.fc(functional.adaptive_avg_pool2d(x, 1), 10)


def program(width: int, names: str, *, test: bool) -> tuple[Any, Any]:
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard(names):
        network(paddle.static.data("image", [-1, 3, 32, 32]), width, test=test)
    return main, startup


def contents(*programs: Any) -> list[tuple[list[str], list[str]]]:
    blocks = [one.global_block() for one in programs]
    return [([op.type for op in block.ops], sorted(block.vars)) for block in blocks]


def refused(merged: gt.Merged, startup: Any, pairs: Any, *wanted: str, **options: Any) -> None:
    before = contents(merged.program, startup)
    found: list[str] = []
    try:
        gt.distill_loss(merged, pairs, **options)
    except gt.GraphtoolError as error:
        found = [problem.code for problem in error.report]
    assert found == list(wanted)
    assert contents(merged.program, startup) == before


def main() -> None:
    executor, scope = paddle.static.Executor(), paddle.static.Scope()
    paddle.seed(3)
    teacher, start = program(16, "t_", test=True)
    executor.run(start, scope=scope)
    student, startup = program(8, "", test=False)
    executor.run(startup)
    pairs = gt.suggest_pairs(teacher, student)
    merged = gt.merge(teacher, student, {"image": "image"}, teacher_scope=scope)
    theirs, ours = pairs.pairs[0].teacher.name, pairs.pairs[0].student.name
    maps = [(pair.teacher.name, pair.student.name) for pair in pairs if pair.kind.value == "stage"]
    check_resize(executor)
    refused(merged, startup, pairs, "GT340")
    with paddle.static.program_guard(merged.program, startup):
        weight = paddle.static.data("weight", [1], "float32")
        paddle.static.data("label", [-1, 1], "int64")
        mixed = [*pairs, (maps[0][0], maps[1][1], "channel_wise")]
        refused(merged, startup, mixed, "GT333")
        refused(merged, startup, [maps[0]], "GT333")
        refused(merged, startup, pairs, "GT347", weights=[1.0])
        losses = [*pairs, *((theirs, ours, name) for name in ("dkd", "skd", "kl"))]
        loss = gt.distill_loss(merged, losses, weights={f"dkd_{ours}": weight}, label="label")
        paddle.optimizer.Adam(1e-3).minimize(loss.total)
        refused(merged, startup, pairs, "GT231")
    executor.run(startup)
    check(merged, loss, executor)


def check_resize(executor: Any) -> None:
    """Bring two maps whose sizes are known in a run alone to the smaller of their sides."""
    program = paddle.static.Program()
    arrays = [
        np.arange(2 * 3 * height * width, dtype="float32").reshape(2, 3, height, width)
        for height, width in ((4, 16), (8, 8))
    ]
    with paddle.static.program_guard(program):
        maps = [paddle.static.data(name, [-1, 3, -1, -1], "float32") for name in "ab"]
        sides = gt.losses.adapters.resize_to_smaller(*maps)
    feed = dict(zip("ab", arrays, strict=True))
    left, right = executor.run(program, feed=feed, fetch_list=list(sides))
    assert np.allclose(left, arrays[0].reshape(2, 3, 4, 8, 2).mean(4))
    assert np.allclose(right, arrays[1].reshape(2, 3, 4, 2, 8).mean(3))


def check(merged: gt.Merged, loss: gt.DistillLoss, executor: Any) -> None:
    names = [name for _, name in merged.plan.weights]
    adapters = [name for added in loss.adapters.values() for name in added]
    before = {name: tensor(name) for name in (*names, *adapters)}
    image = np.random.default_rng(0).random((4, 3, 32, 32), dtype="float32")
    feed = {"image": image, "label": np.array([[1], [2], [3], [4]])}
    totals: list[float] = []
    for step in range(10):
        given = np.float32(0.5 if step < 9 else 0.0)
        fetched = executor.run(
            merged.program,
            feed={**feed, "weight": np.array([given])},
            fetch_list=[loss.total, *loss.parts.values()],
        )
        weights = [given if name.startswith("dkd") else np.float32(1) for name in loss.parts]
        total = np.float32(0)
        for value, weight in zip(fetched[1:], weights, strict=True):
            total = np.float32(total + value * weight)
        assert np.float32(fetched[0]) == total, (fetched[0], total)
        totals.append(float(fetched[0]))
    assert np.isfinite(totals).all()
    assert totals[8] < totals[0], totals
    built = [str(pair.adapter) for pairs in loss.pairs.values() for pair in pairs]
    layers = sum(text.startswith(("conv1x1", "linear")) for text in built)
    assert layers >= 3, built
    assert len(adapters) == 2 * layers, adapters
    assert all(tensor(name).tobytes() == before[name].tobytes() for name in names)
    assert all((tensor(name) != before[name]).any() for name in adapters)


def tensor(name: str) -> Any:
    return np.array(paddle.static.global_scope().find_var(name).get_tensor()).copy()


def run() -> None:
    paddle.enable_static()
    guard = getattr(getattr(paddle, "pir_utils", None), "OldIrGuard", nullcontext)
    with guard(), paddle.static.scope_guard(paddle.static.Scope()):
        main()


if __name__ == "__main__":
    run()
    print("ok")
