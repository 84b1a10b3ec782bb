"""Distil on two workers, and see that it is what one process does with the joint batch.

Run it as it is: it launches itself on two workers by `paddle.distributed.launch`, each with its
half of every batch, then trains on whole batches in one process, and compares. The student has no
batch norm, which on each worker would normalise by half a batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import paddle
from paddle import distributed, nn
from paddle.static import program_guard
from rich.console import Console
from rich.table import Table

import graphtool as gt

# Sums in another order differ in their last bits, and every step adds to it.
BATCH, TOLERANCE = 32, 1e-5
PATTERNS = np.random.default_rng(1).normal(size=(10, 3, 12, 12))
Found = dict[str, np.ndarray]


def classifier(width: int) -> nn.Layer:
    """Make two convolutions and a linear layer."""
    first, second = nn.Conv2D(3, width, 3, 2, 1), nn.Conv2D(width, 2 * width, 3, 2, 1)
    maps = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    return nn.Sequential(maps, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(2 * width, 10))


def train(
    width: int, steps: int, share: slice, seed: int, teacher: str | None
) -> tuple[gt.Network, Found]:
    """Train on a share of each batch; return the losses, and what has learned by its name."""
    paddle.seed(seed)
    network = gt.from_layer(lambda: classifier(width), [("image", (3, 12, 12))])
    with program_guard(network.program, network.startup):
        label = paddle.static.data("label", [None], "int64")
        loss = nn.functional.cross_entropy(network.value(network.fetches[0]), label)
        if teacher is not None:
            merged = gt.merge(teacher, network, {"image": "image"})
            pairs = gt.suggest_pairs(merged.plan.teacher, merged.plan.student)
            loss = loss + gt.distill_loss(merged, pairs).total
        clip = nn.ClipGradByGlobalNorm(1.0)
        _, gradients = gt.minimize(paddle.optimizer.Adam(3e-3, grad_clip=clip), loss)
    executor, random, curve = paddle.static.Executor(), np.random.default_rng(0), []
    executor.run(network.startup)
    for _ in range(steps):
        made_of = random.integers(0, 10, BATCH)
        image = (PATTERNS[made_of] + random.normal(size=(BATCH, 3, 12, 12))).astype("float32")
        feed = {"image": image[share], "label": made_of[share]}
        curve += executor.run(network.program, feed, [loss])
    scope = paddle.static.global_scope()
    learned = {one.name: np.array(scope.find_var(one.name).get_tensor()) for one, _ in gradients}
    return network, {"curve": np.array(curve), **learned}


def work(folder: Path, steps: int) -> None:
    """Be one of the workers: join the others, then train on one's own share of each batch."""
    distributed.init_parallel_env()
    paddle.enable_static()
    rank = distributed.get_rank()
    share = slice(rank, None, distributed.get_world_size())
    _, found = train(8, steps, share, seed=rank, teacher=f"{folder}/teacher.json")
    np.savez(folder / f"worker{rank}.npz", **found)


def launch(folder: Path, steps: int) -> list[Found]:
    """Run this script on two workers; return what each of them found."""
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node=2", f"--log_dir={folder}"]
    script = [__file__, "--folder", str(folder), "--steps", str(steps)]
    subprocess.run([sys.executable, *launcher, *script], check=True, stdout=subprocess.DEVNULL)
    return [dict(np.load(folder / f"worker{rank}.npz")) for rank in (0, 1)]


def report(first: Found, second: Found, joint: np.ndarray) -> None:
    """Print the curves, and whether both workers hold the same bytes."""
    mean = (first["curve"] + second["curve"]) / 2
    off = np.abs(mean - joint) / joint
    table = Table("step", "worker 0", "worker 1", "their mean", "one process", "difference")
    for step in sorted({*range(0, len(joint), max(1, len(joint) // 8)), len(joint) - 1}):
        curves = (first["curve"], second["curve"], mean, joint)
        table.add_row(str(step), *(f"{curve[step]:.5f}" for curve in curves), f"{off[step]:.1e}")
    Console().print(table)
    names = first.keys() - {"curve"}
    same = sum(first[name].tobytes() == second[name].tobytes() for name in names)
    print(f"{same} of {len(names)} parameters, adapters among them, have the same bytes on both")
    print(f"largest difference of the curves: {off.max():.1e}, allowed are {TOLERANCE:.0e}")
    assert same == len(names)
    assert off.max() < TOLERANCE


def main() -> None:
    """Launch two workers and compare, or be one of them."""
    parser = argparse.ArgumentParser(description="Distil on two workers.")
    parser.add_argument("--folder", type=Path, help="where a worker finds the teacher")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    if distributed.get_world_size() > 1:
        work(given.folder, given.steps)
        return
    paddle.enable_static()
    with tempfile.TemporaryDirectory() as name:
        network, _ = train(32, given.steps, slice(None), seed=0, teacher=None)
        gt.export_student(network, f"{name}/teacher")
        workers = launch(Path(name), given.steps)
        _, alone = train(8, given.steps, slice(None), seed=0, teacher=f"{name}/teacher.json")
    report(*workers, alone["curve"])


if __name__ == "__main__":
    main()
