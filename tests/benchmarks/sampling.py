"""What a row of the benchmark is, and how its cases are sampled: in turns, each in a worker.

A worker is a process that runs `serve`, and is asked line by line on stdin for a function and its
arguments. What work prints goes to stderr, and a failure ends the process with its reason there.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

ROOT = Path(__file__).parents[2]
_STATUS = Path("/proc/self/status")
# Seconds for a worker to end what it started itself.
_PATIENCE = 30

# Prepares, yields what the clock is held to, and gets its result, to make sure that it was done.
# What returns a Sample has measured itself.
Work: TypeAlias = Generator[Callable[[], Any], Any, None]
# CPU seconds hardly change where other work shares the cores; the peak and size are bytes.
Quantity: TypeAlias = Literal["seconds", "cpu", "peak", "size"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: seconds, those of CPU time and bytes where they are known.

    The peak is that of a whole process, or how much it grew while work was done in one. `at_least`
    says that nobody waited for the end.
    """

    seconds: float
    peak: int | None = None
    size: int | None = None
    at_least: bool = False
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A way of doing something, which `work(*arguments)` prepares anew for each sample.

    It runs in the Python of the benchmark, or beside PaddleSlim on Paddle 2.6.2 (`peer`). `fresh`
    gives each sample a process of its own, `rounds` is how many samples are taken at most.
    """

    work: Callable[..., Work]
    arguments: tuple[str | int | bool, ...] = ()
    about: str = ""
    python: Literal["here", "peer"] = "here"
    fresh: bool = False
    rounds: int | None = None

    def __str__(self) -> str:
        return f"{self.work.__name__}{self.arguments}"


@dataclass(frozen=True, slots=True)
class Target:
    """At `most` so many times another side's median, or so much; None reports without a wish.

    Of growth it is the exponent. `size` restricts it to one size of the row.
    """

    most: float | None
    of: Literal["peer", "floor", "absolute", "growth"]
    quantity: Quantity = "seconds"
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured under one name; with `sizes`, once for each, given as the last argument."""

    name: str
    about: str
    ours: Case
    targets: Sequence[Target]
    peer: Case | None = None
    floor: Case | None = None
    sizes: Sequence[int] = ()
    quick: bool = True

    @property
    def sides(self) -> dict[str, Case]:
        """The cases by the names of their sides, in the order in which they take turns."""
        cases = {"ours": self.ours, "peer": self.peer, "floor": self.floor}
        return {side: case for side, case in cases.items() if case is not None}


Turn: TypeAlias = "tuple[Case, int | None]"


@dataclass(slots=True)
class Outcome:
    """The samples of a case at one size, and why there are no more, if something failed."""

    samples: list[Sample] = field(default_factory=list[Sample])
    failure: str | None = None

    def values(self, quantity: Quantity) -> list[float]:
        """Return what is known of one quantity, in the order it was measured."""
        found = (getattr(sample, quantity) for sample in self.samples)
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class Run:
    """How to measure: how often, which Pythons, where files may be written, up to which size."""

    rounds: int
    pythons: Mapping[str, str]
    work: Path
    largest: int | None = None


def measure(
    rows: Sequence[Row],
    run: Run,
    outcomes: dict[Turn, Outcome],
    watched: Callable[[list[tuple[int, Turn]]], Iterable[tuple[int, Turn]]],
) -> None:
    """Sample each case that some rows need in turns; each round goes through all of them once.

    What comes first in a worker is done twice, once for nothing. `outcomes` is filled as samples
    are taken; `watched` shows how far that is.
    """
    wanted = dict.fromkeys(
        (case, size)
        for row in rows
        for size in row.sizes or (None,)
        for case in row.sides.values()
        if size is None or size <= (run.largest or size)
    )
    outcomes |= {turn: Outcome() for turn in wanted}
    with ExitStack() as stack:
        workers = {
            python: stack.enter_context(closing(_Worker(path, run.work)))
            for python, path in run.pythons.items()
        }
        for index, turn in watched([(index, x) for index in range(run.rounds) for x in wanted]):
            case, outcome = turn[0], outcomes[turn]
            if outcome.failure is not None or index >= (case.rounds or run.rounds):
                continue
            if case.python not in workers:
                outcome.failure = f"no Python for {case}"
                continue
            alone = closing(_Worker(run.pythons[case.python], run.work)) if case.fresh else None
            try:
                with alone or nullcontext(workers[case.python]) as worker:
                    if not (index or alone or case.rounds):
                        worker.sample(turn)
                    outcome.samples.append(worker.sample(turn))
            except _FailedError as failed:
                outcome.failure = str(failed)


class _FailedError(Exception):
    """A worker ended; the message is its last line."""


class _Worker:
    """A process that takes samples, started when it is first needed and after each failure."""

    def __init__(self, python: str, work: Path) -> None:
        self._python, self._work = python, work
        self._process: subprocess.Popen[str] | None = None
        self._log = work / f"worker-{id(self)}.log"

    def sample(self, turn: Turn) -> Sample:
        """Take one sample; raises _FailedError with the reason that the process gave."""
        case, size = turn
        if self._process is None:
            # What is compiled is kept, as it is where graphtool is installed.
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    [self._python, "-c", SERVE],
                    cwd=self._work,
                    env=environment,
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(question(case.work, *case.arguments, *(() if size is None else (size,))))
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            self.close()
            # An exception is the last line that is not indented.
            lines = self._log.read_text(errors="replace").splitlines()
            reasons = [line for line in lines if line and not line[0].isspace()]
            raise _FailedError(reasons[-1] if reasons else "it ended without a word")
        return Sample(**json.loads(answer))

    def close(self) -> None:
        """Let the process end, if there is one."""
        if self._process is not None:
            process, self._process = self._process, None
            try:
                process.communicate(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


SERVE = f"from {__name__} import serve; serve()"


def question(work: Callable[..., Work], *arguments: object) -> str:
    """Return the line that asks a worker for a sample."""
    return f"{json.dumps([work.__module__, work.__name__, arguments])}\n"


def serve() -> None:
    """Be a worker, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        module, name, arguments = json.loads(line)
        work: Work = getattr(importlib.import_module(module), name)(*arguments)
        print(json.dumps(asdict(_sample(work))), file=answers, flush=True)


def _sample(work: Work) -> Sample:
    run = next(work)
    gc.collect()
    before = None
    if _STATUS.exists():
        # The peak counts from what is held now.
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    result = run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = None if before is None else _status("VmHWM") - before
    with suppress(StopIteration):
        work.send(result)
    return result if isinstance(result, Sample) else Sample(seconds, peak, cpu=cpu)


def _status(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def exponent(points: Mapping[int, float]) -> float:
    """Fit `value = c * size ** e` by least squares in logarithms, and return e."""
    sizes, values = list(map(math.log, points)), list(map(math.log, points.values()))
    return statistics.linear_regression(sizes, values).slope
