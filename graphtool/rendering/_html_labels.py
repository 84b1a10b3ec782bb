"""Build HTML-like labels of Graphviz from nested tables of fixed size."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from graphtool.rendering._text_metrics import fitted

__all__ = ["cell", "escaped", "filled", "gap", "row", "table", "text"]

# Bold and regular text on one line have different baselines. A bold hair space beside each gives
# all cells the same.
_STRUT = "&#8202;"


def escaped(content: str) -> str:
    r"""Escape text for a label; Graphviz replaces `\N` by the node's name, but not `\\N`."""
    return escape(content).replace("\\", "\\\\")


def text(
    content: str,
    *,
    width: float,
    size: float = 10,
    color: str,
    bold: bool = False,
    align: str = "LEFT",
) -> str:
    """Return escaped text cut to a width in points; cut text ends in `…`."""
    shown = escaped(fitted(content, width, size, bold=bold))
    if not shown:
        return ""
    font = f'<FONT POINT-SIZE="{size:g}" COLOR="{color}">'
    strut = f"{font}<B>{_STRUT}</B></FONT>"
    body = f"{font}<B>{shown}</B></FONT>" if bold else f"{font}{shown}</FONT>"
    return strut + body if align == "LEFT" else body + strut


def cell(
    width: float,
    height: float,
    content: str = "",
    *,
    align: str = "LEFT",
    fill: str = "",
    port: str = "",
) -> str:
    """Return a cell of exactly this size in points; Graphviz fails on content that doesn't fit."""
    optional = (f' BGCOLOR="{fill}"' if fill else "") + (f' PORT="{port}"' if port else "")
    size = f'FIXEDSIZE="TRUE" WIDTH="{width:g}" HEIGHT="{height:g}"'
    return f'<TD {size} ALIGN="{align}"{optional}>{content}</TD>'


def gap(width: float, height: float) -> str:
    """Return an empty row."""
    return row(cell(width, height))


def row(*cells: str) -> str:
    """Return a row of cells."""
    return f"<TR>{''.join(cells)}</TR>"


def filled(content: str, *, port: str = "") -> str:
    """Return a cell as large as its content."""
    return f"<TD{f' PORT={chr(34)}{port}{chr(34)}' if port else ''}>{content}</TD>"


def table(rows: Iterable[str], *, border: str = "", fill: str = "", spacing: int = 0) -> str:
    """Return a table of rows; `border` is the colour of its border, empty for none."""
    frame = f'BORDER="1" COLOR="{border}"' if border else 'BORDER="0"'
    ground = f' BGCOLOR="{fill}"' if fill else ""
    inner = f'CELLBORDER="0" CELLSPACING="{spacing}" CELLPADDING="0"'
    return f"<TABLE {frame} {inner}{ground}>{''.join(rows)}</TABLE>"
