"""Fuzz graphtool: `python -m tests.fuzzing [--cases N] [--seed S] [--only WORD] [--case NAME]`.

Each case spoils an honest input and does in a forked process, under limits of time and memory, what
people do with such an input. What is neither right nor a coded Diagnostic is a finding: its input
is written to a folder, and the exit status is 1. With `--paddle`, spoilt folders of merged programs
and checkpoints are loaded, which Paddle has a part in.
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
from tests.fuzzing import models, parameters, saved, texts
from tests.fuzzing.cases import (
    Case,
    Limits,
    Outcome,
    Result,
    Subject,
    cases_of,
    limits_for,
    named_case,
    run,
)

# A further kind of input is a `Subject`, which one of these modules names.
SUBJECTS = models.SUBJECTS + parameters.SUBJECTS + saved.SUBJECTS + texts.SUBJECTS


@dataclass
class _Bench:
    """Runs cases under limits that are set by what honest inputs cost, or given."""

    fixed: Limits | None
    seconds: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def limits(self, case: Case, data: bytes) -> Limits:
        if self.fixed is not None:
            return self.fixed
        key = case.subject.name, case.target
        if key not in self.seconds:
            honest = run(case.subject.exercise, case.honest, Limits(60.0, 1 << 30))
            self.seconds[key] = honest.seconds
        return limits_for(len(data), len(case.honest), self.seconds[key])

    def result(self, case: Case, data: bytes) -> Result:
        return run(case.subject.exercise, data, self.limits(case, data))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="how many (20,000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of each mutator (0)")
    parser.add_argument("--only", default="", help="what `subject/mutator/target` must contain")
    parser.add_argument("--case", default="", help="run this one and show what it does")
    parser.add_argument("--paddle", action="store_true", help="load what Paddle has a part in")
    args = parser.parse_args(argv)
    if args.paddle:
        from tests.fuzzing.loaded import LIMITS, subjects

        known, bench = subjects(), _Bench(LIMITS)
    else:
        known, bench = SUBJECTS, _Bench(None)
        _warm(known)
    if args.case:
        return _show(bench, named_case(known, args.case))
    cases, started = cases_of(known, args.cases, seed=args.seed, only=args.only), time.monotonic()
    findings = _run_all(bench, cases)
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"{len(cases):,} cases in {minutes} min {seconds} s, {len(findings)} findings")
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-findings-")) if findings else Path()
    for number, (case, data, result) in enumerate(findings):
        file = folder / f"{number}-{case.target}"
        file.write_bytes(data)
        print(f"\n{result.outcome.value}: {result.what}  ({result.place})\n  {file}")
        print(f"  python -m tests.fuzzing --case {shlex.quote(str(case))}")
    return 1 if findings else 0


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


def _run_all(bench: _Bench, cases: Sequence[Case]) -> list[tuple[Case, bytes, Result]]:
    """Run all cases, print what became of them, and return the first of each finding."""
    rows: defaultdict[tuple[str, str], Counter[Outcome]] = defaultdict(Counter)
    codes: Counter[str] = Counter()
    first: dict[object, tuple[Case, bytes, Result]] = {}
    # Ctrl-C ends it early: what was found until then is printed.
    with suppress(KeyboardInterrupt):
        for number, case in enumerate(cases, 1):
            data = case.data()
            result = bench.result(case, data)
            rows[case.subject.name, case.mutator][result.outcome] += 1
            if result.outcome is Outcome.DIAGNOSED:
                codes.update(result.what.split())
            key = case.subject.name, *result.signature
            if result.outcome.is_finding and key not in first:
                first[key] = case, data, result
                print(f"{result.outcome.value}: {case}: {result.what}", file=sys.stderr, flush=True)
            if number % 500 == 0:
                print(f"{number:,} of {len(cases):,} cases", file=sys.stderr, flush=True)
    rows["all", ""] = sum(rows.values(), Counter[Outcome]())
    shown = [outcome for outcome in Outcome if rows["all", ""][outcome]]
    print(f"{'subject':14}{'mutator':24}{'cases':>8}" + "".join(f"{x.value:>15}" for x in shown))
    for (subject, mutator), row in rows.items():
        counts = "".join(f"{row[outcome]:>15,}" for outcome in shown)
        print(f"{subject:14}{mutator:24}{row.total():>8,}{counts}")
    print("\n" + ", ".join(f"{code} × {count}" for code, count in sorted(codes.items())))
    return list(first.values())


def _show(bench: _Bench, case: Case) -> int:
    data = case.data()
    result, limits = bench.result(case, data), bench.limits(case, data)
    print(f"{result.outcome.value} {result.what} {result.place}\n{result.trace}")
    print(f"{len(data):,} bytes; {result.seconds:.2f} s of {limits.seconds:.2f} s", end="; ")
    print(f"{result.memory >> 20} MB of {limits.memory >> 20} MB")
    return 1 if result.outcome.is_finding else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
