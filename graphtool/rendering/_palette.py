"""Colours, distinct with deuteranopia and protanopia, of contrast 4.2 or more on opaque fills."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.diagnostics import Severity

__all__ = [
    "FLOW",
    "FONT",
    "INK",
    "MUTED",
    "PAIR",
    "PAPER",
    "Scheme",
    "scheme_of",
    "scheme_of_severity",
]

FONT = "Helvetica,Arial,sans-serif"
PAPER, INK, MUTED, FLOW = "#FFFFFF", "#1B2430", "#5F6B7A", "#8793A3"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A colour, its tint, and the colour of text on the full one."""

    full: str
    tint: str
    on_full: str


_TEACHER = Scheme("#0072B2", "#E2EEF8", "#E6F1F9")
_STUDENT = Scheme("#00805E", "#DFF3EC", "#E4F5EF")
PAIR = Scheme("#C85200", "#FDEBDD", "#FFFFFF")

_SEVERITIES = {
    Severity.ERROR: Scheme("#A5123C", "#FBE5EB", "#FFFFFF"),
    Severity.WARNING: Scheme("#7A5C00", "#F7EFD6", "#FFFFFF"),
    Severity.NOTE: Scheme(MUTED, "#EEF0F3", "#FFFFFF"),
}


def scheme_of_severity(severity: Severity) -> Scheme:
    """Return the colours of a severity; code and severity are always written out as well."""
    return _SEVERITIES[severity]


def scheme_of(role: str | None) -> Scheme:
    """Return the colours of a network, by its role."""
    return _STUDENT if role == "student" else _TEACHER
