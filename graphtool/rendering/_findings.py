"""Draw the list of diagnostics below two networks, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphtool.diagnostics import counted
from graphtool.rendering._html_labels import cell, filled, gap, row, table, text
from graphtool.rendering._palette import INK, MUTED, PAPER, scheme_of_severity
from graphtool.rendering.board import Mark

__all__ = ["findings_label"]

# The height of a row, the space above its text, and the widths of its columns, in points.
_ROW_HEIGHT, _TEXT_DROP = 20, 3
_INDENT, _CODE, _SEVERITY, _SLUG = 10, 46, 56, 150
_MAX_SHOWN = 12


def findings_label(marks: Sequence[Mark], width: int) -> str:
    """Return a table of the first diagnostics and the number of the others; width in points."""
    rows = (_diagnostic_row(mark, width) for mark in marks[:_MAX_SHOWN])
    return table((*rows, *_hidden_count(marks, width)), border=MUTED, fill=PAPER)


def _diagnostic_row(mark: Mark, width: int) -> str:
    scheme = scheme_of_severity(mark.severity)
    height = _ROW_HEIGHT - _TEXT_DROP
    times = f" (× {mark.count})" if mark.count > 1 else ""
    message_width = width - _CODE - 2 * _INDENT - _SEVERITY - _SLUG
    code = text(mark.code, width=_CODE, color=scheme.on_full, bold=True, align="CENTER")
    code_table = table((gap(_CODE, _TEXT_DROP), row(cell(_CODE, height, code, align="CENTER"))))

    def column(content: str, width: int, color: str, *, bold: bool = False) -> str:
        return cell(width, height, text(content, width=width - 4, color=color, bold=bold))

    cells = (
        cell(_INDENT, height),
        column(mark.severity.value, _SEVERITY, scheme.full, bold=True),
        column(mark.slug, _SLUG, INK, bold=True),
        column(f"{mark.message}{times}", message_width, INK),
        cell(_INDENT, height),
    )
    rest = width - _CODE
    rest_table = table((gap(rest, _TEXT_DROP), row(filled(table((row(*cells),))))))
    both = row(
        cell(_CODE, _ROW_HEIGHT, code_table, fill=scheme.full),
        cell(rest, _ROW_HEIGHT, rest_table, fill=scheme.tint),
    )
    return row(filled(table((both,))))


def _hidden_count(marks: Sequence[Mark], width: int) -> Iterator[str]:
    hidden = len(marks) - _MAX_SHOWN
    if hidden > 0:
        label = text(f"and {counted(hidden, 'finding')} more", width=width - _CODE, color=MUTED)
        yield row(cell(width, _ROW_HEIGHT, label, align="CENTER"))
