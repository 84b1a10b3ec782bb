"""Print results to stdout, diagnostics and progress to stderr, both with rich."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from graphtool.diagnostics import Call, Diagnostic, Report, Severity, Where, counted
from graphtool.graph import UNKNOWN_DIM, Shape, Value
from graphtool.text import escaped_bounded, printable, shell_option

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod
    from rich.segment import Segment
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "STEM",
    "TITLE",
    "WARNING",
    "Column",
    "errors",
    "feed_text",
    "magnitude",
    "percent",
    "print_table",
    "progress",
    "report_data",
    "results",
    "shape_text",
    "shell_help",
    "show_report",
    "stage_text",
    "tally",
    "tolerate_narrow_encoding",
    "value_type",
    "write_json",
]

# Red and magenta are legible on light and dark backgrounds: their contrast is at least 2.7 on white
# and on black with the colours of xterm, VGA, GNOME and VS Code. Yellow, green and cyan have less.
TITLE, WARNING = "bold", "magenta"
_STYLES = {
    Severity.ERROR: "bold red",
    Severity.WARNING: f"bold {WARNING}",
    Severity.NOTE: "bold",
}
# A word longer than its column is broken after these parts.
_PATH_PART = re.compile(r"[^/._]*[/._]?")
# Piped text is never wrapped, so that names can be searched for.
_PIPED_WIDTH = 100_000
_GAP = 2
_HELP_PREFIX = "  = help: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table, as plain text; a table without titles has no header.

    `style` is that of its cells. `least` is the minimum width it may wrap at, None to never wrap.
    If the terminal is too narrow, columns of a higher `order` are omitted first, then those further
    to the right.
    """

    title: str
    cells: Sequence[str]
    style: str = ""
    justify: JustifyMethod = "left"
    least: int | None = None
    order: int = 0

    @property
    def width(self) -> int:
        """Return the width at which no cell wraps."""
        from rich.cells import cell_len

        lines = (line for cell in self.cells for line in cell.split("\n"))
        return max(map(cell_len, (self.title, *lines)))

    @property
    def least_width(self) -> int:
        """Return the minimum width."""
        return self.width if self.least is None else min(self.least, self.width)


def results() -> Console:
    """Return the console of stdout, for results."""
    return _console(sys.stdout)


def errors() -> Console:
    """Return the console of stderr, for diagnostics and progress."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class Plain(Console):
        """Raises for a closed stdout, as without rich, and ignores a closed stderr."""

        def on_broken_pipe(self) -> None:
            if stream is not sys.stderr:
                raise BrokenPipeError

    width = None if stream.isatty() else _PIPED_WIDTH
    return Plain(file=stream, width=width, markup=False, emoji=False, highlight=False)


def tolerate_narrow_encoding() -> None:
    """Escape characters that stdout's encoding lacks, as stderr does."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def write_json(data: Any) -> None:
    """Write data to stdout as JSON, in ASCII so that names can't send escape sequences."""
    import json

    # One call: an interrupt leaves nothing or all of it.
    sys.stdout.write(f"{json.dumps(data, indent=2)}\n")


@contextmanager
def progress(text: str) -> Generator[None]:
    """Show a spinner with a text on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    with errors().status(Text(f"{escaped_bounded(text)} …"), spinner_style=TITLE):
        yield


def show_report(report: Report) -> None:
    """Print Diagnostics on stderr."""
    if not report:
        return
    console = errors()
    for diagnostic in report:
        _show_diagnostic(console, diagnostic)


def _show_diagnostic(console: Console, diagnostic: Diagnostic) -> None:
    from rich.text import Text

    heading, *details = replace(diagnostic, help=shell_help(diagnostic.help)).parts
    title = Text(heading, style="bold")
    title.stylize(_STYLES[diagnostic.severity], 0, heading.index("]") + 1)
    console.print(title, soft_wrap=True)
    for part in details:
        line = Text(part)
        if part.startswith(_HELP_PREFIX):
            line.stylize("bold", len(_HELP_PREFIX))
        console.print(line, soft_wrap=True)


def print_table(console: Console, columns: Sequence[Column], *, spaced: bool = False) -> None:
    """Print a table within the width of the console, and the titles of columns that don't fit.

    `spaced` adds a blank line between rows.
    """
    shown = _fitting_columns(columns, console.width)
    table = _table(shown, spaced=spaced, cell=_cell_factory(console))
    if console.is_terminal:
        console.print(table)
    else:
        with console.capture() as captured:
            console.print(table)
        # Remove the spaces with which Rich pads the last column.
        console.out("\n".join(line.rstrip() for line in captured.get().splitlines()))
    omitted = [column.title for column in columns if any(column.cells) and column not in shown]
    if omitted:
        listed = ", ".join(omitted)
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


def _cell_factory(console: Console) -> Callable[[str], Text]:
    """Return the function from a string to a cell, which on a terminal breaks paths at parts."""
    from rich.text import Text

    class Folded(Text):
        """Text with its long words broken after `/`, `.` and `_`."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
            text = _break_words(self.plain, options.max_width)
            yield from Text(text).__rich_console__(console, options)

    return Folded if console.is_terminal else Text


