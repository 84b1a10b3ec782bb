"""What a soak measures after each round, and what the measures say."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PAGE = os.sysconf("SC_PAGE_SIZE")
# A sample walks over all objects, which takes longer than a round.
EVERY = 5
# Paddle keeps objects of its own, and lists of them: for each operator that PIR builds a traceback,
# for each layer and each `name_scope` a node in a tree. The control shows what they take.
COUNTED = ("graphtool", "networkx", "paddle.base.libpaddle")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The state of the process: bytes in memory, and counts. Objects are those that we make."""

    memory: int
    objects: int
    files: int
    threads: int
    temporaries: int

    @classmethod
    def take(cls) -> Sample:
        gc.collect()
        return cls(
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
            objects=sum(_is_counted(type(one)) for one in gc.get_objects()),
            files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
            temporaries=sum(1 for _ in Path(tempfile.gettempdir()).iterdir()),
        )


def _is_counted(kind: type) -> bool:
    # Some descriptors of compiled types have no text there.
    home = kind.__module__
    return isinstance(home, str) and home.startswith(COUNTED)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How a process grew by the round, after a warm-up."""

    rounds: int
    memory: float
    objects: float
    files: int
    threads: int
    temporaries: int

    @classmethod
    def of(cls, samples: list[Sample]) -> Growth:
        first, *_, last = samples
        return cls(
            rounds=(len(samples) - 1) * EVERY,
            memory=slope([one.memory for one in samples]),
            objects=slope([one.objects for one in samples]),
            files=last.files - first.files,
            threads=last.threads - first.threads,
            temporaries=last.temporaries - first.temporaries,
        )

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds: {self.memory / 1024:+.1f} KiB and {self.objects:+.2f} objects "
            f"a round; {self.files:+} files, {self.threads:+} threads, "
            f"{self.temporaries:+} temporary files in all"
        )


def slope(series: list[int]) -> float:
    """Return the median slope by the round between all samples half of them apart.

    One outlier does not count, as it would in a fit by least squares.
    """
    half = len(series) // 2
    rises = [(b - a) / (half * EVERY) for a, b in zip(series, series[half:], strict=False)]
    return float(np.median(rises))


def soak(work: Callable[[int], None], rounds: int, warm_up: int) -> Growth:
    """Do the work many times with a folder for temporary files of its own."""
    before, limit = tempfile.tempdir, getattr(sys, "tracebacklimit", None)
    # What Paddle keeps of an operator's traceback is one frame then.
    sys.tracebacklimit = 1
    samples: list[Sample] = []
    # What was there before is not walked over for each sample.
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            for number in range(rounds):
                work(number)
                if number >= warm_up and (number - warm_up) % EVERY == 0:
                    samples.append(Sample.take())
        finally:
            gc.unfreeze()
            tempfile.tempdir = before
            del sys.tracebacklimit
            if limit is not None:
                sys.tracebacklimit = limit
    return Growth.of(samples)
