"""What graphtool weighs against its budgets: `python -m tests.size`.

Lines are physical ones, as `wc -l` counts them, of files that Git knows; the package's are those of
Python, JavaScript and CSS. The wheel is built. Exit status: 0 within all budgets, 1 otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from graphtool.cli._explain import all_docs

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Print the table."""
    table = Table("", "now", "budget", "of it")
    for column in table.columns[1:]:
        column.justify = "right"
    exceeded = False
    for name, size, budget in measured():
        exceeded |= size > budget
        table.add_row(
            name,
            f"{size:,}",
            f"{budget:,}",
            f"{size / budget:.0%}",
            style="red" if size > budget else None,
        )
    Console().print(table)
    return int(exceeded)


def measured() -> Iterator[tuple[str, int, int]]:
    """Yield what is measured, its size and its budget."""
    package = tracked("graphtool")
    modules = [path for path in package if path.suffix == ".py"]
    yield "package, lines", lines(package, ".py", ".js", ".css"), 31_000
    yield "modules", len(modules), 140
    yield "diagnostic codes", len(all_docs()), 150
    yield "tests, lines", lines(tracked("tests"), ".py"), 38_000
    yield "guides, lines", lines([*tracked("examples"), *ROOT.glob("README*.md")], ".md"), 10_000
    yield "wheel, bytes", wheel_size(), 500_000


def tracked(folder: str) -> list[Path]:
    """Return the files of a folder that Git knows."""
    names = subprocess.check_output(["git", "ls-files", folder], cwd=ROOT, text=True).splitlines()
    return [path for name in names if (path := ROOT / name).exists()]


def lines(paths: list[Path], *suffixes: str) -> int:
    """Count the lines of files with one of these suffixes."""
    return sum(path.read_bytes().count(b"\n") for path in paths if path.suffix in suffixes)


def wheel_size() -> int:
    """Build the wheel and return its size in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, "."]
        subprocess.check_call(command, cwd=ROOT)
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
