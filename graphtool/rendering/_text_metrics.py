"""Format numbers and text for a picture, and estimate the width of text."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.text import printable

__all__ = ["amount", "dims", "fitted", "percent", "width_of"]

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
    units = sum(_advance(letter) for letter in text)
    return units / 1000 * size * _FONT_TOLERANCE * (_BOLD_FACTOR if bold else 1.0)


def _advance(letter: str) -> int:
    known = _ADVANCE.get(letter)
    if known is not None:
        return known
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
        if number < scale * 999.5:
            return f"{_rounded(number / scale, decimals)} {letter}"
    return f"{number:.2e}"


def _rounded(number: float, decimals: int) -> str:
    """Write at most three digits, and at most so many decimals."""
    for fewer, limit in enumerate((9.995, 99.95)):
        if number < limit:
            return f"{number:.{min(decimals, 2 - fewer)}f}"
    return f"{number:.0f}"


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
