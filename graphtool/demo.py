"""Distil a small network from a bigger one, step by step, and keep the files for reading.

Each step prints what it does and what does the same on the command line or in a script of yours.
The images are made here, ten patterns and noise, and training lasts a moment: what the run shows
is how the parts fit together, not how well a student learns. It writes beside itself:

    python demo.py

The options and examples of every `graphtool COMMAND --help` can be tried on these files.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

import graphtool as gt

CLASSES, SIDE, BATCH = 10, 32, 16
PATTERNS = np.kron(np.random.RandomState(0).randn(CLASSES, 3, 4, 4), np.ones([SIDE // 4] * 2))
# Paddle 2.6 saves networks in another format. Its version is not among its typed names.
_PADDLE: Any = paddle
ENDING = "pdmodel" if _PADDLE.__version__.startswith("2.") else "json"
TEACHER, STUDENT = f"teacher.{ENDING}", f"student.{ENDING}"
INPUT, FEEDS = [("image", (3, SIDE, SIDE))], {"image": "image"}
BOTH = f"{TEACHER} {STUDENT}"


class Residual(nn.Layer):
    """Two convolutions and a shortcut around them; the first has a stride."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2D(before, after, 3, stride, padding=1, bias_attr=False)
        self.first_norm = nn.BatchNorm2D(after)
        self.second = nn.Conv2D(after, after, 3, padding=1, bias_attr=False)
        self.second_norm = nn.BatchNorm2D(after)
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2D(before, after, 1, stride), nn.BatchNorm2D(after)
            )
        self.relu = nn.ReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [N, before, H, W] to [N, after, H / stride, W / stride]."""
        y = self.relu(self.first_norm(self.first(x)))
        return self.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class Classifier(nn.Layer):
    """Three stages at 1/2, 1/4 and 1/8 of the size, a mean over places, and class scores."""

    def __init__(self, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        layers: list[nn.Layer] = []
        for before, after in zip((3, *widths[:-1]), widths, strict=True):
            layers += [Residual(before, after, 2), *(Residual(after, after) for _ in range(blocks))]
        self.stages = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.scores = nn.Linear(widths[-1], CLASSES)

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Map [N, 3, H, W] to [N, 10]."""
        return self.scores(self.pool(self.stages(image)).flatten(1))


def teacher() -> Classifier:
    """Make the network that teaches: 6 blocks."""
    return Classifier((16, 32, 64), blocks=1)


def student() -> Classifier:
    """Make the network that is taught: 3 blocks, half as wide."""
    return Classifier((8, 16, 32), blocks=0)


def batch(random: np.random.RandomState) -> dict[str, np.ndarray]:
    """Return images [16, 3, 32, 32] float32 and labels [16, 1] int64."""
    label = random.randint(0, CLASSES, [BATCH, 1])
    image = PATTERNS[label[:, 0]] + random.randn(BATCH, 3, SIDE, SIDE)
    return {"image": image.astype("float32"), "label": label.astype("int64")}


def step(does: str, typed: str) -> None:
    """Say what comes next, and what to type for the same."""
    sign = "$" if typed.startswith("graphtool") else ">>>"
    print(f"\n{does}\n  {sign} {typed}", flush=True)


def on_labels(logits: Any) -> Any:
    """Return the loss of class scores [N, 10] on the labels of a batch."""
    label = paddle.static.data("label", [None, 1], "int64")
    return paddle.nn.functional.cross_entropy(logits, label)


def learn(program: Any, startup: Any, losses: dict[str, Any], steps: int) -> None:
    """Run a Program that trains on batches, and print its losses."""
    executor: Any = paddle.static.Executor(paddle.CPUPlace())
    random = np.random.RandomState(1)
    executor.run(startup)
    for number in range(1, steps + 1):
        found = executor.run(program, batch(random), list(losses.values()))
        if number in (1, 2, steps):
            shown = (f"{name} {float(loss):.3f}" for name, loss in zip(losses, found, strict=True))
            print(f"step {number:2}:", ", ".join(shown))


def save_teacher() -> None:
    """Train the teacher for a moment, and save it."""
    network = gt.from_layer(teacher, INPUT)
    with paddle.static.program_guard(network.program, network.startup):
        loss = on_labels(network.value(network.fetches[0]))
        gt.minimize(paddle.optimizer.Adam(1e-3), loss)
    learn(network.program, network.startup, {"loss on labels": loss}, steps=20)
    print(gt.export_student(network, "teacher", force=True))


def save_student() -> gt.Network:
    """Save the student, and return it to be merged and trained."""
    network = gt.from_layer(student, INPUT)
    executor: Any = paddle.static.Executor(paddle.CPUPlace())
    executor.run(network.startup)
    print(gt.export_student(network, "student", force=True))
    return network


def draw(pairs: gt.PairSet) -> None:
    """Draw a page, which needs nothing, and a picture, which needs Graphviz."""
    gt.render(pairs, "pairs.html")
    try:
        gt.render(pairs, "pairs.svg")
    except gt.GraphtoolError as error:
        print(error)


def distil(merged: gt.Merged, ours: gt.Network, pairs: gt.PairSet) -> None:
    """Train the student for three steps, on labels and on what the teacher computes."""
    with paddle.static.program_guard(merged.program, ours.startup):
        own = on_labels(merged.student(ours.fetches[0]))
        distillation = gt.distill_loss(merged, pairs)
        gt.minimize(paddle.optimizer.Adam(1e-3), own + distillation.total)
    losses = {"loss on labels": own, "on pairs": distillation.total}
    learn(merged.program, ours.startup, losses, steps=3)


def main() -> None:
    """Go from two networks to a distilled student; all files go to the working directory."""
    # What Paddle's layers say of one another is nothing to act on.
    warnings.filterwarnings("ignore", category=UserWarning, module="paddle")
    paddle.seed(0)
    paddle.enable_static()
    np.savez("samples.npz", image=batch(np.random.RandomState(2))["image"])

    step("Train a teacher for a moment, and save it.", 'gt.export_student(network, "teacher")')
    save_teacher()
    step("Save a student that has learnt nothing.", 'gt.export_student(network, "student")')
    ours = save_student()

    step("Which feature maps go together?", f"graphtool suggest-pairs {BOTH} -o pairs.toml")
    pairs = gt.suggest_pairs(TEACHER, STUDENT)
    for pair in pairs:
        print(f"{pair.rank}  {pair.kind.value:9}  {pair.teacher.name:9}  {pair.student.name}")
    gt.write_recipe(pairs, "pairs.toml")
    step("Draw both, with their pairs.", f"graphtool render {BOTH} -o pairs.html")
    draw(pairs)

    step("May the teacher join the student's Program?", f"graphtool check {BOTH}")
    print(gt.check_merge(TEACHER, ours, FEEDS) or "nothing stands against it")
    step("Merge the two.", f"graphtool merge {BOTH} --pairs pairs.toml -o merged")
    merged = gt.merge(TEACHER, ours, FEEDS)
    gt.save_merged(merged, "merged", pairs=pairs, force=True)
    print(merged)
    step("Does each compute what it did alone?", "merged.verify()")
    print(merged.verify())

    step("Train the student on the pairs.", "gt.distill_loss(merged, pairs)")
    distil(merged, ours, pairs)
    step("Export it without a trace of the teacher.", 'gt.export_student(merged, "distilled")')
    print(gt.export_student(merged, "distilled", force=True))


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    main()
