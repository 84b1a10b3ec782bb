"""Print results to stdout, diagnostics and progress to stderr, both with rich."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, cast

from graphtool.diagnostics import Call, Report, Severity, counted
from graphtool.text import escaped_bounded, shell_option

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod
    from rich.segment import Segment

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
    "shell_help",
    "show_report",
    "stage_text",
    "tally",
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
# Longer names are shortened.
_MAX_WHOLE_NAME = 1000
# The name of stage 0.
STEM = "stem"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# The options for the arguments of a help that is a Call.
_OPTIONS = {
    "allow_random": "--allow-random",
    "evidence": "--evidence",
    "feed_map": "--feed",
    "focus": "--focus",
    "force": "--force",
    "name_prefix": "--prefix",
    "path": "-o",
    "shared": "--shared",
}
_FIELDS = ("severity", "code", "slug", "message", "where", "notes", "help", "count")


class Column(NamedTuple):
    """A column of a table; a table without titles has no header.

    `style` is that of its cells. `least` is the minimum width it may wrap at, None to never wrap.
    If the terminal is too narrow, columns of a higher `order` are omitted first, then those further
    to the right.
    """

    title: str
    style: str = ""
    justify: JustifyMethod = "left"
    least: int | None = None
    order: int = 0


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


def write_json(data: Any) -> None:
    """Write data and dataclasses to stdout as JSON, in ASCII so that no name escapes."""
    import json

    # One call: an interrupt leaves nothing or all of it.
    sys.stdout.write(f"{json.dumps(data, indent=2, default=asdict)}\n")


@contextmanager
def progress(text: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """Show a text on a terminal, with a bar for a `total`; yields what sets how much is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = [SpinnerColumn(style=TITLE), TextColumn("{task.description} …", markup=False)]
    bar = [] if total is None else [BarColumn()]
    with Progress(*columns, *bar, console=errors(), transient=True) as shown:
        task = shown.add_task(escaped_bounded(text), total=total)
        yield lambda done: shown.update(task, completed=done)


def show_report(report: Report) -> None:
    """Print Diagnostics on stderr."""
    if not report:
        return
    from rich.text import Text

    console = errors()
    for diagnostic in report:
        heading, *details = replace(diagnostic, help=shell_help(diagnostic.help)).parts
        title = Text(heading, style="bold")
        title.stylize(_STYLES[diagnostic.severity], 0, heading.index("]") + 1)
        console.print(title, soft_wrap=True)
        for part in details:
            line = Text(part)
            if part.startswith(_HELP_PREFIX):
                line.stylize("bold", len(_HELP_PREFIX))
            console.print(line, soft_wrap=True)


def print_table(
    console: Console,
    columns: Sequence[Column | str],
    rows: Sequence[Sequence[str]],
    *,
    spaced: bool = False,
) -> None:
    """Print a table within the width of the console, and the titles of columns that don't fit.

    A column is its title where nothing else is to say. `spaced` adds a blank line between rows.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    class Folded(Text):
        """Text with its long words broken after `/`, `.` and `_`."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
            width = options.max_width
            text = "\n".join(
                " ".join(_folded(word, width) for word in line.split(" "))
                for line in self.plain.split("\n")
            )
            yield from Text(text).__rich_console__(console, options)

    def least_width(column: Column, cells: Sequence[str]) -> int:
        whole = max(map(cell_len, (column.title, *"\n".join(cells).split("\n"))))
        return whole if column.least is None else min(column.least, whole)

    cells_of = list(zip(*rows, strict=True)) or [()] * len(columns)
    all_columns = [Column(one) if isinstance(one, str) else one for one in columns]
    filled = list(zip(all_columns, cells_of, strict=True))
    shown = [one for one in filled if one[0].title == "" or any(one[1])]
    # The first column identifies a row; a column without a title can't be listed as omitted.
    omissible = sorted((one for one in shown[1:] if one[0].title), key=lambda one: one[0].order)
    # Rich adds a gap after the last column too, and cuts what doesn't fit beside it.
    while omissible and sum(least_width(*one) + _GAP for one in shown) > console.width:
        shown.remove(omissible.pop())
    table = Table(box=None, padding=(0, _GAP, int(spaced), 0), pad_edge=False, header_style="bold")
    for column, cells in shown:
        table.add_column(
            Text(column.title),
            style=column.style,
            justify=column.justify,
            overflow="fold",
            no_wrap=column.least is None,
            min_width=least_width(column, cells),
        )
    for row in zip(*(cells for _, cells in shown), strict=True):
        table.add_row(*map(Folded if console.is_terminal else Text, row))
    if console.is_terminal:
        console.print(table)
    else:
        with console.capture() as captured:
            console.print(table)
        # Remove the spaces with which Rich pads the last column.
        console.out("\n".join(line.rstrip() for line in captured.get().splitlines()))
    omitted = [one[0].title for one in filled if any(one[1]) and one not in shown]
    if omitted:
        remark = f"too narrow for: {', '.join(omitted)}; widen the terminal or use --format json"
        console.print(remark, style="dim")


def _folded(word: str, width: int) -> str:
    """Break a word that is wider than a column."""
    from rich.cells import cell_len

    lines = [""]
    for part in _PATH_PART.findall(word):
        if lines[-1] and cell_len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def feed_text(teacher: str, student: str) -> str:
    """Write the value of `--feed` for two feeds; very long names are shortened."""
    return "=".join(
        escaped_bounded(name) if len(name) > _MAX_WHOLE_NAME else name
        for name in (teacher, student)
    )


def stage_text(number: int | None) -> str:
    """Write the number of a stage as `--stage` takes it."""
    return "" if number is None else str(number or STEM)


def magnitude(number: int) -> str:
    """Write a number to three digits: `4.09 G`, `25.6 M`, `812`."""
    for scale, letter in _SCALES:
        # A number that rounds to a thousand gets the next letter: 999,999 is 1 M.
        if number >= scale * 0.9995:
            return f"{float(f'{number / scale:.3g}'):g} {letter}"
    return str(number)


def percent(fraction: float | None) -> str:
    """Write a fraction as a whole percentage; small ones are `<1%`, None is nothing."""
    if fraction is None:
        return ""
    return "<1%" if 0 < fraction < 0.005 else f"{fraction:.0%}"


def tally(report: Report) -> str:
    """Count the Diagnostics by severity, without zeros: `1 error, 2 warnings, 3 notes`."""
    counts = (
        (sum(diagnostic.severity is severity for diagnostic in report), severity.value)
        for severity in Severity
    )
    return ", ".join(counted(count, name) for count, name in counts if count)


def report_data(report: Report) -> list[dict[str, Any]]:
    """Return Diagnostics as data for JSON."""
    return [
        {name: getattr(one, name) for name in _FIELDS}
        | {"severity": one.severity.value, "help": shell_help(one.help)}
        for one in report
    ]


def shell_help(help: str | None) -> str | None:
    """Return the help of a Diagnostic as the command line takes it."""
    if not isinstance(help, Call) or not help.arguments.keys() <= _OPTIONS.keys():
        return help
    words: list[str] = []
    for name, value in help.arguments.items():
        match value:
            case bool():
                words.append(_OPTIONS[name])
            case str():
                words.append(shell_option(_OPTIONS[name], value))
            case Mapping():
                feeds = cast("Mapping[str, str]", value)
                words += (shell_option("--feed", feed_text(*feed)) for feed in feeds.items())
            case _:
                option, texts = _OPTIONS[name], cast("tuple[str, ...]", value)
                words += (shell_option(option, text) for text in texts)
                words += () if texts else (f"leave {option} out",)
    return " ".join(words) + help.comment
