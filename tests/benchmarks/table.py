"""What samples come to: a line for each target, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor, log10
from statistics import median
from typing import Any

from rich.table import Table

from tests.benchmarks.sampling import Outcome, Quantity, Row, Target, Turn, exponent

_TIMES = ("seconds", "cpu")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True, slots=True)
class Cell:
    """A median with its spread: the median distance from it. `at_least`: nobody waited longer."""

    value: float
    spread: float = 0.0
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """What a row comes to for one target at one size; cells by the names of the sides."""

    row: Row
    size: int | None
    target: Target
    cells: Mapping[str, Cell]

    @property
    def ratio(self) -> float | None:
        """What the target limits; None where a side is missing."""
        ours, of = self.cells.get("ours"), self.target.of
        other = Cell(1) if of in ("absolute", "growth") else self.cells.get(of)
        return None if ours is None or other is None else ours.value / other.value

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing was measured."""
        most, ratio = self.target.most, self.ratio
        return None if most is None or ratio is None else ratio <= most

    @property
    def label(self) -> str:
        """The row, its size and what is looked at."""
        size = "" if self.size is None else f" {self.size:,}"
        quantity = "" if self.target.quantity == "seconds" else f" {self.target.quantity}"
        return self.row.name + size + quantity + " exponent" * (self.target.of == "growth")


def lines(rows: Sequence[Row], outcomes: Mapping[Turn, Outcome]) -> Iterator[Line]:
    """Yield a line for each target of each row, at each size that was measured."""
    for row in rows:
        curves: dict[str, dict[int, float]] = {side: {} for side in row.sides}
        for size in row.sizes or (None,):
            if (row.ours, size) not in outcomes:
                continue
            for target in row.targets:
                if target.of != "growth" and target.size in (None, size):
                    yield Line(row, size, target, _cells(row, size, target.quantity, outcomes))
            for side, cell in _cells(row, size, "seconds", outcomes).items():
                curves[side][size or 0] = cell.value
        fitted = {
            side: Cell(exponent(points)) for side, points in curves.items() if len(points) > 1
        }
        for target in row.targets if fitted else ():
            if target.of == "growth":
                yield Line(row, None, target, fitted)


def _cells(
    row: Row, size: int | None, quantity: Quantity, outcomes: Mapping[Turn, Outcome]
) -> dict[str, Cell]:
    """Return what is known of each side; of one that failed half-way, nothing."""
    found: dict[str, Cell] = {}
    for side, case in row.sides.items():
        outcome = outcomes.get((case, size), Outcome())
        values = outcome.values(quantity)
        if outcome.failure is None and values:
            middle = median(values)
            spread = median(abs(value - middle) for value in values)
            found[side] = Cell(middle, spread, any(x.at_least for x in outcome.samples))
    return found


def table(several: Sequence[Line], rounds: int) -> Table:
    """Tabulate lines as people read them."""
    title = f"medians of {rounds}, ± the median distance from them"
    made = Table(title=title, title_justify="left")
    for head in ("row", "ours", "peer", "floor", "ratio", "target", "met?"):
        made.add_column(head, justify="left" if head == "row" else "right", no_wrap=True)
    for line in several:
        of, ratio = line.target.of, ""
        if line.ratio is not None and of in ("peer", "floor"):
            less = "< " if line.cells[of].at_least else ""
            ratio = f"{less}{line.ratio:.3g} × {of}"
        met = {None: "", True: "[green]yes[/]", False: "[bold red]no[/]"}[line.met]
        cells = [_text(line, line.cells.get(side)) for side in ("ours", "peer", "floor")]
        made.add_row(line.label, *cells, ratio, _wish(line.target), met)
    return made


def _text(line: Line, cell: Cell | None) -> str:
    if cell is None:
        return "–"
    if line.target.of == "growth":
        return f"{cell.value:.2f}"
    if line.target.quantity not in _TIMES:
        return f"{cell.value / 2**20:.1f} MiB"
    scale, unit = next(one for one in _UNITS if cell.value >= one[0] or one is _UNITS[-1])
    value = cell.value / scale
    if cell.at_least:
        return f"> {value:.0f} {unit}"
    digits = max(0, 2 - floor(log10(value))) if value else 0
    return f"{value:.{digits}f} ± {cell.spread / scale:.{digits}f} {unit}"


def _wish(target: Target) -> str:
    if target.most is None:
        return ""
    if target.of in ("peer", "floor"):
        return f"≤ {target.most:.3g} × {target.of}"
    if target.of == "growth":
        return f"≤ {target.most:g}"
    is_time = target.quantity in _TIMES
    return f"≤ {target.most:g} s" if is_time else f"≤ {target.most / 2**20:.1f} MiB"


def listing(rows: Sequence[Row]) -> Table:
    """Tabulate what each row measures and is compared with."""
    made = Table()
    for head in ("row", "what is measured", "peer", "floor", "targets"):
        made.add_column(head, overflow="fold")
    for row in rows:
        others = ["" if case is None else case.about for case in (row.peer, row.floor)]
        wishes = (
            f"{'exponent' if one.of == 'growth' else one.quantity} {_wish(one)}"
            for one in row.targets
            if one.most
        )
        made.add_row(row.name, row.about, *others, "\n".join(dict.fromkeys(wishes)))
    return made


def recorded(several: Sequence[Line], outcomes: Mapping[Turn, Outcome]) -> dict[str, Any]:
    """Return lines and samples as JSON has them."""
    return {
        "lines": [
            {
                "label": line.label,
                **{side: cell.value for side, cell in line.cells.items()},
                "ratio": line.ratio,
                "of": line.target.of,
                "most": line.target.most,
                "met": line.met,
            }
            for line in several
        ],
        "cases": [
            {"case": str(case), "about": case.about, "size": size, **asdict(outcome)}
            for (case, size), outcome in outcomes.items()
        ],
    }
