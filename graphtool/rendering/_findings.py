"""Draw the list of findings below two networks: what each says, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphtool.diagnostics import counted
from graphtool.rendering._labels import cell, gap, row, table, text
from graphtool.rendering._palette import INK, MUTED, PAPER, scheme_of_severity
from graphtool.rendering.board import Mark

__all__ = ["findings_label"]

_LINE, _DROP, _INDENT, _CODE, _SEVERITY, _SLUG = 20, 3, 10, 46, 56, 150
_MOST = 12


def findings_label(marks: Sequence[Mark], width: int) -> str:
    """Draw the first findings of many in a frame of this width, in points."""
    shown = (_line(mark, width) for mark in marks[:_MOST])
    return table((*shown, *_more(marks, width)), border=MUTED, fill=PAPER)


def _line(mark: Mark, width: int) -> str:
    scheme = scheme_of_severity(mark.severity)
    height = _LINE - _DROP
    times = f" (× {mark.count})" if mark.count > 1 else ""
    room = width - _CODE - 2 * _INDENT - _SEVERITY - _SLUG
    code = text(mark.code, room=_CODE, color=scheme.on_full, bold=True, align="CENTER")
    badge = table((gap(_CODE, _DROP), row(cell(_CODE, height, code, align="CENTER"))))
    cells = (
        cell(_INDENT, height),
        cell(_SEVERITY, height, _said(mark.severity.value, _SEVERITY, scheme.full, bold=True)),
        cell(_SLUG, height, _said(mark.slug, _SLUG, INK, bold=True)),
        cell(room, height, _said(f"{mark.message}{times}", room, INK)),
        cell(_INDENT, height),
    )
    rest = width - _CODE
    said = table((gap(rest, _DROP), row(f"<TD>{table((row(*cells),))}</TD>")))
    return row(
        "<TD>"
        + table(
            (
                row(
                    cell(_CODE, _LINE, badge, fill=scheme.full),
                    cell(rest, _LINE, said, fill=scheme.tint),
                ),
            )
        )
        + "</TD>"
    )


def _said(content: str, room: int, color: str, *, bold: bool = False) -> str:
    return text(content, room=room - 4, color=color, bold=bold)


def _more(marks: Sequence[Mark], width: int) -> Iterator[str]:
    left = len(marks) - _MOST
    if left > 0:
        said = text(f"and {counted(left, 'finding')} more", room=width - _CODE, color=MUTED)
        yield row(cell(width, _LINE, said, align="CENTER"))
