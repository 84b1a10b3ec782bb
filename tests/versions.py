"""What works on which Paddle and Python: a table of the results that `nox` leaves.

python -m tests.versions build/versions [PADDLE-PYTHON ...]

Of the runs that are named, those that left nothing are rows too. A cell counts the tests that
passed: `312`, or `280 + 32 skipped`, or `279 + 1 failed + 32 skipped`.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.markdown import Markdown

COLUMNS = {
    "reading": ("readers", "backend", "sources", "structure", "hostile", "fuzzing", "security"),
    "pairs": ("matching",),
    "checks": ("checks",),
    "merging": ("merging", "injection"),
    "losses": ("losses", "test_compat"),
    "training": ("training", "soak"),
    "pictures": ("rendering",),
    "commands": ("cli", "faults", "test_readme", "test_import", "test_diagnostics"),
}
_COLUMN_OF = {part: column for column, parts in COLUMNS.items() for part in parts}


def main(folder: Path, runs: Sequence[str]) -> None:
    """Print a line for each run as a table, and write it as Markdown beside the results."""
    folder.mkdir(parents=True, exist_ok=True)
    text = table(folder, runs)
    Console().print(Markdown(text))
    (folder / "table.md").write_text(f"{text}\n", encoding="utf-8")


def table(folder: Path, runs: Sequence[str]) -> str:
    """Return a line for each run, by release: the named ones, and those of files that lie there."""
    files = {
        file.stem.removeprefix("paddle-").replace("-python-", "-"): file
        for file in folder.glob("paddle-*-python-*.xml")
    }
    columns = (*COLUMNS, "other")
    lines = [f"| Paddle | Python | {' | '.join(columns)} | GPU |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    for run in sorted({*runs, *files}, key=lambda run: list(map(int, re.split("[.-]", run)))):
        counts = _counts(files[run]) if run in files else None
        cells = ("not run" if counts is None else _cell(counts[column]) for column in columns)
        lines.append(f"| {' | '.join((*run.split('-'), *cells))} | untested |")
    return "\n".join(lines)


def _counts(file: Path) -> dict[str, Counter[str]]:
    """Count what passed, failed and was skipped by the column of the table."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for case in ElementTree.parse(file).iter("testcase"):
        # A module that can't be imported has its name in the place of a test's.
        module = case.attrib["classname"] or case.attrib["name"]
        part = module.removeprefix("tests.").partition(".")[0]
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        kind = "passed" if not kinds else "skipped" if kinds == {"skipped"} else "failed"
        found[_COLUMN_OF.get(part, "other")][kind] += 1
    return found


def _cell(counts: Counter[str]) -> str:
    others = [f"{counts[kind]} {kind}" for kind in ("failed", "skipped") if counts[kind]]
    return " + ".join((str(counts["passed"]), *others))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
