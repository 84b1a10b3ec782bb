"""What samples come to: a line for each target, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor, log10
from statistics import median
from typing import Any

from rich.table import Table

from tests.benchmarks.row import Case, Of, Quantity, Row, Target
from tests.benchmarks.timing import Outcome, Turn, exponent

__all__ = ["Cell", "Line", "curves", "lines", "listing", "recorded", "table"]

_SIDES = "ours", "peer", "floor"
_TIMES = frozenset({Quantity.SECONDS, Quantity.CPU})
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A median with its spread: the median distance from it. `at_least`: nobody waited longer."""

    value: float
    spread: float = 0.0
    at_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a row comes to for one target at one size; cells by the names of the sides."""

    row: Row
    size: int | None
    target: Target
    cells: Mapping[str, Cell]

    @property
    def ratio(self) -> float | None:
        """What the target limits; None where a side is missing."""
        ours = self.cells.get("ours")
        if ours is None or self.target.of in {Of.ABSOLUTE, Of.GROWTH}:
            return None if ours is None else ours.value
        other = self.cells.get(self.target.of.value)
        return None if other is None else ours.value / other.value

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing was measured."""
        most, ratio = self.target.most, self.ratio
        return None if most is None or ratio is None else ratio <= most

    @property
    def label(self) -> str:
        """The row, its size and what is looked at."""
        size = () if self.size is None else (f"{self.size:,}",)
        quantity = self.target.quantity
        named = () if quantity is Quantity.SECONDS else (quantity.value,)
        growth = ("exponent",) if self.target.of is Of.GROWTH else ()
        return " ".join((self.row.name, *size, *named, *growth))


def lines(rows: Sequence[Row], outcomes: Mapping[Turn, Outcome]) -> Iterator[Line]:
    """Yield a line for each target of each row, at each size that was measured."""
    for row in rows:
        yield from _lines_by_size(row, outcomes)
        fitted = {
            side: Cell(value=exponent(points))
            for side, points in curves(row, outcomes).items()
            if len(points) > 1
        }
        for target in row.targets if fitted else ():
            if target.of is Of.GROWTH:
                yield Line(row=row, size=None, target=target, cells=fitted)


def _lines_by_size(row: Row, outcomes: Mapping[Turn, Outcome]) -> Iterator[Line]:
    for size in row.sizes or (None,):
        if (row.ours, size) in outcomes:
            for target in row.targets:
                if target.of is not Of.GROWTH and target.size in {None, size}:
                    found = _cells(row, size, target.quantity, outcomes)
                    yield Line(row=row, size=size, target=target, cells=found)


def _cells(
    row: Row, size: int | None, quantity: Quantity, outcomes: Mapping[Turn, Outcome]
) -> dict[str, Cell]:
    """Return what is known of each side; of one that failed half-way, nothing."""
    found: dict[str, Cell] = {}
    for side, case in zip(_SIDES, (row.ours, row.peer, row.floor), strict=True):
        outcome = outcomes.get((case, size)) if case is not None else None
        values = outcome.values(quantity) if outcome is not None else []
        if outcome is not None and outcome.failure is None and values:
            middle = median(values)
            found[side] = Cell(
                value=middle,
                spread=median(abs(value - middle) for value in values),
                at_least=any(sample.at_least for sample in outcome.samples),
            )
    return found


def curves(row: Row, outcomes: Mapping[Turn, Outcome]) -> Mapping[str, Mapping[int, float]]:
    """Return the median seconds of each side by size."""
    found: dict[str, dict[int, float]] = {}
    for size in row.sizes:
        for side, cell in _cells(row, size, Quantity.SECONDS, outcomes).items():
            found.setdefault(side, {})[size] = cell.value
    return found


def table(several: Sequence[Line], rounds: int) -> Table:
    """Tabulate lines as people read them."""
    title = f"medians of {rounds}, ± the median distance from them"
    made = Table(title=title, title_justify="left")
    for head in ("row", *_SIDES, "ratio", "target", "met?"):
        made.add_column(head, justify="left" if head == "row" else "right", no_wrap=True)
    for line in several:
        cells = [_cell(line, side) for side in _SIDES]
        met = {None: "", True: "[green]yes[/]", False: "[bold red]no[/]"}[line.met]
        made.add_row(line.label, *cells, _ratio(line), _wish(line.target), met)
    return made


def _cell(line: Line, side: str) -> str:
    cell = line.cells.get(side)
    if cell is None:
        return "–"
    if line.target.of is Of.GROWTH:
        return f"{cell.value:.2f}"
    if line.target.quantity not in _TIMES:
        return f"{cell.value / 2**20:.1f} MiB"
    scale, unit = next(one for one in _UNITS if cell.value >= one[0] or one is _UNITS[-1])
    if cell.at_least:
        return f"> {cell.value / scale:.0f} {unit}"
    value = cell.value / scale
    digits = max(0, 2 - floor(log10(value))) if value else 0
    return f"{value:.{digits}f} ± {cell.spread / scale:.{digits}f} {unit}"


def _ratio(line: Line) -> str:
    if line.ratio is None or line.target.of in {Of.ABSOLUTE, Of.GROWTH}:
        return ""
    other = line.cells[line.target.of.value]
    return f"{'< ' if other.at_least else ''}{line.ratio:.3g} × {line.target.of.value}"


def _wish(target: Target) -> str:
    if target.most is None:
        return ""
    if target.of in {Of.PEER, Of.FLOOR}:
        return f"≤ {target.most:.3g} × {target.of.value}"
    if target.of is Of.GROWTH:
        return f"≤ {target.most:g}"
    if target.quantity in _TIMES:
        return f"≤ {target.most:g} s"
    return f"≤ {target.most / 2**20:.1f} MiB"


def listing(rows: Sequence[Row]) -> Table:
    """Tabulate what each row measures and is compared with."""
    made = Table()
    for head in ("row", "what is measured", "peer", "floor", "targets"):
        made.add_column(head, overflow="fold")
    for row in rows:
        others = ["" if case is None else case.about for case in (row.peer, row.floor)]
        wishes = "\n".join(dict.fromkeys(_named_wish(one) for one in row.targets if one.most))
        made.add_row(row.name, row.about, *others, wishes)
    return made


def _named_wish(target: Target) -> str:
    what = "exponent" if target.of is Of.GROWTH else target.quantity.value
    return f"{what} {_wish(target)}"


def recorded(
    rows: Sequence[Row], several: Sequence[Line], outcomes: Mapping[Turn, Outcome]
) -> list[dict[str, Any]]:
    """Return rows as JSON has them: every line, and every sample."""
    return [
        {
            "name": row.name,
            "about": row.about,
            "lines": [_line(line) for line in several if line.row is row],
            "cases": {
                side: {"about": case.about, "runs": list(_runs(row, case, outcomes))}
                for side, case in zip(_SIDES, (row.ours, row.peer, row.floor), strict=True)
                if case is not None
            },
        }
        for row in rows
    ]


def _line(line: Line) -> dict[str, Any]:
    return {
        "label": line.label,
        "quantity": line.target.quantity.value,
        **{side: cell.value for side, cell in line.cells.items()},
        "ratio": line.ratio,
        "of": line.target.of.value,
        "most": line.target.most,
        "met": line.met,
    }


def _runs(row: Row, case: Case, outcomes: Mapping[Turn, Outcome]) -> Iterator[dict[str, Any]]:
    for size in row.sizes or (None,):
        outcome = outcomes.get((case, size))
        if outcome is not None:
            yield {"size": size, **asdict(outcome)}
