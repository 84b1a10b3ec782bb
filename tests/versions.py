"""What works on which Paddle and Python: a table of the results that `nox` leaves.

python -m tests.versions build/versions [PADDLE-PYTHON ...]

Of the runs that are named, those that left nothing are rows too. A cell counts the tests that
passed: `312`, or `280 + 32 skipped`, or `279 + 1 failed + 32 skipped`.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
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
OTHER = "other"
_COLUMN_OF = {part: column for column, parts in COLUMNS.items() for part in parts}
_FAILED = frozenset({"failure", "error"})


def main(folder: Path, runs: Sequence[str]) -> None:
    """Print a line for each run as a table, and write it as Markdown beside the results."""
    folder.mkdir(parents=True, exist_ok=True)
    text = table(folder, runs)
    console = Console()
    console.print(Markdown(text))
    (folder / "table.md").write_text(f"{text}\n", encoding="utf-8")


def table(folder: Path, runs: Sequence[str]) -> str:
    """Return a line for each run, by release: the named ones, and those of files that lie there."""
    files = {_run(file): file for file in folder.glob("paddle-*-python-*.xml")}
    columns = (*COLUMNS, OTHER)
    lines = [
        f"| Paddle | Python | {' | '.join(columns)} | GPU |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for run in sorted({*runs, *files}, key=_release):
        counts = _counts(files[run]) if run in files else None
        cells = ("not run" if counts is None else _cell(counts[column]) for column in columns)
        lines.append(f"| {' | '.join((*run.split('-'), *cells))} | untested |")
    return "\n".join(lines)


def _run(file: Path) -> str:
    _, paddle, _, python = file.stem.split("-")
    return f"{paddle}-{python}"


def _release(run: str) -> list[list[int]]:
    return [[int(number) for number in release.split(".")] for release in run.split("-")]


def _counts(file: Path) -> dict[str, Counter[str]]:
    """Count what passed, failed and was skipped by the column of the table."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for part, kinds in _cases(file):
        kind = "passed" if not kinds else "skipped" if kinds == {"skipped"} else "failed"
        found[_COLUMN_OF.get(part, OTHER)][kind] += 1
    return found


def _cases(file: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield the part of the tests and what it came to, of each test and each broken module."""
    for case in ElementTree.parse(file).iter("testcase"):
        # A module that can't be imported has its name in the place of a test's.
        module = case.attrib["classname"] or case.attrib["name"]
        kinds = {child.tag for child in case} & {*_FAILED, "skipped"}
        yield module.removeprefix("tests.").partition(".")[0], kinds


def _cell(counts: Counter[str]) -> str:
    others = [f"{counts[kind]} {kind}" for kind in ("failed", "skipped") if counts[kind]]
    return " + ".join((str(counts["passed"]), *others))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
