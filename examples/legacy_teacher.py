"""Let a model that an older Paddle saved teach a student of today's Paddle.

`--teacher` names the `.pdmodel` of an image classifier, its `.pdiparams` beside it; Paddle 2 wrote
such files. Without it the script trains one and saves it in that form. The student learns from the
teacher's answers alone, and there are no labels; how often both agree is printed before and after.
Images are noise over ten patterns, which a teacher of one's own knows nothing of:

    python examples/legacy_teacher.py --steps 150 --teacher inference.pdmodel
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

import graphtool as gt

BATCH, SHAPE, CLASSES = 32, (3, 32, 32), 10


def reader(shape: tuple[int, ...], steps: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield batches: images [32, *shape] float32, and which pattern each was made of."""
    channels, height, width = shape
    coarse = np.random.RandomState(0).randn(CLASSES, channels, 4, 4)
    patterns = np.kron(coarse, np.ones([-(-height // 4), -(-width // 4)]))[..., :height, :width]
    random = np.random.RandomState(seed)
    for _ in range(steps):
        made_of = random.randint(0, CLASSES, [BATCH])
        image = patterns[made_of] + random.randn(BATCH, *shape)
        yield image.astype("float32"), made_of[:, None]


def network(width: int, classes: int) -> nn.Layer:
    """Make three convolutions with batch norms, dropout and a linear layer."""
    layers: list[nn.Layer] = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2D(before, after, 3, 2, 1), nn.BatchNorm2D(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(4 * width, classes))


def make_teacher(folder: Path, steps: int) -> Path:
    """Train a classifier as a legacy Program and save it as Paddle 2 did."""
    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.pir_utils.OldIrGuard(), paddle.static.scope_guard(paddle.static.Scope()):
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup):
            image = paddle.static.data("x", [None, *SHAPE])
            label = paddle.static.data("label", [None, 1], "int64")
            logits = network(24, CLASSES)(image)
            loss = F.cross_entropy(logits, label)
            paddle.optimizer.Adam(1e-3).minimize(loss)
        executor.run(startup)
        for images, labels in reader(SHAPE, steps, seed=1):
            executor.run(main, {"x": images, "label": labels}, [loss])
        paddle.static.save_inference_model(
            str(folder / "inference"), [image], [logits], executor, program=main
        )
    return folder / "inference.pdmodel"


def agreement(executor: Any, test: Any, fetches: Any, feed: str, shape: tuple[int, ...]) -> float:
    """Return the share of unseen images that teacher and student answer alike."""
    shares = []
    for image, _ in reader(shape, 10, seed=3):
        theirs, ours = executor.run(test, {feed: image}, list(fetches))
        shares.append(np.mean(theirs.argmax(1) == ours.argmax(1)))
    return float(np.mean(shares))


def main() -> None:
    """Distil, and print how often student and teacher agree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher", type=Path, help="a .pdmodel with its .pdiparams")
    parser.add_argument("--softmax", action="store_true", help="the teacher ends in softmax")
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    paddle.seed(0)
    paddle.enable_static()
    file = arguments.teacher or make_teacher(Path(mkdtemp()), arguments.steps)

    teacher = gt.read(file)
    (feed,), answer = teacher.feeds, teacher.fetches[0]
    shape, classes = teacher.values[feed].shape[1:], teacher.values[answer].shape[-1]
    print(f"{file}: {teacher.kind.value}, {feed} {list(shape)} -> {answer} [{classes}]")
    student = gt.from_layer(lambda: network(8, classes), [("image", shape, "float32")])
    merged = gt.merge(file, student, {feed: "image"})
    with paddle.static.program_guard(merged.program, student.startup):
        holds = "teacher" if arguments.softmax else None
        loss = gt.losses.soft_label(answer, student.fetches[0], from_probs=holds)
        gt.minimize(paddle.optimizer.Adam(1e-3), loss)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(student.startup)

    test, fetches = gt.for_test(merged, fetch=[f"{merged.prefix}{answer}", student.fetches[0]])
    before = agreement(executor, test, fetches, "image", shape)
    for step, (image, _) in enumerate(reader(shape, arguments.steps, seed=2)):
        (value,) = executor.run(merged.program, {"image": image}, [loss])
        if step % 20 == 0:
            print(f"step {step:4}  loss {float(value):.4f}")
    after = agreement(executor, test, fetches, "image", shape)
    print(f"the student agrees with its teacher on {before:.3f} -> {after:.3f} of the images")


if __name__ == "__main__":
    main()
