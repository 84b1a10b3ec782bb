"""Convert Reports to JSON data, and count their diagnostics."""

from __future__ import annotations

from typing import Any

from graphtool.diagnostics import Diagnostic, Report, Severity, Where, counted

__all__ = ["report_data", "tally"]


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


def _diagnostic_data(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "severity": diagnostic.severity.value,
        "code": diagnostic.code,
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        "where": [_where_data(where) for where in diagnostic.where],
        "notes": diagnostic.notes,
        "help": diagnostic.help,
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
