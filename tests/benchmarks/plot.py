"""The growth curves of all rows that have sizes, with their fitted exponents."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias

from tests.benchmarks.row import Row
from tests.benchmarks.table import curves
from tests.benchmarks.timing import Outcome, Turn, exponent

__all__ = ["plot"]

# matplotlib is loosely typed.
_Matplotlib: TypeAlias = Any
_Figure: TypeAlias = Any
_Axes: TypeAlias = Any

_COLUMNS = 4
_DPI = 120
# Told apart by colour-blind people, and by their dashes and marks in print.
_STYLES: Mapping[str, tuple[str, str]] = {
    "ours": ("#0072b2", "o-"),
    "peer": ("#d55e00", "s--"),
    "floor": ("#777777", "^:"),
}


def plot(rows: Sequence[Row], outcomes: Mapping[Turn, Outcome], folder: Path) -> list[Path]:
    """Write `growth.svg` and `growth.png`, and return them; none where no row has two sizes."""
    found = {row.name: curves(row, outcomes) for row in rows if row.sizes}
    found = {
        name: sides for name, sides in found.items() if any(len(s) > 1 for s in sides.values())
    }
    if not found:
        return []
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(found))
    height = ceil(len(found) / columns)
    size = (3.4 * columns, 3 * height)
    figure = Figure(figsize=size, layout="constrained")
    for place, (name, sides) in enumerate(found.items(), 1):
        _draw(figure.add_subplot(height, columns, place), name, sides)
    files = [folder / f"growth.{ending}" for ending in ("svg", "png")]
    for file in files:
        _save(figure, file)
    return files


def _save(figure: _Figure, file: Path) -> None:
    library: _Matplotlib = importlib.import_module("matplotlib")
    # Text stays text: it can be searched for, and read aloud.
    with library.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, dpi=_DPI)


def _draw(axes: _Axes, name: str, sides: Mapping[str, Mapping[int, float]]) -> None:
    for side, points in sides.items():
        colour, style = _STYLES[side]
        fitted = f", exponent {exponent(points):.2f}" if len(points) > 1 else ""
        axes.loglog(
            list(points), list(points.values()), style, color=colour, label=f"{side}{fitted}"
        )
    axes.set(title=name, xlabel="operators", ylabel="seconds")
    axes.minorticks_off()
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize="small")
