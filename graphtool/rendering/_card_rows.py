"""Rows of a card: collapse equal blocks, condense long cards, summarise a whole card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from graphtool.rendering._card_sections import CardBlock
from graphtool.rendering.board import BlockRow
from graphtool.structure import GLOBAL, Scale, Structure

__all__ = ["collapsed", "combined", "condensed", "numbered", "scale_factors", "summary"]

# Rows whose channels grow by a constant step (DenseNet's) collapse if there are this many.
_MIN_GROWING = 3
# A card with more rows than the first is condensed into about as many as the second.
_MAX_ROWS, _CONDENSED_ROWS = 48, 20
# Kinds of block that the name of a condensed row lists.
_NAMED = 2


def scale_factors(structure: Structure, blocks: Sequence[CardBlock]) -> Mapping[str, str]:
    """Return the change of resolution of each block, by the name of its output: `↓2`."""
    factors: dict[str, str] = {}
    for block in blocks:
        before = _input_scale(structure, block)
        after = structure.scales.get(block.result)
        factors[block.result] = _factor(before, after) if before and after else ""
    return factors


def _input_scale(structure: Structure, block: CardBlock) -> Scale | None:
    """Return the resolution of the first Value that a block reads from outside."""
    inside = {name for step in block.steps for name in step.operator.results}
    scales = structure.scales
    inputs = (name for step in block.steps for name in step.data if name not in inside)
    return next((scales[name] for name in inputs if name in scales), None)


def _factor(before: Scale, after: Scale) -> str:
    if before == after or GLOBAL in (before, after):
        return ""
    height, width = after.height / before.height, after.width / before.width
    arrow = "↓" if height * width < 1 else "↑"
    sides = [_ratio_text(max(side, 1 / side)) for side in (height, width)]
    return f"{arrow}{sides[0]}" if sides[0] == sides[1] else f"{arrow}{sides[0]}×{sides[1]}"


def _ratio_text(ratio: Fraction) -> str:
    return str(ratio.numerator) if ratio.denominator == 1 else f"{float(ratio):.2g}"


def collapsed(rows: Sequence[BlockRow]) -> tuple[BlockRow, ...]:
    """Collapse runs of equal rows; a row where a pair ends is the last of its run.

    Rows are equal in name, factor and size. Three or more rows whose size grows by a constant step
    collapse too.
    """
    result: list[BlockRow] = []
    start = 0
    while start < len(rows):
        length = _run_length(rows, start)
        result.append(combined(rows[start : start + length]))
        start += length
    return tuple(result)


def _run_length(rows: Sequence[BlockRow], start: int) -> int:
    end, step = start + 1, None
    while end < len(rows):
        previous, row = rows[end - 1], rows[end]
        if previous.ranks or (previous.name, previous.factor) != (row.name, row.factor):
            break
        growth = (row.size or 0) - (previous.size or 0)
        if step is not None and growth != step:
            break
        step, end = growth, end + 1
    length = end - start
    return 1 if step and length < _MIN_GROWING else length


def combined(rows: Sequence[BlockRow]) -> BlockRow:
    """Combine rows into one: its name and size are the last row's, costs and Operators add up."""
    return replace(
        rows[-1],
        times=sum(row.times for row in rows),
        parameters=sum(row.parameters for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        operators=tuple(name for row in rows for name in row.operators),
        values=tuple(name for row in rows for name in row.values),
    )


def numbered(rows: Sequence[BlockRow]) -> tuple[BlockRow, ...]:
    """Number the layers of an encoder from 0: `Layer 0`, `Layers 0 – 1`."""
    result: list[BlockRow] = []
    first = 0
    for row in rows:
        last = first + row.times - 1
        name = f"Layer {first}" if first == last else f"Layers {first} – {last}"
        result.append(replace(row, name=name))
        first = last + 1
    return tuple(result)


def condensed(rows: Sequence[BlockRow]) -> tuple[BlockRow, ...]:
    """Combine neighbouring rows of a long card; a group ends at a row where a pair ends."""
    if len(rows) <= _MAX_ROWS:
        return tuple(rows)
    share = -(-len(rows) // _CONDENSED_ROWS)
    result: list[BlockRow] = []
    group: list[BlockRow] = []
    for row in rows:
        group.append(row)
        if row.ranks or len(group) == share or row is rows[-1]:
            result.append(replace(combined(group), name=_most_frequent(group)))
            group = []
    return tuple(result)


def _most_frequent(rows: Sequence[BlockRow]) -> str:
    """Return the names of the two most frequent kinds of block."""
    times: Counter[str] = Counter()
    for row in rows:
        times[row.name.partition(" + ")[0]] += row.times
    names = [name for name, _ in times.most_common(_NAMED)]
    return ", ".join(names) + (" …" if len(times) > _NAMED else "")


def summary(rows: Sequence[BlockRow]) -> BlockRow:
    """Return one row for a whole card: its most expensive kind of block, and how many it has."""
    costs: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for row in rows:
        costs[row.name] += row.multiply_adds
        times[row.name] += row.times
    name = max(costs, key=lambda name: (costs[name], times[name]))
    ranks = tuple(sorted({rank for row in rows for rank in row.ranks}))
    return replace(combined(rows), name=name, factor="", times=times[name], ranks=ranks)
