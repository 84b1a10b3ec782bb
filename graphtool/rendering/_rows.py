"""Rows of a card: blocks with their sums, equal ones that follow each other written once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from graphtool.rendering._units import Unit
from graphtool.rendering.board import Row
from graphtool.structure import GLOBAL, Scale, Structure

__all__ = ["factors_of", "folded", "merged", "numbered", "sum_of", "summary"]

# Rows that differ by one step in their channels alone (DenseNet's) merge from this many on.
_LEAST_GROWING = 3
# A card of more rows is folded into about so many.
_MOST, _FOLDED = 48, 20
_NAMED = 2


def factors_of(structure: Structure, units: Sequence[Unit]) -> Mapping[str, str]:
    """Say by how much each block changes the resolution of what came before it: `↓2`."""
    found: dict[str, str] = {}
    for unit in units:
        before = _scale_before(structure, unit)
        after = structure.scales.get(unit.result)
        known = before is not None and after is not None
        found[unit.result] = _factor(before, after) if known and before and after else ""
    return found


def _scale_before(structure: Structure, unit: Unit) -> Scale | None:
    """Return the resolution of the first Value that a block reads from outside."""
    made = {name for step in unit.steps for name in step.operator.results}
    scales = structure.scales
    read = (name for step in unit.steps for name in step.data if name not in made)
    return next((scales[name] for name in read if name in scales), None)


def _factor(before: Scale, after: Scale) -> str:
    if before == after or GLOBAL in (before, after):
        return ""
    height, width = after.height / before.height, after.width / before.width
    arrow = "↓" if height * width < 1 else "↑"
    sides = [_whole(max(side, 1 / side)) for side in (height, width)]
    return f"{arrow}{sides[0]}" if sides[0] == sides[1] else f"{arrow}{sides[0]}×{sides[1]}"


def _whole(factor: Fraction) -> str:
    return str(factor.numerator) if factor.denominator == 1 else f"{float(factor):.2g}"


def merged(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Write equal rows that follow each other once; a row in which a pair ends is the last of its.

    Equal are name, factor and size; where the size grows by the same step each time, three rows
    or more merge too.
    """
    found: list[Row] = []
    start = 0
    while start < len(rows):
        length = _run(rows, start)
        found.append(sum_of(rows[start : start + length]))
        start += length
    return tuple(found)


def _run(rows: Sequence[Row], start: int) -> int:
    """Return how many rows from one on merge."""
    end, step = start + 1, None
    while end < len(rows) and not rows[end - 1].ranks and _alike(rows[end - 1], rows[end]):
        grown = (rows[end].size or 0) - (rows[end - 1].size or 0)
        if step is not None and grown != step:
            break
        step, end = grown, end + 1
    length = end - start
    return 1 if step and length < _LEAST_GROWING else length


def _alike(row: Row, other: Row) -> bool:
    return row.name == other.name and row.factor == other.factor


def sum_of(rows: Sequence[Row]) -> Row:
    """Write rows as one: what they are and hand on is the last's, all else is added up."""
    return replace(
        rows[-1],
        times=sum(row.times for row in rows),
        parameters=sum(row.parameters for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        operators=tuple(name for row in rows for name in row.operators),
        values=tuple(name for row in rows for name in row.values),
    )


def numbered(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Number the layers of an encoder from 0: `Layer 0`, `Layers 0 – 1`."""
    found: list[Row] = []
    first = 0
    for row in rows:
        last = first + row.times - 1
        name = f"Layer {first}" if first == last else f"Layers {first} – {last}"
        found.append(replace(row, name=name))
        first = last + 1
    return tuple(found)


def folded(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Put rows together where a card has too many to be read, none across the end of a pair."""
    if len(rows) <= _MOST:
        return tuple(rows)
    share = -(-len(rows) // _FOLDED)
    found: list[Row] = []
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if row.ranks or len(held) == share or row is rows[-1]:
            found.append(replace(sum_of(held), name=_mixture(held)))
            held = []
    return tuple(found)


def _mixture(rows: Sequence[Row]) -> str:
    """Name the two kinds of block that are most frequent."""
    times: Counter[str] = Counter()
    for row in rows:
        times[row.name.partition(" + ")[0]] += row.times
    names = [name for name, _ in times.most_common(_NAMED)]
    return ", ".join(names) + (" …" if len(times) > _NAMED else "")


def summary(rows: Sequence[Row]) -> Row:
    """Return one row for a whole card: the kind of block that computes most, and how many."""
    costs: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for row in rows:
        costs[row.name] += row.multiply_adds
        times[row.name] += row.times
    name = max(costs, key=lambda name: (costs[name], times[name]))
    ranks = tuple(sorted({rank for row in rows for rank in row.ranks}))
    return replace(sum_of(rows), name=name, factor="", times=times[name], ranks=ranks)
