"""Distil a ResNet into a MobileNet, as Paddle's tutorial does it, on today's Paddle.

Two static Programs, merged into one; an l2 loss between a stage of each beside the student's own
loss; training, and an evaluation. `--pretrained` names the teacher's `.pdparams`; without one the
script trains a teacher for a moment and saves it. This is the old tutorial's spelling, through
`graphtool.compat`; `tutorial.md` walks through graphtool's own. Images are noise over ten patterns:

    python examples/tutorial.py --steps 200
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import paddle
from paddle.nn import functional as F  # noqa: N812

import graphtool as gt
from graphtool.compat import l2_loss, merge

CLASSES, SIDE, BATCH = 10, 32, 32
PATTERNS = np.kron(np.random.RandomState(0).randn(CLASSES, 3, 4, 4), np.ones([SIDE // 4] * 2))


def reader(steps: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield batches: images [32, 3, 32, 32] float32 and labels [32, 1] int64."""
    random = np.random.RandomState(seed)
    for _ in range(steps):
        label = random.randint(0, CLASSES, [BATCH, 1])
        noise = random.randn(BATCH, 3, SIDE, SIDE)
        yield (PATTERNS[label[:, 0]] + noise).astype("float32"), label


def pretrain(file: Path, steps: int) -> None:
    """Train a teacher in dynamic mode and save its parameters."""
    network = paddle.vision.models.resnet18(num_classes=CLASSES)
    optimizer = paddle.optimizer.Adam(1e-3, parameters=network.parameters())
    for image, label in reader(steps, seed=1):
        F.cross_entropy(network(paddle.to_tensor(image)), paddle.to_tensor(label)).backward()
        optimizer.step()
        optimizer.clear_grad()
    paddle.save(network.state_dict(), str(file))


def list_variables(role: str, program: Any) -> None:
    """Print what can be paired: the activations of each resolution."""
    values = gt.read(program).values.values()
    for value in values:
        if value.name.startswith("relu") and value.shape:
            print(f"{role:8} {value.name:10} {list(value.shape)}")


def main() -> None:
    """Train, and print losses and accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pretrained", type=Path, help="the teacher's .pdparams")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    paddle.seed(0)
    pretrained = arguments.pretrained or Path(mkdtemp()) / "resnet18.pdparams"
    if arguments.pretrained is None:
        pretrain(pretrained, arguments.steps)

    paddle.enable_static()
    place = paddle.CPUPlace()
    executor = paddle.static.Executor(place)
    student_program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(student_program, startup):
        image = paddle.static.data("image", [None, 3, SIDE, SIDE], "float32")
        label = paddle.static.data("label", [None, 1], "int64")
        logits = paddle.vision.models.mobilenet_v1(scale=0.5, num_classes=CLASSES)(image)
        loss = F.cross_entropy(logits, label)
        accuracy = paddle.static.accuracy(F.softmax(logits), label)

    teacher_program, teacher_startup = paddle.static.Program(), paddle.static.Program()
    own_names = paddle.utils.unique_name.guard("resnet_")
    with paddle.static.program_guard(teacher_program, teacher_startup), own_names:
        data = paddle.static.data("data", [None, 3, SIDE, SIDE], "float32")
        teacher = paddle.vision.models.resnet18(num_classes=CLASSES)
        teacher.eval()
        teacher(data)
    executor.run(teacher_startup)
    print(gt.load_parameters(teacher_program, pretrained, layer=teacher))

    list_variables("teacher", teacher_program)
    list_variables("student", student_program)
    executor.run(startup)
    student_program = merge(teacher_program, student_program, {"data": "image"}, place)

    with paddle.static.program_guard(student_program, startup):
        with paddle.static.name_scope("distill"):
            distill_loss = l2_loss("teacher_relu_12", "relu_22", student_program)
        total = loss + distill_loss
        paddle.optimizer.Momentum(0.01, 0.9).minimize(total)
    executor.run(startup)

    test_program, (right,) = gt.for_test(student_program, fetch=[accuracy])
    for step, (images, labels) in enumerate(reader(arguments.steps, seed=2)):
        feed = {"image": images, "label": labels}
        fetched = executor.run(student_program, feed, [loss, distill_loss, accuracy])
        if step % 20 == 0:
            print("step {:4}  loss {:.4f}  distill {:.4f}  accuracy {:.2f}".format(step, *fetched))
    shares = [
        executor.run(test_program, {"image": images, "label": labels}, [right])[0]
        for images, labels in reader(10, seed=3)
    ]
    print(f"accuracy on unseen images: {np.mean(shares):.3f}")


if __name__ == "__main__":
    main()
