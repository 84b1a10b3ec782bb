"""Distil two Layers of the dynamic graph in a static graph, and go on in the dynamic one.

Their `forward` decides by the data which way to go. Their `.pdparams` go in, pairs are suggested,
and the student's `.pdparams` comes back into its Layer. Images are noise over ten patterns:

    python examples/from_layer.py --steps 150
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

import graphtool as gt

CLASSES, SIDE, BATCH = 10, 32, 32
INPUT = [("image", (3, SIDE, SIDE), "float32")]
PATTERNS = np.kron(np.random.RandomState(0).randn(CLASSES, 3, 4, 4), np.ones([SIDE // 4] * 2))


class Classifier(nn.Layer):
    """Convolutions and a linear layer; images with values up to 255 are brought to scale first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 48]
        self.backbone = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2D(before, after, 3, 2, 1), nn.BatchNorm2D(after), nn.ReLU())
                for before, after in pairwise(widths)
            )
        )
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Any) -> Any:
        """Return logits [N, 10]."""
        if paddle.max(paddle.abs(x)) > 32:
            x = x / 255
        x = self.backbone(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def teacher() -> nn.Layer:
    """Make the network that teaches, for the command line: `from_layer:teacher`."""
    return Classifier(24)


def student() -> nn.Layer:
    """Make the network that learns."""
    return Classifier(8)


def reader(steps: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield batches: images [32, 3, 32, 32] float32 and labels [32] int64."""
    random = np.random.RandomState(seed)
    for _ in range(steps):
        label = random.randint(0, CLASSES, [BATCH])
        yield (PATTERNS[label] + random.randn(BATCH, 3, SIDE, SIDE)).astype("float32"), label


def train(layer: nn.Layer, steps: int) -> None:
    """Train a Layer in dynamic mode on labels."""
    optimizer = paddle.optimizer.Adam(1e-3, parameters=layer.parameters())
    for image, label in reader(steps, seed=1):
        F.cross_entropy(layer(paddle.to_tensor(image)), paddle.to_tensor(label)).backward()
        optimizer.step()
        optimizer.clear_grad()


def accuracy(layer: nn.Layer) -> float:
    """Return the share of unseen images that a Layer gets right."""
    layer.eval()
    hits = [layer(paddle.to_tensor(image)).numpy().argmax(1) == y for image, y in reader(10, 3)]
    return float(np.mean(hits))


def distil(big: nn.Layer, small: nn.Layer, start: Path, out: Path, steps: int) -> None:
    """Distil in a static graph, from the student's parameters in `start` to those in `out`."""
    theirs = gt.from_layer(big, INPUT, train=False)
    ours = gt.from_layer(small, INPUT, train=True)
    pairs = gt.suggest_pairs(theirs.graph, ours.graph)
    paddle.enable_static()
    merged = gt.merge(theirs, ours, {"image": "image"})
    with paddle.static.program_guard(merged.program, ours.startup):
        loss = gt.distill_loss(merged, pairs)
        gt.minimize(paddle.optimizer.Adam(3e-3), loss.total)
    executor = paddle.static.Executor()
    executor.run(ours.startup)
    print(loss, gt.load_parameters(merged, start, layer=ours), sep="\n")
    for step, (image, _) in enumerate(reader(steps, seed=2)):
        (total,) = executor.run(merged.program, {"image": image}, [loss.total])
        if step % 20 == 0:
            print(f"step {step:4}  loss {float(total):.4f}")
    print(gt.export_student(merged, out))
    paddle.disable_static()


def main() -> None:
    """Train a teacher, distil its student, load the student's parameters into its Layer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    steps = parser.parse_args().steps
    paddle.seed(0)
    start, out = (Path(mkdtemp()) / name for name in ("student.pdparams", "distilled"))
    big, small = teacher(), student()
    train(big, steps)
    paddle.save(small.state_dict(), str(start))
    before = accuracy(small)
    distil(big, small, start, out, steps)
    small.set_state_dict(paddle.load(f"{out}.pdparams"))
    print(f"teacher {accuracy(big):.3f}  student {before:.3f} -> {accuracy(small):.3f}")


if __name__ == "__main__":
    main()
