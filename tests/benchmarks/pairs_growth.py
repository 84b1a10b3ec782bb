"""How long suggesting takes as two networks grow, their reading left out."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from rich.table import Table

from graphtool.matching.rank import pairs_of
from graphtool.readers._json import read_json
from graphtool.structure import analyse
from tests.benchmarks.reading import json_program

__all__ = ["growth"]

_SIZES = (1_000, 3_000, 10_000, 30_000)
_ROUNDS = 3
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Seconds for two networks of so many Operators each."""

    operators: int
    analysing: float
    suggesting: float


def growth() -> Table:
    """Tabulate medians for two chains of convolutions and joins, and the exponent of the growth."""
    rows = list(map(_measured, _SIZES))
    table = Table(title="two chains of convolutions and joins, CPU seconds")
    for head in ("Operators of each", "analysing both", "suggesting pairs"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(f"{row.operators:,}", f"{row.analysing:.3f}", f"{row.suggesting:.4f}")
    table.add_section()
    sizes = [row.operators for row in rows]
    columns = [row.analysing for row in rows], [row.suggesting for row in rows]
    table.add_row("exponent", *(f"{_exponent(sizes, column):.2f}" for column in columns))
    return table


def _measured(operators: int) -> _Row:
    graph = read_json("", json_program(operators))
    analysing: list[float] = []
    suggesting: list[float] = []
    for _ in range(_ROUNDS):
        seconds, sides = _timed(lambda: (analyse(graph), analyse(graph)))
        analysing.append(seconds)
        seconds, pairs = _timed(partial(pairs_of, *sides))
        suggesting.append(seconds)
        assert pairs.pairs
    return _Row(
        operators=operators,
        analysing=statistics.median(analysing),
        suggesting=statistics.median(suggesting),
    )


def _timed(work: Callable[[], _Made]) -> tuple[float, _Made]:
    gc.collect()
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Fit `seconds = c * size ** e` by least squares in logarithms, and return e."""
    return statistics.linear_regression(*(list(map(math.log, x)) for x in (sizes, seconds))).slope
