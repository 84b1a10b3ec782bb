"""Fuzz graphtool: `python -m tests.fuzzing [--cases N] [--seed S] [--only WORD] [--case NAME]`.

Each case spoils an honest input and does in a forked process, under limits of time and memory, what
people do with such an input. What is neither right nor a coded Diagnostic is a finding: it is made
smaller where that is cheap, written to a folder, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from graphtool.diagnostics import GraphtoolError
from tests.fuzzing.cases import Case, Subject, cases_of, named_case
from tests.fuzzing.shrinking import shrunk
from tests.fuzzing.subjects import SUBJECTS
from tests.fuzzing.workers import Limits, Outcome, Result, limits_for, run

_ATTEMPTS = 150


@dataclass
class _Bench:
    """What honest inputs cost, by which the limits of mutated ones are set."""

    seconds: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def limits(self, case: Case, data: bytes) -> Limits:
        key = case.subject.name, case.target
        if key not in self.seconds:
            honest = run(case.subject.exercise, case.honest, Limits(60.0, 1 << 30))
            self.seconds[key] = honest.seconds
        return limits_for(len(data), len(case.honest), self.seconds[key])

    def result(self, case: Case, data: bytes) -> Result:
        return run(case.subject.exercise, data, self.limits(case, data))


def main(argv: Sequence[str]) -> int:
    args = _parse(argv)
    subjects = [subject for subject in SUBJECTS if args.case or _is_wanted(subject, args.only)]
    _warm(subjects)
    bench = _Bench()
    if args.case:
        return _show(bench, named_case(subjects, args.case))
    cases = cases_of(subjects, args.cases, seed=args.seed, only=args.only)
    started = time.monotonic()
    tally = _run_all(bench, cases)
    _print_table(tally)
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"{tally.cases:,} cases in {minutes} min {seconds} s, {len(tally.first)} findings")
    _write(bench, tally)
    return 1 if tally.first else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="how many (20,000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of each mutator (0)")
    parser.add_argument("--only", default="", help="what `subject/mutator/target` must contain")
    parser.add_argument("--case", default="", help="run this one and show what it does")
    return parser.parse_args(argv)


def _is_wanted(subject: Subject, only: str) -> bool:
    kinds = (
        f"{subject.name}/{mutator}/{target}"
        for mutator in subject.mutators
        for target in subject.honest
    )
    return any(only in kind for kind in kinds)


def _warm(subjects: Iterable[Subject]) -> None:
    """Import what the exercises need, so that workers need not. Paddle stays out of here."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects:
            inner = Path(folder) / subject.name
            inner.mkdir()
            os.chdir(inner)
            with suppress(GraphtoolError):
                subject.exercise(next(iter(subject.honest.values())), inner)
        os.chdir(home)
    assert "paddle" not in sys.modules, "what has Paddle's threads must not be forked"
    gc.collect()
    gc.freeze()


_Row = tuple[str, str]
_Found = tuple[Case, bytes, Result]


@dataclass
class _Tally:
    """Outcomes by subject and mutator, Diagnostics by code, and the first case of each finding."""

    rows: dict[_Row, Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    codes: Counter[str] = field(default_factory=Counter[str])
    first: dict[object, _Found] = field(default_factory=dict[object, _Found])
    times: Counter[object] = field(default_factory=Counter[object])

    @property
    def cases(self) -> int:
        """The number of cases that were run."""
        return sum(row.total() for row in self.rows.values())

    def add(self, case: Case, data: bytes, result: Result) -> None:
        self.rows[case.subject.name, case.mutator][result.outcome] += 1
        if result.outcome is Outcome.DIAGNOSED:
            self.codes.update(result.what.split())
        if result.outcome.is_finding:
            key = (case.subject.name, *result.signature)
            if key not in self.first:
                self.first[key] = case, data, result
                print(f"{result.outcome.value}: {case}: {result.what}", file=sys.stderr, flush=True)
            self.times[key] += 1


def _run_all(bench: _Bench, cases: Sequence[Case]) -> _Tally:
    tally = _Tally()
    # Ctrl-C ends it early: what was found until then is told.
    with suppress(KeyboardInterrupt):
        for number, case in enumerate(cases, 1):
            data = case.data()
            tally.add(case, data, bench.result(case, data))
            if number % 500 == 0:
                print(f"{number:,} of {len(cases):,} cases", file=sys.stderr, flush=True)
    return tally


def _print_table(tally: _Tally) -> None:
    shown = [outcome for outcome in Outcome if any(row[outcome] for row in tally.rows.values())]
    print(f"{'subject':12}{'mutator':14}{'cases':>8}" + "".join(f"{x.value:>15}" for x in shown))
    whole: Counter[Outcome] = Counter()
    for (subject, mutator), row in tally.rows.items():
        _print_row(subject, mutator, row, shown)
        whole.update(row)
    _print_row("all", "", whole, shown)
    print("\n" + ", ".join(f"{code} × {count}" for code, count in sorted(tally.codes.items())))


def _print_row(subject: str, mutator: str, row: Counter[Outcome], shown: Sequence[Outcome]) -> None:
    counts = "".join(f"{row[outcome]:>15,}" for outcome in shown)
    print(f"{subject:12}{mutator:14}{row.total():>8,}{counts}")


def _write(bench: _Bench, tally: _Tally) -> None:
    """Write each finding once, as small as it gets, with the command that shows it."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-findings-"))
    for number, (key, (case, data, result)) in enumerate(tally.first.items()):

        def is_same(candidate: bytes, case: Case = case, result: Result = result) -> bool:
            return bench.result(case, candidate).signature == result.signature

        # What took its whole time would take that again with each attempt.
        slow = result.outcome is Outcome.TIME
        small = shrunk(data, is_same, 0 if slow else _ATTEMPTS)
        file = folder / f"{number}-{case.target}"
        file.write_bytes(small)
        print(f"\n{result.outcome.value} × {tally.times[key]}: {result.what}  ({result.place})")
        print(f"  python -m tests.fuzzing --case {shlex.quote(str(case))}")
        print(f"  {len(small):,} bytes of {len(data):,}: {file}")


def _show(bench: _Bench, case: Case) -> int:
    data = case.data()
    result = bench.result(case, data)
    limits = bench.limits(case, data)
    print(f"{result.outcome.value} {result.what} {result.place}\n{result.trace}")
    print(f"{len(data):,} bytes; {result.seconds:.2f} s of {limits.seconds:.2f} s", end="; ")
    print(f"{result.memory >> 20} MB of {limits.memory >> 20} MB")
    return 1 if result.outcome.is_finding else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
