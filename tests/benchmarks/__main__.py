"""Measure graphtool beside its peers and floors: `python -m tests.benchmarks [ROW ...] [--quick]`.

Each row is something graphtool does, next to what another tool takes for it, or to what nobody can
do without. All that is compared takes turns, round by round. PaddleSlim is set up in an environment
of its own under `build/`; what is not installed (Graphviz, Chromium) leaves its rows empty, with
the reason. Exit status: 0 when everything was measured, whether targets are met or not, 1 when
something failed, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.benchmarks import commands, merging, page, reading, training
from tests.benchmarks.sampling import ROOT, Outcome, Row, Run, Turn, measure
from tests.benchmarks.table import lines, listing, recorded, table

# The cases of one group take turns.
GROUPS: Mapping[str, Sequence[Row]] = {
    "commands": commands.ROWS,
    "page": page.ROWS,
    "reading": reading.ROWS,
    "live": merging.LIVE,
    "merging": merging.NETWORKS,
    "growth of merging": merging.GROWTH,
    "training": training.STEP,
    "evidence": training.EVIDENCE,
    "memory": (*merging.MEMORY, *training.MEMORY),
}
_FOLDER = ROOT / "build" / "benchmarks"
_LOCK = Path(__file__).with_name("peer.txt")
_ROUNDS, _QUICK_ROUNDS = 7, 5
_QUICK_LARGEST = 10_000
# Of lines that are not written to a terminal.
_WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, print the table, and write `results.json`."""
    every = [row for rows in GROUPS.values() for row in rows]
    args = _arguments(arguments, [row.name for row in every])
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
    pythons = {"here": sys.executable}
    if any(case.python == "peer" for row in rows for case in row.sides.values()):
        try:
            with progress.status("setting up PaddleSlim 2.6.0 on Paddle 2.6.2"):
                pythons["peer"] = _paddleslim(_FOLDER / "paddleslim")
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            failures.append(f"PaddleSlim was not set up: {said.strip().splitlines()[-1]}")
    interrupted = False
    with tempfile.TemporaryDirectory() as work:
        run = Run(args.rounds, pythons, Path(work), args.largest)
        for name, group in GROUPS.items():
            watched = partial(track, description=name, console=progress)
            wanted = [row for row in rows if row in group]
            try:
                measure(wanted, run, outcomes, watched if wanted else list)
            except KeyboardInterrupt:
                # What was measured before is kept.
                interrupted = True
                failures.append("interrupted: not all was measured")
                break
    for (case, size), outcome in outcomes.items():
        if outcome.failure is not None:
            at = "" if size is None else f" at {size:,}"
            failures.append(f"not measured: {case}{at}: {outcome.failure}")
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
    return 130 if interrupted else int(bool(failures))


def _arguments(given: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
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
    add("--rounds", type=int, help=f"rounds to take; {_ROUNDS} unless given")
    add("--largest", type=int, metavar="OPERATORS", help="leave larger networks out")
    add("-o", "--output", type=Path, default=_FOLDER, metavar="FOLDER", help="where files go")
    args = parser.parse_args(given)
    args.rounds = args.rounds or (_ROUNDS if args.all else _QUICK_ROUNDS)
    args.largest = args.largest or (None if args.all else _QUICK_LARGEST)
    if unknown := [name for name in args.rows if name not in names]:
        parser.error(f"no row `{unknown[0]}` among: {', '.join(names)}")
    return args


def _paddleslim(folder: Path) -> str:
    """Return a Python with PaddleSlim 2.6.0 and Paddle 2.6.2, in an environment of its own.

    PaddleSlim lists neither `six`, `requests`, `pyzmq` nor `decorator`, which it imports, nor that
    it wants a `pip` and a setuptools that still has `pkg_resources`; `peer.txt` locks all of them,
    and what graphtool needs to merge beside it. Paddle 2.6.2 has wheels for Python 3.8 to 3.12.
    """
    python, done = str(folder / "bin" / "python"), folder / "installed.txt"
    if done.is_file() and done.read_text() == _LOCK.read_text():
        return python
    base = sys.executable
    if sys.version_info >= (3, 13):
        bases = filter(None, map(shutil.which, ("python3.12", "python3.11", "python3.10")))
        base = next(bases, None) or "python3.12"
    shutil.rmtree(folder, ignore_errors=True)
    uses = "import zlib, paddle; paddle.enable_static(); from paddleslim.dist import merge"
    for command in (
        (base, "-m", "venv", str(folder)),
        (python, "-m", "pip", "install", "--quiet", "--requirement", str(_LOCK)),
        (python, "-c", uses),
    ):
        subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.copyfile(_LOCK, done)
    return python


def _commit() -> str | None:
    """Return the commit, marked where files differ from it; None outside of a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    sys.exit(main())
