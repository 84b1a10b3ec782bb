"""The channel or class axes of Values, and the layout in which a loss compares them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TypeGuard

from graphtool.graph import Graph, Shape
from graphtool.loss_specs import LossSpec
from graphtool.structure import analyse

__all__ = [
    "Axes",
    "axes_of",
    "channels_first_order",
    "class_axis",
    "classes_last_order",
    "complete_class_axes",
    "has_classes_last",
    "is_axis",
    "is_map",
    "moveaxis_order",
    "needs_class_axis",
]

_MAP = 4
_CHANNELS_FIRST, _CHANNELS_LAST = 1, 3
# The axis of the teacher's Value and of the student's, None for any other rank than 4.
Axes = tuple["int | None", "int | None"]


def is_map(shape: Shape) -> bool:
    """Return whether a shape is that of a map [N, C, H, W]."""
    return len(shape) == _MAP


def is_axis(given: object, rank: int) -> TypeGuard[int]:
    """Return whether an axis, which may be negative, is valid for a rank and not the batch axis."""
    if isinstance(given, bool) or not isinstance(given, Integral):
        return False
    return -rank < int(given) < rank and int(given) != 0


def needs_class_axis(loss: LossSpec) -> bool:
    """Return whether a loss takes a softmax over an axis that has to be determined."""
    return loss.is_class_softmax and loss.takes.ranks[1] is None


def axes_of(
    loss: LossSpec,
    graphs: tuple[Graph, Graph],
    names: tuple[str, str],
    axis: object = None,
    *,
    suggested: bool = False,
) -> Axes:
    """Return the channel axis of either Value or, for a loss over classes, the class axis.

    `axis` is the option of the loss. If the pair was `suggested` and the class axis is unknown, it
    is where most networks have it.
    """
    if loss.takes.heads:
        return None, None
    if not needs_class_axis(loss):
        return _channel_axis(graphs[0], names[0]), _channel_axis(graphs[1], names[1])
    shapes = [graph.values[name].shape or () for graph, name in zip(graphs, names, strict=True)]
    if axis is not None:
        ranks = map(len, shapes)
        teacher, student = (axis % rank if is_axis(axis, rank) else rank - 1 for rank in ranks)
        return teacher, student
    values = tuple(zip(graphs, names, strict=True))
    known = complete_class_axes(shapes, [class_axis(*value) for value in values])
    if not suggested:
        return known
    teacher, student = (
        _usual_class_axis(*value) if axis is None else axis
        for value, axis in zip(values, known, strict=True)
    )
    return teacher, student


def complete_class_axes(shapes: Sequence[Shape], known: Sequence[int | None]) -> Axes:
    """Return the class axes of two Values; an unknown one is the other's if the ranks are equal."""
    teacher, student = known
    if len(shapes[0]) != len(shapes[1]):
        return teacher, student
    return (student if teacher is None else teacher), (teacher if student is None else student)


def class_axis(graph: Graph, name: str) -> int | None:
    """Return the class axis of a Value, None if no operator determines it."""
    shape, structure = graph.values[name].shape or (), analyse(graph)
    if len(shape) < 3:
        return len(shape) - 1
    return (structure.channel_axes[name] or None) if name in structure.known_axes else None


def _usual_class_axis(graph: Graph, name: str) -> int:
    axis = _channel_axis(graph, name)
    return len(graph.values[name].shape or ()) - 1 if axis is None else axis


def _channel_axis(graph: Graph, name: str) -> int | None:
    if not is_map(graph.values[name].shape or ()):
        return None
    axis = analyse(graph).channel_axes.get(name, _CHANNELS_FIRST)
    return axis if axis in (_CHANNELS_FIRST, _CHANNELS_LAST) else None


def moveaxis_order(rank: int, source: int, destination: int) -> list[int]:
    """Return the permutation that moves one axis to another position."""
    order = [other for other in range(rank) if other != source]
    order.insert(destination, source)
    return order


def channels_first_order(rank: int, axis: int | None) -> list[int]:
    """Return the permutation that moves the channels of a map to axis 1, of other Values last."""
    if axis is None:
        return list(range(rank))
    return moveaxis_order(rank, axis, _CHANNELS_FIRST if rank == _MAP else rank - 1)


def has_classes_last(loss: LossSpec, axes: Axes) -> bool:
    """Return whether a loss takes a softmax over the last dim, to which maps are moved back."""
    return loss.is_class_softmax and None not in axes


def classes_last_order(rank: int) -> list[int]:
    """Return the permutation that moves axis 1 of a map to the end; other Values keep theirs."""
    return moveaxis_order(rank, _CHANNELS_FIRST, rank - 1) if rank == _MAP else list(range(rank))
