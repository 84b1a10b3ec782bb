"""Labels of Graphviz as nested tables, and what is needed to keep their text where it belongs."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from graphtool.rendering._text import fitted

__all__ = ["cell", "escaped", "filled", "gap", "row", "table", "text"]

# In one line, bold and regular text stand on different heights: a hair space in bold, beside
# either, gives all cells the same.
_STRUT = "&#8202;"


def escaped(content: str) -> str:
    r"""Return text as markup has it; Graphviz would write a node's name for `\N`, not for `\\N`."""
    return escape(content).replace("\\", "\\\\")


def text(
    content: str,
    *,
    room: float,
    size: float = 10,
    color: str,
    bold: bool = False,
    align: str = "LEFT",
) -> str:
    """Return escaped text that fits the room, in points; longer text ends in `…`."""
    shown = escaped(fitted(content, room, size, bold=bold))
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
    """Return a cell of exactly this size in points: what does not fit aborts Graphviz."""
    optional = (f' BGCOLOR="{fill}"' if fill else "") + (f' PORT="{port}"' if port else "")
    size = f'FIXEDSIZE="TRUE" WIDTH="{width:g}" HEIGHT="{height:g}"'
    return f'<TD {size} ALIGN="{align}"{optional}>{content}</TD>'


def gap(width: float, height: float) -> str:
    """Return a row that holds nothing."""
    return row(cell(width, height))


def row(*cells: str) -> str:
    """Return cells side by side."""
    return f"<TR>{''.join(cells)}</TR>"


def filled(content: str, *, port: str = "") -> str:
    """Return a cell as large as what it holds."""
    return f"<TD{f' PORT={chr(34)}{port}{chr(34)}' if port else ''}>{content}</TD>"


def table(rows: Iterable[str], *, border: str = "", fill: str = "", spacing: int = 0) -> str:
    """Return rows under each other; `border` is its colour."""
    frame = f'BORDER="1" COLOR="{border}"' if border else 'BORDER="0"'
    ground = f' BGCOLOR="{fill}"' if fill else ""
    inner = f'CELLBORDER="0" CELLSPACING="{spacing}" CELLPADDING="0"'
    return f"<TABLE {frame} {inner}{ground}>{''.join(rows)}</TABLE>"
