"""Measure graphtool beside its peers and floors: `python -m tests.benchmarks [ROW ...] [--quick]`.

Each row is something graphtool does, next to what another tool takes for it, or to what nobody can
do without. All that is compared takes turns, round by round. PaddleSlim is set up in an environment
of its own under `build/`; what is not installed (Graphviz, Chromium) leaves its rows empty, with
the reason. Exit status: 0 when everything was measured, whether targets are met or not, 1 when
something failed, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.benchmarks import commands, evidence, live, merging, page, reading, training
from tests.benchmarks.peers import SetupError, paddleslim
from tests.benchmarks.row import Case, Python, Row
from tests.benchmarks.table import lines, listing, recorded, table
from tests.benchmarks.timing import ROOT, Outcome, Run, Turn, measure, turns

# The cases of one group take turns.
GROUPS: Mapping[str, Sequence[Row]] = {
    "commands": commands.ROWS,
    "page": page.ROWS,
    "reading": reading.ROWS,
    "live": live.ROWS,
    "merging": merging.NETWORKS,
    "growth of merging": merging.GROWTH,
    "training": training.ROWS,
    "evidence": evidence.ROWS,
    "memory": (*merging.MEMORY, *training.MEMORY, *evidence.MEMORY),
}
_FOLDER = ROOT / "build" / "benchmarks"
_ROUNDS, _QUICK_ROUNDS = 7, 5
_QUICK_LARGEST = 10_000
_INTERRUPTED = 130
# Of lines that are not written to a terminal.
_WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, print the table, and write `results.json`."""
    args = _arguments(arguments)
    every = [row for rows in GROUPS.values() for row in rows]
    rows = [row for row in every if (row.name in args.rows if args.rows else row.quick or args.all)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    if args.list:
        console.print(listing(rows))
        return 0
    progress, load, start = Console(stderr=True), os.getloadavg()[0], time.monotonic()
    outcomes: dict[Turn, Outcome] = {}
    failures: list[str] = []
    pythons = {Python.HERE: sys.executable}
    if any(case.python is Python.PEER for row in rows for case in row.sides.values()):
        try:
            with progress.status("setting up PaddleSlim 2.6.0 on Paddle 2.6.2"):
                pythons[Python.PEER] = paddleslim(_FOLDER / "paddleslim")
        except SetupError as error:
            failures.append(f"PaddleSlim was not set up: {error}")
    with tempfile.TemporaryDirectory() as work:
        run = Run(args.rounds, pythons, Path(work), args.largest)
        interrupted = _measure(rows, run, outcomes, progress)
    failures += ["interrupted: not all was measured"] if interrupted else []
    failures += _failures(outcomes)
    found = list(lines(rows, outcomes))
    console.print(table(found, run.rounds))
    command = shlex.join(["python", "-m", "tests.benchmarks", *(arguments or sys.argv[1:])])
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    setting = (
        f"{processor and processor[1]}, {os.cpu_count()} cores, load {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after {time.monotonic() - start:.0f} s; "
        f"Python {platform.python_version()}, Paddle {version('paddlepaddle')}; {command}"
    )
    for line in (setting, *failures):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    args.output.mkdir(parents=True, exist_ok=True)
    written = args.output / "results.json"
    report = {"setting": setting, "commit": _commit(), "failures": failures}
    report |= recorded(found, outcomes)
    written.write_text(f"{json.dumps(report, indent=1, ensure_ascii=False)}\n")
    progress.print(f"wrote {written}", highlight=False, soft_wrap=True)
    return _INTERRUPTED if interrupted else int(bool(failures))


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="rows by name; all unless given")
    add("--list", action="store_true", help="list the rows and measure nothing")
    quick = f"{_QUICK_ROUNDS} rounds, up to {_QUICK_LARGEST:,} operators, without slow rows"
    add("--quick", action="store_false", dest="all", help=quick)
    add("--rounds", type=_positive, help=f"rounds to take; {_ROUNDS} unless given")
    add("--largest", type=_positive, metavar="OPERATORS", help="leave larger networks out")
    add("-o", "--output", type=Path, default=_FOLDER, metavar="FOLDER", help="where files go")
    args = parser.parse_args(given)
    args.rounds = args.rounds or (_ROUNDS if args.all else _QUICK_ROUNDS)
    args.largest = args.largest or (None if args.all else _QUICK_LARGEST)
    names = [row.name for rows in GROUPS.values() for row in rows]
    for name in args.rows:
        if name not in names:
            near = difflib.get_close_matches(name, names, 3, 0)
            parser.error(f"no row `{name}`; nearest: {', '.join(near)}")
    return args


def _positive(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"`{given}` is no whole number from 1")
    return int(given)


def _measure(
    rows: Sequence[Row], run: Run, outcomes: dict[Turn, Outcome], progress: Console
) -> bool:
    """Measure group by group; an interrupt ends it, and what was measured before is kept."""
    groups = {name: [row for row in rows if row in group] for name, group in GROUPS.items()}
    steps = {name: len(turns(group, run)) * run.rounds for name, group in groups.items()}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=progress, transient=True) as bar:
        task = bar.add_task("", total=sum(steps.values()))
        for name, group in groups.items():

            def advance(case: Case, index: int, name: str = name) -> None:
                bar.update(task, advance=1, description=f"{name}, round {index + 1}: {case.about}")

            if group and not progress.is_terminal:
                progress.print(f"measuring {name}: {steps[name]} samples")
            try:
                measure(group, run, outcomes, advance)
            except KeyboardInterrupt:
                return True
    return False


def _failures(outcomes: Mapping[Turn, Outcome]) -> Iterator[str]:
    for (case, size), outcome in outcomes.items():
        if outcome.failure is not None:
            at = "" if size is None else f" at {size:,}"
            made = f"{case.make.__name__}{case.arguments}"
            yield f"not measured: {case.about}, {made}{at}: {outcome.failure}"


def _commit() -> str | None:
    """Return the commit, marked where files differ from it; None outside of a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    sys.exit(main())
