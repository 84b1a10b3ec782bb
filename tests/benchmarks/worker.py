"""A process that takes samples: `python -m tests.benchmarks.worker`, asked line by line on stdin.

Each line names a function and its arguments; the answer is one line of JSON. What work prints goes
to stderr. A failure ends the process with its reason on the last line of stderr.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.row import Prepare, Sample, Work

_STATUS = Path("/proc/self/status")


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    made: dict[str, Prepare] = {}
    for line in sys.stdin:
        if line not in made:
            function, arguments = json.loads(line)
            module, _, name = function.partition(":")
            made[line] = getattr(importlib.import_module(module), name)(*arguments)
        print(json.dumps(asdict(_sample(made[line]()))), file=answers, flush=True)


def _sample(work: Work) -> Sample:
    gc.collect()
    before = _peak_from_here()
    start, cpu = time.perf_counter(), time.process_time()
    result = work.run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = None if before is None else _status("VmHWM") - before
    work.check(result)
    return result if isinstance(result, Sample) else Sample(seconds, peak, cpu=cpu)


def _peak_from_here() -> int | None:
    """Let the peak count from what is held now, and return that; None where no kernel tells."""
    if not _STATUS.exists():
        return None
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


if __name__ == "__main__":
    main()
