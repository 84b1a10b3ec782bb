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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to measure: how often, which Pythons, and where files may be written."""

    rounds: int
    pythons: Mapping[Python, str]
    work: Path
    largest: int | None = None
    quick: bool = False

    def wants(self, case: Case, size: int | None) -> bool:
        """Tell whether a case is part of this run at some size."""
        return (case.quick or not self.quick) and (
            size is None or size <= min(case.largest or size, self.largest or size)
        )


def turns(rows: Sequence[Row], run: Run) -> list[Turn]:
    """Return each case that some rows need, once, in the order of the rows."""
    wanted = (
        (case, size)
        for row in rows
        for size in row.sizes or (None,)
        for case in row.cases
        if run.wants(case, size)
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
    are taken; `advance` is told the case and the round before each of them.
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
    worker = workers[case.python]
    warm = not outcome.samples and not case.fresh and case.rounds is None
    try:
        if case.fresh:
            with closing(_Worker(run.pythons[case.python], run.work)) as alone:
                outcome.samples.append(alone.sample(turn))
        else:
            if warm:
                worker.sample(turn)
            outcome.samples.append(worker.sample(turn))
    except _FailedError as failed:
        outcome.failure = str(failed)


class _FailedError(Exception):
    """A worker ended; the message is its last line."""


class _Worker:
    """A process that takes samples, started when it is first asked and after each failure."""

    def __init__(self, python: str, work: Path) -> None:
        self._python, self._work = python, work
        self._process: subprocess.Popen[str] | None = None
        self._log = work / f"worker-{id(self)}.log"

    def sample(self, turn: Turn) -> Sample:
        """Take one sample; raises _FailedError with the reason that the process gave."""
        case, size = turn
        if self._process is None:
            self._process = self._started()
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
            raise _FailedError(_reason(self._log.read_text(errors="replace")))
        return Sample(**json.loads(answer))

    def _started(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        # What is compiled is kept, as it is where graphtool is installed.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with self._log.open("w") as log:
            return subprocess.Popen(
                [self._python, "-m", "tests.benchmarks.worker"],
                cwd=self._work,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def close(self) -> None:
        """Let the process end, if there is one."""
        if self._process is not None:
            process, self._process = self._process, None
            try:
                process.communicate(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _reason(said: str) -> str:
    """Return the last line that is not indented: an exception, and not what it adds."""
    lines = [line for line in said.splitlines() if line and not line[0].isspace()]
    return lines[-1] if lines else "it ended without a word"


def exponent(points: Mapping[int, float]) -> float:
    """Fit `value = c * size ** e` by least squares in logarithms, and return e."""
    sizes, values = list(map(math.log, points)), list(map(math.log, points.values()))
    return statistics.linear_regression(sizes, values).slope
