"""Both networks of a merge, analysed when that is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from graphtool.graph import UNKNOWN, Graph
from graphtool.matching import Pair
from graphtool.merging import Merged
from graphtool.structure import Structure, analyse

__all__ = ["CHANNELS_LAST", "MAP", "Networks"]

# Dims of a map [N, C, H, W], and where its channels may be.
MAP = 4
_CHANNELS_FIRST, CHANNELS_LAST = 1, 3
# They compare what attention is made of: [N, heads, L, L] and [N, heads, L, D].
_OF_HEADS = frozenset({"attention_relation", "attention_scores"})


@dataclass(frozen=True, eq=False)
class Networks:
    """A merge, and what its teacher and student are made of."""

    merged: Merged

    @cached_property
    def teacher(self) -> Structure:
        """What the teacher is made of."""
        return analyse(self.merged.plan.teacher)

    @cached_property
    def student(self) -> Structure:
        """What the student is made of."""
        return analyse(self.merged.plan.student)

    def axes(self, pair: Pair) -> tuple[int | None, int | None]:
        """Return which axis of either Value has the channels, None for what is no map of rank 4."""
        if pair.loss in _OF_HEADS:
            return None, None
        plan = self.merged.plan
        return (
            _axis(plan.teacher, pair.teacher.name, lambda: self.teacher),
            _axis(plan.student, pair.student.name, lambda: self.student),
        )

    def channels(self, pair: Pair) -> tuple[int, int]:
        """Return the channels of both maps, or the width of vectors and sequences."""
        plan, axes = self.merged.plan, self.axes(pair)
        return (
            _width(plan.teacher, pair.teacher.name, axes[0]),
            _width(plan.student, pair.student.name, axes[1]),
        )


def _axis(graph: Graph, name: str, analysed: Callable[[], Structure]) -> int | None:
    if graph.values[name].rank != MAP:
        return None
    axis = analysed().channel_axes.get(name, _CHANNELS_FIRST)
    return axis if axis in (_CHANNELS_FIRST, CHANNELS_LAST) else None


def _width(graph: Graph, name: str, axis: int | None) -> int:
    shape = graph.values[name].shape or (UNKNOWN,)
    return shape[-1 if axis is None else axis]
