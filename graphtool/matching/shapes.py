"""What the tutorial compares by eye: all feature maps of equal shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphtool.graph import Graph, Shape
from graphtool.matching.pairs import End, end_of
from graphtool.readers import Source, read_own
from graphtool.structure import analyse

__all__ = ["ShapeGroup", "match_shapes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeGroup:
    """All feature maps of one shape, the batch left out, in program order."""

    shape: Shape
    teacher: tuple[End, ...]
    student: tuple[End, ...]

    @property
    def pairs(self) -> int:
        """How many pairs the group holds: every teacher Value with every student Value."""
        return len(self.teacher) * len(self.student)


def match_shapes(teacher: Source, student: Source) -> tuple[ShapeGroup, ...]:
    """Group the feature maps of two networks by equal shape, the deepest shapes last.

    `teacher` and `student` are anything that `read` takes. The batch is left out of the
    comparison; an unknown dim equals only an unknown dim. Equal shape is a weak signal:
    `suggest_pairs` says which of these an expert would choose.

    Raises ReadError where a source cannot be read.
    """
    left, right = _by_shape(read_own(teacher)), _by_shape(read_own(student))
    return tuple(
        ShapeGroup(shape=shape, teacher=tuple(ends), student=tuple(right[shape]))
        for shape, ends in left.items()
        if shape in right
    )


def _by_shape(graph: Graph) -> dict[Shape, list[End]]:
    groups: dict[Shape, list[End]] = {}
    for name in _features(graph):
        value = graph.values[name]
        if value.shape is not None and len(value.shape) > 1:
            groups.setdefault(value.shape[1:], []).append(end_of(graph, value))
    return groups


def _features(graph: Graph) -> Iterator[str]:
    flow = analyse(graph).flow
    for step in flow.steps.values():
        if step.kind not in ("fetch", "shadow_output"):
            yield from (name for name in step.operator.results if name in flow.features)
