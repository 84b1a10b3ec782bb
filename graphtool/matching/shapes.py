"""Group feature maps of equal shape, which the tutorial compares by eye."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.graph import Graph, Shape
from graphtool.matching.pairs import End, end_of
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import analyse

__all__ = ["ShapeGroup", "match_shapes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeGroup:
    """All feature maps of one shape, without the batch, in program order."""

    shape: Shape
    teacher: tuple[End, ...]
    student: tuple[End, ...]

    @property
    def pairs(self) -> int:
        """The number of pairs: every teacher Value with every student Value."""
        return len(self.teacher) * len(self.student)


def match_shapes(teacher: Source, student: Source) -> tuple[ShapeGroup, ...]:
    """Group the feature maps of two networks by equal shape, the deepest shapes last.

    `teacher` and `student` are anything that `read` takes. The batch is ignored; an unknown dim
    equals only an unknown dim. Equal shape is a weak signal: `suggest_pairs` returns the pairs that
    an expert would choose.

    Raises ReadError where a source cannot be read.
    """
    teacher_maps, student_maps = (
        _by_shape(read_without_teachers(teacher)),
        _by_shape(read_without_teachers(student)),
    )
    return tuple(
        ShapeGroup(shape=shape, teacher=tuple(ends), student=tuple(student_maps[shape]))
        for shape, ends in teacher_maps.items()
        if shape in student_maps
    )


def _by_shape(graph: Graph) -> dict[Shape, list[End]]:
    flow = analyse(graph).flow
    features = (
        graph.values[name]
        for step in flow.steps.values()
        if step.kind not in ("fetch", "shadow_output")
        for name in step.operator.results
        if name in flow.features
    )
    groups: dict[Shape, list[End]] = {}
    for value in features:
        if value.shape is not None and len(value.shape) > 1:
            groups.setdefault(value.shape[1:], []).append(end_of(graph, value))
    return groups
