"""Where output goes: results to stdout, diagnostics and progress to stderr, both through rich."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from graphtool.diagnostics import Diagnostic, Report, Severity
from graphtool.text import bounded

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod
    from rich.segment import Segment
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "TITLE",
    "WARNING",
    "Column",
    "errors",
    "print_table",
    "progress",
    "results",
    "show_report",
    "tolerate_narrow_encoding",
    "write_json",
]

# Red and magenta alone are legible on light and dark grounds (a contrast of 2.7 at least on white
# and on black with the colours of xterm, VGA, GNOME and VS Code; yellow, green and cyan are not).
TITLE, WARNING = "bold", "magenta"
_STYLES = {
    Severity.ERROR: "bold red",
    Severity.WARNING: f"bold {WARNING}",
    Severity.NOTE: "bold",
}
# Where a word that is longer than its column is broken.
_PART = re.compile(r"[^/._]*[/._]?")
# Piped text is cut nowhere: a name has to be whole to be searched for.
_PIPED_WIDTH = 100_000
_GAP = 2
_HELP = "  = help: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table, as plain text; a table without any title has no header.

    `style` is that of its cells. `least` is the width it can be folded to, None where it must not.
    Columns with a higher `order` are left out first where the terminal is too narrow, then those
    further to the right.
    """

    title: str
    cells: Sequence[str]
    style: str = ""
    justify: JustifyMethod = "left"
    least: int | None = None
    order: int = 0

    @property
    def width(self) -> int:
        """The width that shows every cell on one line."""
        from rich.cells import cell_len

        lines = (line for cell in self.cells for line in cell.split("\n"))
        return max(map(cell_len, (self.title, *lines)))

    @property
    def least_width(self) -> int:
        """The width that the column needs at least."""
        return self.width if self.least is None else min(self.least, self.width)


def results() -> Console:
    """Return the console for what was asked for."""
    return _console(sys.stdout)


def errors() -> Console:
    """Return the console for diagnostics and progress."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class Plain(Console):
        """Leaves a closed stdout to `main`, as it is without rich; stderr holds nothing up."""

        def on_broken_pipe(self) -> None:
            if stream is not sys.stderr:
                raise BrokenPipeError

    width = None if stream.isatty() else _PIPED_WIDTH
    return Plain(file=stream, width=width, markup=False, emoji=False, highlight=False)


def tolerate_narrow_encoding() -> None:
    """Let stdout write by its number what its encoding lacks, as stderr does."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def write_json(data: Any) -> None:
    """Write data to stdout as JSON, in ASCII: no name in it can act on a terminal."""
    import json

    # In one piece: an interrupt leaves nothing or all of it.
    sys.stdout.write(f"{json.dumps(data, indent=2)}\n")


@contextmanager
def progress(text: str) -> Generator[None]:
    """Say on a terminal what is being done, for as long as it takes."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    with errors().status(Text(f"{bounded(text)} …"), spinner_style=TITLE):
        yield


def show_report(report: Report) -> None:
    """Print Diagnostics on stderr."""
    if not report:
        return
    console = errors()
    for diagnostic in report:
        _show_diagnostic(console, diagnostic)


def _show_diagnostic(console: Console, found: Diagnostic) -> None:
    from rich.text import Text

    first, *others = found.parts
    title = Text(first, style="bold")
    title.stylize(_STYLES[found.severity], 0, first.index("]") + 1)
    console.print(title, soft_wrap=True)
    for part in others:
        line = Text(part)
        if part.startswith(_HELP):
            line.stylize("bold", len(_HELP))
        console.print(line, soft_wrap=True)


def print_table(console: Console, columns: Sequence[Column], *, spaced: bool = False) -> None:
    """Print a table as wide as the console allows, and the titles left out for width.

    `spaced` sets a blank line between rows.
    """
    shown = _fitting(columns, console.width)
    drawn = _table(shown, spaced=spaced, cell=_cell_of(console))
    if console.is_terminal:
        console.print(drawn)
    else:
        with console.capture() as captured:
            console.print(drawn)
        # Rich fills up the last column: a file is better off without.
        console.out("\n".join(line.rstrip() for line in captured.get().splitlines()))
    left_out = [c.title for c in columns if any(c.cells) and c not in shown]
    if left_out:
        listed = ", ".join(left_out)
        remark = f"too narrow for: {listed}; a wider terminal or --format json has them"
        console.print(remark, style="dim")


def _table(columns: Sequence[Column], *, spaced: bool, cell: Callable[[str], Text]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, _GAP, int(spaced), 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            Text(column.title),
            style=column.style,
            justify=column.justify,
            overflow="fold",
            no_wrap=column.least is None,
            min_width=column.least_width,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(cell, row))
    return table


def _cell_of(console: Console) -> Callable[[str], Text]:
    """Return what makes a cell of a string: on a terminal, paths are folded between their parts."""
    from rich.text import Text

    class Folded(Text):
        """Text with its long words broken behind `/`, `.` and `_`."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
            broken = _broken(self.plain, options.max_width)
            yield from Text(broken).__rich_console__(console, options)

    return Folded if console.is_terminal else Text


def _broken(text: str, width: int) -> str:
    """Break the words of a text that are wider than a column between their parts."""
    lines = text.split("\n")
    return "\n".join(
        " ".join("\n".join(_parts(word, width)) for word in line.split(" ")) for line in lines
    )


def _parts(word: str, width: int) -> Iterator[str]:
    from rich.cells import cell_len

    taken = ""
    for part in _PART.findall(word):
        if taken and cell_len(taken + part) > width:
            yield taken
            taken = ""
        taken += part
    yield taken


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    shown = [column for column in columns if column.title == "" or any(column.cells)]
    # The first column says what a row is about; one without a title could not be named.
    spare = sorted((c for c in shown[1:] if c.title), key=lambda column: column.order)
    while spare and _least_width(shown) > width:
        shown.remove(spare.pop())
    return shown


def _least_width(columns: Sequence[Column]) -> int:
    widths = (column.least_width for column in columns)
    # Rich reckons with a gap behind the last column too, and cuts what has no room beside it.
    return sum(widths) + _GAP * len(columns)
