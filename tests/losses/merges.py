"""Two small convolutional networks, merged, for losses that go by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import nn

from graphtool.merging import Merged
from tests.merging.networks import Built, build, merge_built

FEED = {"image": np.random.default_rng(3).normal(size=(4, 3, 8, 8)).astype("float32")}


def network(width: int, *, probabilities: bool = False, relus: int = 1) -> Any:
    """Return a network of two convolutions; `relu_0` is [N, width, 8, 8], `add_2` the logits."""

    def forward(image: Any) -> Any:
        x = nn.Conv2D(3, width, 3, padding=1)(image)
        for _ in range(relus):
            x = nn.functional.relu(x)
        x = nn.Conv2D(width, 2 * width, 3, stride=2, padding=1)(x)
        logits = nn.Linear(2 * width, 5)(paddle.mean(x, axis=[2, 3]))
        return nn.functional.softmax(logits) if probabilities else logits

    return forward


def built(width: int, *, batch: int = -1, seed: int = 1, **options: Any) -> Built:
    """Build a network and initialise it; networks of other seeds have other weights."""
    made = build(network(width, **options), ("image", [batch, 3, 8, 8], "float32"), start=False)
    paddle.seed(seed)
    paddle.static.Executor().run(made.startup, scope=made.scope)
    return made


def merged_with(*teachers: Built, width: int = 4, batch: int = -1) -> tuple[Merged, Built]:
    """Merge teachers into a student of the given width; prefixes are `teacher_`, `t1_`, `t2_`."""
    student = built(width, batch=batch, seed=9)
    for at, teacher in enumerate(teachers):
        merged = merge_built(
            teacher,
            student,
            {"image": "image"},
            name_prefix="teacher_" if len(teachers) == 1 else f"t{at + 1}_",
        )
    return merged, student


@contextmanager
def inside(student: Built) -> Iterator[None]:
    with paddle.static.program_guard(student.program, student.startup):
        yield


def sizes(student: Built) -> tuple[int, int]:
    return len(student.program.global_block().ops), len(student.startup.global_block().ops)
