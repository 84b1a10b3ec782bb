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
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from tests.benchmarks.machine import commit, machine, versions
from tests.benchmarks.peers import SetupError, paddleslim
from tests.benchmarks.plot import plot
from tests.benchmarks.row import Case, Python, Row
from tests.benchmarks.rows import GROUPS
from tests.benchmarks.table import lines, listing, recorded, table
from tests.benchmarks.timing import ROOT, Outcome, Run, Turn, measure, turns

_FOLDER = ROOT / "build" / "benchmarks"
_ROUNDS, _QUICK_ROUNDS = 7, 5
_QUICK_LARGEST = 10_000
_INTERRUPTED = 130
# Of lines that are not written to a terminal.
_WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, print the table, and write `results.json` and the curves."""
    args = _arguments(arguments)
    rows = _rows(args.rows, quick=args.quick)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    if args.list:
        console.print(listing(rows))
        return 0
    progress, before = Console(stderr=True), machine()
    start = time.monotonic()
    pythons, remark = _pythons(rows, progress, quick=args.quick)
    with tempfile.TemporaryDirectory() as work:
        run = Run(
            rounds=args.rounds or (_QUICK_ROUNDS if args.quick else _ROUNDS),
            pythons=pythons,
            work=Path(work),
            largest=args.largest or (_QUICK_LARGEST if args.quick else None),
            quick=args.quick,
        )
        outcomes, interrupted = _measured(rows, run, progress)
    setting = {
        "command": shlex.join(["python", "-m", "tests.benchmarks", *(arguments or sys.argv[1:])]),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(time.monotonic() - start),
        "rounds": run.rounds,
        "machine": {**before, "load after": machine()["load"]},
        "versions": versions(pythons.get(Python.PEER)),
        "commit": commit(),
        "failures": [
            *remark,
            *(("interrupted: not all was measured",) if interrupted else ()),
            *_failures(outcomes),
        ],
    }
    found = list(lines(rows, outcomes))
    _print(console, table(found, run.rounds), setting)
    args.output.mkdir(parents=True, exist_ok=True)
    written = args.output / "results.json"
    report = {"schema": 1, **setting, "rows": recorded(rows, found, outcomes)}
    written.write_text(f"{json.dumps(report, indent=1, ensure_ascii=False)}\n")
    for file in (written, *plot(rows, outcomes, args.output)):
        progress.print(f"wrote {file}", highlight=False, soft_wrap=True)
    return _INTERRUPTED if interrupted else int(bool(setting["failures"]))


def _print(console: Console, medians: Table, setting: Mapping[str, Any]) -> None:
    console.print(medians)
    machine, versions = setting["machine"], setting["versions"]
    said = (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']} before, "
        f"{machine['load after']} after {setting['seconds']} s; Python {versions['python']}, "
        f"Paddle {versions['paddlepaddle']}; {setting['command']}"
    )
    for line in (said, *setting["failures"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    names = [row.name for rows in GROUPS.values() for row in rows]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows by name; all unless given")
    parser.add_argument("--list", action="store_true", help="list the rows and measure nothing")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{_QUICK_ROUNDS} rounds, up to {_QUICK_LARGEST:,} operators, without slow rows",
    )
    parser.add_argument("--rounds", type=_positive, help=f"rounds to take; {_ROUNDS} unless given")
    parser.add_argument(
        "--largest", type=_positive, metavar="OPERATORS", help="leave larger networks out"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=_FOLDER, metavar="FOLDER", help="where files go"
    )
    args = parser.parse_args(given)
    asked: list[str] = args.rows
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, names, 3, 0)
            parser.error(f"no row `{name}`; nearest: {', '.join(near)}")
    return args


def _positive(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"`{given}` is no whole number from 1")
    return int(given)


def _rows(names: Sequence[str], *, quick: bool) -> list[Row]:
    """Return the rows that are named, or all; of those, quick runs leave slow ones out."""
    every = [row for rows in GROUPS.values() for row in rows]
    if names:
        return [row for row in every if row.name in names]
    return [row for row in every if row.quick or not quick]


def _pythons(
    rows: Sequence[Row], progress: Console, *, quick: bool
) -> tuple[Mapping[Python, str], Sequence[str]]:
    """Return the Pythons that cases need, and what stands against one that can't be had."""
    here = {Python.HERE: sys.executable}
    wanted = {case.python for row in rows for case in row.cases if case.quick or not quick}
    if Python.PEER not in wanted:
        return here, ()
    try:
        with progress.status("setting up PaddleSlim 2.6.0 on Paddle 2.6.2"):
            return {**here, Python.PEER: paddleslim(_FOLDER / "paddleslim")}, ()
    except SetupError as error:
        return here, (f"PaddleSlim was not set up: {error}",)


def _measured(
    rows: Sequence[Row], run: Run, progress: Console
) -> tuple[Mapping[Turn, Outcome], bool]:
    """Measure group by group; an interrupt ends it, and what was measured before is kept."""
    outcomes: dict[Turn, Outcome] = {}
    groups = {name: [row for row in rows if row in group] for name, group in GROUPS.items()}
    steps = {name: len(turns(group, run)) * run.rounds for name, group in groups.items()}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=progress, transient=True) as bar:
        task = bar.add_task("", total=sum(steps.values()))
        for name, group in groups.items():
            if group and not progress.is_terminal:
                progress.print(f"measuring {name}: {steps[name]} samples")
            try:
                measure(group, run, outcomes, partial(_advance, bar, task, name))
            except KeyboardInterrupt:
                return outcomes, True
    return outcomes, False


def _advance(bar: Progress, task: TaskID, group: str, case: Case, index: int) -> None:
    bar.update(task, advance=1, description=f"{group}, round {index + 1}: {case.about}")


def _failures(outcomes: Mapping[Turn, Outcome]) -> Iterator[str]:
    for (case, size), outcome in outcomes.items():
        if outcome.failure is not None:
            at = "" if size is None else f" at {size:,}"
            made = f"{case.make.__name__}{case.arguments}"
            yield f"not measured: {case.about}, {made}{at}: {outcome.failure}"


if __name__ == "__main__":
    sys.exit(main())
