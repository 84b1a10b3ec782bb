"""What a merged training step costs beside its parts: `python -m tests.benchmarks.steps`.

A resnet50 teaches a mobilenet_v1, batch 8 of 64 × 64 on CPU: cross entropy on labels, an l2 between
one stage of each (the pair of the distillation tutorial: 512 maps at stride 32) and soft labels,
with momentum and weight decay. The merged step stands beside the teacher's forward pass alone plus
the student's step alone, which is the same without the two losses: medians of interleaved rounds in
one process. Then the peak of memory while steps run, over what the process holds once Paddle is
imported, for each of the three in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

import graphtool as gt

ROOT = Path(__file__).parents[2]
PARTS = ("teacher", "student", "merged")
BATCH, SIDE, WARM_UP = 8, 64, 3
IMAGE = [("image", (3, SIDE, SIDE))]
MOST_TIME, MOST_MEMORY = 1.05, 1.1
Step = Callable[[], object]


def feed() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(BATCH, 3, SIDE, SIDE)).astype("float32")
    return {"image": images, "label": generator.integers(0, 1000, BATCH)}


def network(make: Any, *, train: bool) -> tuple[gt.Network, Any]:
    """Build a network and initialise it in a Scope of its own."""
    built, scope = gt.from_layer(make, IMAGE, train=train), paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(built.startup)
    return built, scope


def teacher() -> Step:
    built, scope = network(paddle.vision.models.resnet50, train=False)
    image = {"image": feed()["image"]}
    return running(built.program, scope, image, built.live.value(built.fetches[0]))


def student() -> Step:
    built, scope = network(paddle.vision.models.mobilenet_v1, train=True)
    with paddle.static.program_guard(built.program, built.startup):
        loss = task_loss(built)
        gt.minimize(optimizer(), loss)
    return started(built, scope, loss)


def merged() -> Step:
    theirs, their_scope = network(paddle.vision.models.resnet50, train=False)
    built, scope = network(paddle.vision.models.mobilenet_v1, train=True)
    joined = gt.merge(
        theirs, built, {"image": "image"}, scope=scope, teacher_scope=their_scope, share=True
    )
    pair = (stage(theirs), stage(built), "l2")
    with paddle.static.program_guard(built.program, built.startup):
        loss = task_loss(built) + gt.distill_loss(joined, [pair]).total
        loss = loss + gt.losses.soft_label(theirs.fetches[0], built.fetches[0])
        gt.minimize(optimizer(), loss)
    return started(built, scope, loss)


def stage(built: gt.Network) -> str:
    """Return the last activation of 512 maps at stride 32."""
    wanted, graph = (-1, 512, SIDE // 32, SIDE // 32), built.graph
    made = [one.results[0] for one in graph.operators.values() if one.kind == "relu"]
    return [name for name in made if graph.values[name].shape == wanted][-1]


def task_loss(built: gt.Network) -> Any:
    label = paddle.static.data("label", [None], "int64")
    return nn.functional.cross_entropy(built.live.value(built.fetches[0]), label)


def optimizer() -> Any:
    return paddle.optimizer.Momentum(0.01, 0.9, weight_decay=1e-4)


def started(built: gt.Network, scope: Any, loss: Any) -> Step:
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(built.startup)
    return running(built.program, scope, feed(), loss)


def running(program: Any, scope: Any, fed: dict[str, Any], fetched: Any) -> Step:
    executor = paddle.static.Executor(paddle.CPUPlace())
    return lambda: executor.run(program, feed=fed, fetch_list=[fetched], scope=scope)


def times(rounds: int) -> dict[str, list[float]]:
    """Time each of the three in turns, after some steps that nobody times."""
    steps = {name: globals()[name]() for name in PARTS}
    taken: dict[str, list[float]] = {name: [] for name in PARTS}
    for turn in range(WARM_UP + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= WARM_UP:
                taken[name].append(time.perf_counter() - start)
    return taken


def memory(part: str) -> None:
    """Print the peak over what there was once Paddle was imported, and the teacher's weights."""
    before = _status("VmRSS")
    step = globals()[part]()
    Path("/proc/self/clear_refs").write_text("5")  # The peak counts from here.
    for _ in range(WARM_UP):
        step()
    print(json.dumps(_status("VmHWM") - before))


def weights() -> int:
    built = gt.from_layer(paddle.vision.models.resnet50, IMAGE, train=False)
    return sum(math.prod(value.shape or ()) * 4 for value in built.graph.parameters)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def elsewhere(part: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.steps", "--memory", part],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def report(rounds: int) -> None:
    taken = times(rounds)
    halves = zip(taken["teacher"], taken["student"], strict=True)
    taken["teacher + student"] = [sum(half) for half in halves]
    medians = {name: statistics.median(found) for name, found in taken.items()}
    print(f"{'step, ms':<20}{'median':>10}{'least':>10}")
    for name, found in taken.items():
        print(f"{name:<20}{medians[name] * 1000:>10.1f}{min(found) * 1000:>10.1f}")
    ratio = medians["merged"] / medians["teacher + student"]
    print(f"merged / (teacher + student): {ratio:.3f}, wanted at most {MOST_TIME}\n")
    peaks, held = {part: elsewhere(part) for part in PARTS}, weights()
    print(f"{'peak, MiB':<20}{'':>10}")
    for name, peak in (*peaks.items(), ("teacher's weights", held)):
        print(f"{name:<20}{peak / 2**20:>10.1f}")
    bound = max(peaks["teacher"], peaks["student"]) + held
    print(f"merged / (larger + weights): {peaks['merged'] / bound:.3f}, at most {MOST_MEMORY}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--memory", choices=PARTS)
    asked = parser.parse_args()
    paddle.enable_static()
    if asked.memory:
        memory(asked.memory)
    else:
        report(asked.rounds)


if __name__ == "__main__":
    main()
