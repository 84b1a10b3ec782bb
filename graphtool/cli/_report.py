"""Convert Reports to JSON data, and count their diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graphtool.cli._formatting import feed_text
from graphtool.diagnostics import Call, Diagnostic, Report, Severity, Where, counted
from graphtool.text import shell_option

__all__ = ["report_data", "shell_help", "tally"]

_OPTIONS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "allow_random": lambda _: iter(["--allow-random"]),
    "evidence": lambda samples: iter([shell_option("--evidence", samples)]),
    "feed_map": lambda feeds: (shell_option("--feed", feed_text(*pair)) for pair in feeds.items()),
    "focus": lambda name: iter([shell_option("--focus", name)]),
    "name_prefix": lambda prefix: iter([shell_option("--prefix", prefix)]),
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
