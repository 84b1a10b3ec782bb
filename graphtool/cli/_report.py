"""Reports as JSON, and in a line."""

from __future__ import annotations

from typing import Any

from graphtool.diagnostics import Diagnostic, Report, Severity, Where, counted

__all__ = ["report_data", "tally"]


def report_data(report: Report) -> list[dict[str, Any]]:
    """Return Diagnostics as plain data; the keys are those of the dataclass."""
    return [_diagnostic_data(found) for found in report]


def tally(report: Report) -> str:
    """Count the Diagnostics: `1 error, 2 warnings, 3 notes`; those that are not there are not."""
    counts = [
        (severity, sum(found.severity is severity for found in report)) for severity in Severity
    ]
    return ", ".join(counted(count, severity.value) for severity, count in counts if count)


def _diagnostic_data(found: Diagnostic) -> dict[str, Any]:
    return {
        "severity": found.severity.value,
        "code": found.code,
        "slug": found.slug,
        "message": found.message,
        "where": [_place_data(place) for place in found.where],
        "notes": found.notes,
        "help": found.help,
        "count": found.count,
    }


def _place_data(place: Where) -> dict[str, Any]:
    return {
        "role": place.role,
        "program": place.program,
        "value": place.value,
        "shape": place.shape,
        "source": place.source,
    }