def _break_words(text: str, width: int) -> str:
    """Break the words of a text that are wider than a column."""
    lines = text.split("\n")
    return "\n".join(
        " ".join("\n".join(_lines_of_word(word, width)) for word in line.split(" "))
        for line in lines
    )


def _lines_of_word(word: str, width: int) -> Iterator[str]:
    from rich.cells import cell_len

    line = ""
    for part in _PATH_PART.findall(word):
        if line and cell_len(line + part) > width:
            yield line
            line = ""
        line += part
    yield line


def _fitting_columns(columns: Sequence[Column], width: int) -> list[Column]:
    shown = [column for column in columns if column.title == "" or any(column.cells)]
    # The first column identifies a row; a column without a title can't be listed as omitted.
    omissible = sorted(
        (column for column in shown[1:] if column.title), key=lambda column: column.order
    )
    while omissible and _least_width(shown) > width:
        shown.remove(omissible.pop())
    return shown


def _least_width(columns: Sequence[Column]) -> int:
    widths = (column.least_width for column in columns)
    # Rich adds a gap after the last column too, and cuts what doesn't fit beside it.
    return sum(widths) + _GAP * len(columns)


# Longer names are shortened.
_MAX_WHOLE_NAME = 1000
# The name of stage 0.
STEM = "stem"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def feed_text(teacher: str, student: str) -> str:
    """Write the value of `--feed` for two feeds; very long names are shortened."""
    return "=".join(
        escaped_bounded(name) if len(name) > _MAX_WHOLE_NAME else name
        for name in (teacher, student)
    )


def shape_text(shape: Shape | None) -> str:
    """Write a shape as `[?, 512, 7, 7]`; unknown dims are `?`."""
    if shape is None:
        return "?"
    return f"[{', '.join('?' if dim == UNKNOWN_DIM else str(dim) for dim in shape)}]"


def stage_text(number: int) -> str:
    """Write the number of a stage as `--stage` takes it."""
    return str(number) if number else STEM


def value_type(value: Value) -> str:
    """Write shape and dtype: `[?, 512, 7, 7] float32`."""
    return f"{shape_text(value.shape)} {printable(value.dtype or '?')}"


def magnitude(number: int) -> str:
    """Write a number to three digits: `4.09 G`, `25.6 M`, `812`."""
    for scale, letter in _SCALES:
        # A number that rounds to a thousand gets the next letter: 999,999 is 1 M.
        if number >= scale * 0.9995:
            return f"{float(f'{number / scale:.3g}'):g} {letter}"
    return str(number)


def percent(fraction: float) -> str:
    """Write a fraction as a whole percentage; small ones are `<1%`."""
    return "<1%" if 0 < fraction < 0.005 else f"{fraction:.0%}"


_OPTIONS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "allow_random": lambda _: iter(["--allow-random"]),
    "evidence": lambda samples: iter([shell_option("--evidence", samples)]),
    "feed_map": lambda feeds: (shell_option("--feed", feed_text(*pair)) for pair in feeds.items()),
    "force": lambda _: iter(["--force"]),
    "focus": lambda name: iter([shell_option("--focus", name)]),
    "name_prefix": lambda prefix: iter([shell_option("--prefix", prefix)]),
    "path": lambda path: iter([shell_option("-o", path)]),
    "shared": lambda names: (shell_option("--shared", name) for name in names),
}


def report_data(report: Report) -> list[dict[str, Any]]:
    """Return Diagnostics as plain data, with the fields of the dataclass as keys."""
    return [_diagnostic_data(diagnostic) for diagnostic in report]


def tally(report: Report) -> str:
    """Count the Diagnostics by severity, without zeros: `1 error, 2 warnings, 3 notes`."""
    counts = [
        (severity, sum(diagnostic.severity is severity for diagnostic in report))
        for severity in Severity
    ]
    return ", ".join(counted(count, severity.value) for severity, count in counts if count)


def shell_help(help: str | None) -> str | None:
    """Return the help of a Diagnostic as the command line takes it."""
    if not isinstance(help, Call) or not help.arguments.keys() <= _OPTIONS.keys():
        return help
    options = (text for name, value in help.arguments.items() for text in _OPTIONS[name](value))
    return " ".join(options) + help.comment


def _diagnostic_data(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "severity": diagnostic.severity.value,
        "code": diagnostic.code,
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        "where": [_where_data(where) for where in diagnostic.where],
        "notes": diagnostic.notes,
        "help": shell_help(diagnostic.help),
        "count": diagnostic.count,
    }


def _where_data(where: Where) -> dict[str, Any]:
    return {
        "role": where.role,
        "program": where.program,
        "value": where.value,
        "shape": where.shape,
        "source": where.source,
    }
