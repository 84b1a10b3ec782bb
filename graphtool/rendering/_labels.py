"""HTML-like labels of Graphviz: text that fits, tables of fixed size, and the colours of both."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any, TypeAlias

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
    "Cell",
    "Dot",
    "Scheme",
    "amount",
    "cell",
    "dims",
    "gap",
    "line",
    "new_dot",
    "row",
    "scheme_of",
    "styled",
    "table",
    "width_of",
]

FONT = "Helvetica,Arial,sans-serif"
# A Digraph of the package graphviz, which has no types.
Dot: TypeAlias = Any
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
    222: "'ijl",
    278: " !|,./:;I[\\]ft·",
    333: "()-`r{}",
    389: '*"',
    500: "Jckvsxyz",
    556: "#$0123456789?L^_abdeghnopqu–",
    584: "+<=>~×",
    611: "FTZ",
    667: "&ABEKPSVXY",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    889: "%",
    944: "W",
    1015: "@…←→↓↑",
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


def amount(number: int) -> str:
    """Write a count in a column: `928`, `29 k`, `10.8 M`, `668 M`, `1.03 G`; `–` for none."""
    if number < 1000:
        return str(number or "–")
    for scale, letter, decimals in ((1e3, "k", 0), (1e6, "M", 1), (1e9, "G", 2), (1e12, "T", 2)):
        scaled = number / scale
        if scaled < 999.5:
            digits = f"{scaled:.1f}".index(".")
            return f"{scaled:.{min(decimals, 3 - digits)}f} {letter}"
    return f"{number:.2e}"


def dims(shape: Shape | None) -> str:
    """Write a shape as `3 × 224 × 224`; unknown dims are `?`."""
    if shape is None:
        return "?"
    return " × ".join("?" if dim == UNKNOWN_DIM else str(dim) for dim in shape)


# Bold and regular text on one line have different baselines, and so have sizes. A bold hair space
# of this size beside each gives all cells the same.
_STRUT, _STRUT_SIZE = "&#8202;", 10
# The space above the text of a line, which centres capital letters.
_TEXT_DROP = 3
_PLAIN = {"border": 0, "cellborder": 0, "cellspacing": 0, "cellpadding": 0}


def styled(text: str, width: float, size: float, color: str, *, bold: bool = False) -> str:
    """Return printable text in a font, cut to a width in points with a trailing `…`."""
    # No letter is narrower than a point, and measuring 10,000 letters takes time.
    shown = printable(text[: int(width) + 1])
    if len(shown) > width or width_of(shown, size, bold=bold) > width:
        while shown and width_of(f"{shown}…", size, bold=bold) > width:
            shown = shown[:-1]
        shown = f"{shown.rstrip()}…"
    # Graphviz replaces `\N` by the name of the node, but not `\\N`.
    escaped = escape(shown).replace("\\", "\\\\")
    return _font(escaped, size, color, bold=bold) if shown else ""


def _font(content: str, size: float, color: str, *, bold: bool) -> str:
    shown = f"<B>{content}</B>" if bold else content
    return f'<FONT POINT-SIZE="{size:g}" COLOR="{color}">{shown}</FONT>'


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a line: text, which is cut to its width in points, or HTML that fits in."""

    width: float
    text: str = ""
    size: float = 10
    color: str = INK
    bold: bool = False
    align: str = "LEFT"
    html: str = ""
    bgcolor: str = ""

    def draw(self, height: float) -> str:
        """Return the HTML of the cell."""
        content = styled(self.text, self.width, self.size, self.color, bold=self.bold)
        if content:
            strut = _font(_STRUT, max(self.size, _STRUT_SIZE), self.color, bold=True)
            content = strut + content if self.align == "LEFT" else content + strut
        style = {"align": self.align, "bgcolor": self.bgcolor}
        return cell(content or self.html, width=self.width, height=height, **style)


def line(height: float, *cells: Cell, drop: float = _TEXT_DROP, **attributes: str) -> str:
    """Return one cell of this height, with cells side by side in it, `drop` points from its top.

    Backgrounds are its own: hairlines show between those of neighbours.
    """
    width, inner = sum(each.width for each in cells), height - drop
    inside = row(*(each.draw(inner) for each in cells if each.width))
    content = table(inside, width=width, height=inner, valign="BOTTOM")
    return cell(content, width=width, height=height, **attributes)


def new_dot(graph: Mapping[str, str], edges: Mapping[str, str]) -> Dot:
    """Begin a graph of tables, with further attributes of the graph and of its edges."""
    from graphviz import Digraph

    shared = {"bgcolor": "transparent", "rankdir": "TB", "pad": "0.25", "fontname": FONT}
    nodes = {"shape": "plain", "fontname": FONT, "fontsize": "10"}
    return Digraph("graphtool", graph_attr={**shared, **graph}, node_attr=nodes, edge_attr=edges)


def gap(width: float, height: float) -> str:
    """Return an empty row."""
    return row(cell(width=width, height=height))


def row(*cells: str) -> str:
    """Return a row of cells."""
    return f"<TR>{''.join(cells)}</TR>"


def cell(content: str = "", **attributes: float | str) -> str:
    """Return a cell with attributes of Graphviz; a page finds it by its `id`.

    A width and a height in points fix its size. A table that is smaller is in its middle, one that
    is larger aborts Graphviz.
    """
    return _element("TD", content, attributes)


def table(*rows: str, **attributes: float | str) -> str:
    """Return a table of rows with attributes of Graphviz, of fixed size with a width and height."""
    return _element("TABLE", "".join(rows), {**_PLAIN, **attributes})


def _element(tag: str, content: str, attributes: Mapping[str, float | str]) -> str:
    given = {name: value for name, value in attributes.items() if value != ""}
    size = {"fixedsize": "TRUE"} if "width" in given else {}
    texts = (f' {name.upper()}="{value}"' for name, value in (size | given).items())
    return f"<{tag}{''.join(texts)}>{content}</{tag}>"
