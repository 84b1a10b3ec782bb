"""Rounds of everything in one process leave nothing behind: objects of ours do not grow.

Paddle itself keeps something of each operator that it builds under PIR, in memory of its own.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import paddle
import pytest

import graphtool as gt
from tests.soak.rounds import IMAGE, everything, network

ROUNDS, WARM_UP = 20, 9
PAGE = os.sysconf("SC_PAGE_SIZE")
# A sample walks over all objects, which takes longer than a round.
EVERY = 5
# Objects of ours and what they keep; Paddle has some of its own for each operator and layer.
COUNTED = ("graphtool", "networkx", "paddle.base.libpaddle")

pytestmark = pytest.mark.nightly


def sample() -> dict[str, int]:
    """Return the state of the process: bytes in memory, and counts."""
    gc.collect()
    # Some descriptors of compiled types have no text there.
    homes = Counter(type(one).__module__ for one in gc.get_objects())
    counted = [n for home, n in homes.items() if isinstance(home, str) and home.startswith(COUNTED)]
    return {
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        "objects": sum(counted),
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": sum(1 for _ in Path("/proc/self/task").iterdir()),
        "temporaries": sum(1 for _ in Path(tempfile.gettempdir()).iterdir()),
    }


def slope(series: list[int]) -> float:
    """Return the median slope by the round between all samples half of them apart.

    One outlier does not count, as it would in a fit by least squares.
    """
    half = len(series) // 2
    rises = [(b - a) / (half * EVERY) for a, b in zip(series, series[half:], strict=False)]
    return float(np.median(rises))


def soak(work: Callable[[int], None], rounds: int, warm_up: int) -> dict[str, float]:
    """Do the work many times, with a folder for temporary files of its own; return the slopes."""
    before, limit = tempfile.tempdir, getattr(sys, "tracebacklimit", None)
    # What Paddle keeps of an operator's traceback is one frame then.
    sys.tracebacklimit = 1
    samples: list[dict[str, int]] = []
    # What was there before is not walked over for each sample.
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            for number in range(rounds):
                work(number)
                if number >= warm_up and (number - warm_up) % EVERY == 0:
                    samples.append(sample())
        finally:
            gc.unfreeze()
            tempfile.tempdir = before
            del sys.tracebacklimit
            if limit is not None:
                sys.tracebacklimit = limit
    return {name: slope([one[name] for one in samples]) for name in samples[0]}


@pytest.mark.parametrize("legacy", [False, True])
def test_rounds_leave_no_object_file_thread_or_temporary_behind(*, legacy: bool) -> None:
    paddle.enable_static()
    grown = soak(partial(everything, legacy=legacy), ROUNDS, WARM_UP)
    assert grown | {"memory": 0} == dict.fromkeys(grown, 0)


def verifying() -> dict[str, float]:
    """Verify one merge many times."""
    paddle.enable_static()
    wide, narrow = network(512), network(4)
    scopes = {"scope": narrow.scope, "teacher_scope": wide.scope}
    merged = gt.merge(wide.program, narrow.program, {"image": "image"}, **scopes)

    def check(_: int) -> None:
        assert merged.verify({"image": IMAGE}).equal

    return soak(check, 2 * ROUNDS, WARM_UP)


def test_verifying_frees_what_it_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two convolutions, two batch norms of four vectors, a linear layer; float32.
    weights = 4 * (3 * 512 * 9 + 512 * 1024 * 9 + 4 * (512 + 1024) + 1024 * 5 + 5)
    # Large blocks go back to the system when freed, with nobody else's in the same process.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**20))
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        assert alone.submit(verifying).result()["memory"] < weights / 20
