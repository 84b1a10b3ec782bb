"""HTML-like labels of Graphviz: text that fits, tables of fixed size, and the colours of both."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from graphtool.diagnostics import Severity
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.text import printable

__all__ = [
    "FLOW",
    "FONT",
    "INK",
    "MUTED",
    "PAIR",
    "PAPER",
    "SEVERITIES",
    "Scheme",
    "amount",
    "cell",
    "dims",
    "escaped",
    "filled",
    "fitted",
    "gap",
    "percent",
    "row",
    "scheme_of",
    "table",
    "text",
    "width_of",
]

FONT = "Helvetica,Arial,sans-serif"
# Distinct with deuteranopia and protanopia, of contrast 4.2 or more on opaque fills.
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
SEVERITIES = {
    Severity.ERROR: Scheme("#A5123C", "#FBE5EB", "#FFFFFF"),
    Severity.WARNING: Scheme("#7A5C00", "#F7EFD6", "#FFFFFF"),
    Severity.NOTE: Scheme(MUTED, "#EEF0F3", "#FFFFFF"),
}


def scheme_of(role: str | None) -> Scheme:
    """Return the colours of a network, by its role."""
    return _STUDENT if role == "student" else _TEACHER


# Advance widths of Helvetica, in thousandths of the type size (Adobe's font metrics).
_ADVANCES = {
    191: "'",
    222: "ijl",
    260: "|",
    278: " !,./:;I[\\]ft·",
    333: "()-`r",
    334: "{}",
    355: '"',
    389: "*",
    469: "^",
    500: "Jckvsxyz",
    556: "#$0123456789?L_abdeghnopqu–",
    584: "+<=>~×",
    611: "FTZ",
    667: "&ABEKPSVXY",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    889: "%",
    944: "W",
    1000: "…←→↓↑",
    1015: "@",
}
_ADVANCE = {letter: width for width, letters in _ADVANCES.items() for letter in letters}
# Accented Latin letters; other scripts, and their full-width letters, in the widest fallback font.
_ACCENTED_LATIN, _OTHER_SCRIPT, _FULL_WIDTH = 620, 1050, 1350
_AFTER_LATIN = "\u0370"
# Factors for bold type, and for the fallback fonts of Helvetica, which differ a little.
_BOLD_FACTOR, _FONT_TOLERANCE = 1.08, 1.03


@lru_cache(maxsize=4096)
def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate the width of a line of text, in points."""
    units = sum(_ADVANCE.get(letter) or _other_advance(letter) for letter in text)
    return units / 1000 * size * _FONT_TOLERANCE * (_BOLD_FACTOR if bold else 1.0)


def _other_advance(letter: str) -> int:
    if letter < _AFTER_LATIN:
        return _ACCENTED_LATIN
    return _FULL_WIDTH if unicodedata.east_asian_width(letter) in "WF" else _OTHER_SCRIPT


def fitted(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Return visible text, cut to a width in points with a trailing `…`."""
    # No letter is narrower than a point, and measuring 10,000 letters takes time.
    shown = printable(text[: int(width) + 1])
    if len(shown) <= width and width_of(shown, size, bold=bold) <= width:
        return shown
    while shown and width_of(f"{shown}…", size, bold=bold) > width:
        shown = shown[:-1]
    return f"{shown.rstrip()}…"


def amount(number: int) -> str:
    """Write a count in a column: `928`, `29 k`, `10.8 M`, `668 M`, `1.03 G`; `–` for none."""
    if number == 0:
        return "–"
    if number < 1000:
        return str(number)
    if number < 999_500:
        return f"{number / 1e3:.0f} k"
    for scale, letter, decimals in ((1e6, "M", 1), (1e9, "G", 2), (1e12, "T", 2)):
        scaled = number / scale
        if scaled < 999.5:
            fewer = 0 if scaled < 9.995 else 1 if scaled < 99.95 else 2
            return f"{scaled:.{min(decimals, 2 - fewer)}f} {letter}"
    return f"{number:.2e}"


def percent(share: float) -> str:
    """Write a share as `8 %`; small shares are `< 1 %`, zero is empty."""
    if share <= 0:
        return ""
    return "< 1 %" if share < 0.005 else f"{share * 100:.0f} %"


def dims(shape: Shape | None) -> str:
    """Write a shape as `3 × 224 × 224`; unknown dims are `?`."""
    if shape is None:
        return "?"
    return " × ".join("?" if dim == UNKNOWN_DIM else str(dim) for dim in shape)


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
    id: str = "",
) -> str:
    """Return a cell of exactly this size in points; Graphviz fails on content that doesn't fit.

    A page finds a cell by its `id`.
    """
    size = f'FIXEDSIZE="TRUE" WIDTH="{width:g}" HEIGHT="{height:g}"'
    return f'<TD {size} ALIGN="{align}"{_optional(BGCOLOR=fill, PORT=port, ID=id)}>{content}</TD>'


def filled(content: str, *, port: str = "", id: str = "") -> str:
    """Return a cell as large as its content."""
    return f"<TD{_optional(PORT=port, ID=id)}>{content}</TD>"


def _optional(**attributes: str) -> str:
    return "".join(f' {name}="{value}"' for name, value in attributes.items() if value)


def gap(width: float, height: float) -> str:
    """Return an empty row."""
    return row(cell(width, height))


def row(*cells: str) -> str:
    """Return a row of cells."""
    return f"<TR>{''.join(cells)}</TR>"


def table(rows: Iterable[str], *, border: str = "", fill: str = "", spacing: int = 0) -> str:
    """Return a table of rows; `border` is the colour of its border, empty for none."""
    frame = f'BORDER="1" COLOR="{border}"' if border else 'BORDER="0"'
    inner = f'CELLBORDER="0" CELLSPACING="{spacing}" CELLPADDING="0"'
    return f"<TABLE {frame} {inner}{_optional(BGCOLOR=fill)}>{''.join(rows)}</TABLE>"
