"""What works on which Paddle and Python: a table of the results that `nox` leaves.

python -m tests.versions build/versions
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.markdown import Markdown

COLUMNS = {
    "reading": ("readers", "structure", "hostile", "fuzzing", "security"),
    "pairs": ("matching",),
    "checks": ("checks",),
    "merging": ("merging", "injection"),
    "losses": ("losses", "test_compat"),
    "training": ("training", "soak"),
    "pictures": ("rendering",),
    "commands": ("cli", "faults", "test_readme", "test_import", "test_diagnostics"),
}
_BAD = frozenset({"failure", "error"})


def main(folder: Path) -> None:
    """Print a line for each file of results as a table, and write it as Markdown beside them."""
    files = sorted(folder.glob("paddle-*-python-*.xml"), key=_releases)
    lines = [
        f"| Paddle | Python | {' | '.join(COLUMNS)} | GPU |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for file in files:
        counts = _counts(file)
        cells = (_cell(counts, parts) for parts in COLUMNS.values())
        lines.append(f"| {' | '.join((*_releases(file), *cells))} | untested |")
    text = "\n".join(lines)
    console = Console()
    console.print(Markdown(text))
    (folder / "table.md").write_text(f"{text}\n", encoding="utf-8")


def _releases(file: Path) -> tuple[str, str]:
    _, paddle, _, python = file.stem.split("-")
    return paddle, python


def _counts(file: Path) -> dict[str, Counter[bool]]:
    """Count what passed and what did not by the part of the tests; what was skipped is neither."""
    found: dict[str, Counter[bool]] = defaultdict(Counter)
    for part, kinds in _cases(file):
        if "skipped" not in kinds:
            found[part][kinds.isdisjoint(_BAD)] += 1
    return found


def _cases(file: Path) -> Iterator[tuple[str, set[str]]]:
    for case in ElementTree.parse(file).iter("testcase"):
        yield case.attrib["classname"].split(".")[1], {child.tag for child in case}


def _cell(counts: dict[str, Counter[bool]], parts: tuple[str, ...]) -> str:
    whole = sum((counts[part] for part in parts), Counter[bool]())
    passed, ran = whole[True], whole.total()
    if not ran:
        return "not run"
    return f"all {ran}" if passed == ran else f"{passed} of {ran}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
