"""Take samples in turns: of one case after the other, round by round, each in a worker."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.benchmarks.row import Case, Python, Quantity, Row, Sample

__all__ = ["ROOT", "Outcome", "Run", "Turn", "exponent", "measure", "turns"]

ROOT = Path(__file__).parents[2]
# Seconds for a worker to end what it started itself.
_PATIENCE = 30
Turn: TypeAlias = "tuple[Case, int | None]"


@dataclass(slots=True)
class Outcome:
    """The samples of a case at one size, and why there are no more, if something failed."""

    samples: list[Sample] = field(default_factory=list[Sample])
    failure: str | None = None

    def values(self, quantity: Quantity) -> list[float]:
        """Return what is known of one quantity, in the order it was measured."""
        found = (getattr(sample, quantity.value) for sample in self.samples)
        return [value for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class Run:
    """How to measure: how often, which Pythons, where files may be written, up to which size."""

    rounds: int
    pythons: Mapping[Python, str]
    work: Path
    largest: int | None = None


def turns(rows: Sequence[Row], run: Run) -> list[Turn]:
    """Return each case that some rows need, once, in the order of the rows."""
    wanted = (
        (case, size)
        for row in rows
        for size in row.sizes or (None,)
        for case in row.sides.values()
        if size is None or size <= (run.largest or size)
    )
    return list(dict.fromkeys(wanted))


def measure(
    rows: Sequence[Row],
    run: Run,
    outcomes: dict[Turn, Outcome],
    advance: Callable[[Case, int], object],
) -> None:
    """Sample what some rows need in turns; each round goes through all cases once.

    What comes first in a worker is done twice, once for nothing. `outcomes` is filled as samples
    are taken; `advance` gets the case and the round before each of them.
    """
    wanted = turns(rows, run)
    outcomes |= {turn: Outcome() for turn in wanted}
    with ExitStack() as stack:
        workers = {
            python: stack.enter_context(closing(_Worker(path, run.work)))
            for python, path in run.pythons.items()
        }
        for index in range(run.rounds):
            for turn in wanted:
                case, outcome = turn[0], outcomes[turn]
                advance(case, index)
                if outcome.failure is None and index < (case.rounds or run.rounds):
                    _take(turn, outcome, run, workers)


def _take(turn: Turn, outcome: Outcome, run: Run, workers: Mapping[Python, _Worker]) -> None:
    case = turn[0]
    if case.python not in workers:
        outcome.failure = f"no Python for {case.about}"
        return
    try:
        if case.fresh:
            with closing(_Worker(run.pythons[case.python], run.work)) as alone:
                outcome.samples.append(alone.sample(turn))
            return
        worker = workers[case.python]
        if not outcome.samples and case.rounds is None:
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
                    [self._python, "-m", "tests.benchmarks.worker"],
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
        function = f"{case.make.__module__}:{case.make.__qualname__}"
        arguments = [*case.arguments, *(() if size is None else (size,))]
        stdin.write(f"{json.dumps([function, arguments])}\n")
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


def exponent(points: Mapping[int, float]) -> float:
    """Fit `value = c * size ** e` by least squares in logarithms, and return e."""
    sizes, values = list(map(math.log, points)), list(map(math.log, points.values()))
    return statistics.linear_regression(sizes, values).slope
