"""Where the channels of maps, or the classes, are, and how a loss gets both sides laid out."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TypeGuard

from graphtool.graph import Graph, Shape
from graphtool.loss_names import NamedLoss
from graphtool.structure import analyse

__all__ = [
    "Axes",
    "are_classes_last",
    "axes_of",
    "channels_first",
    "class_axes",
    "class_axis",
    "classes_last",
    "is_axis",
    "is_map",
    "moved",
    "takes_axis",
]

_MAP = 4
_CHANNELS_FIRST, _CHANNELS_LAST = 1, 3
# Of the teacher's Value and of the student's, None for what is no map of rank 4.
Axes = tuple["int | None", "int | None"]


def is_map(shape: Shape) -> bool:
    """Tell a map [N, C, H, W]."""
    return len(shape) == _MAP


def is_axis(given: object, rank: int) -> TypeGuard[int]:
    """Return whether an axis is one of a rank, from the end where negative, and not the batch's."""
    if isinstance(given, bool) or not isinstance(given, Integral):
        return False
    return -rank < int(given) < rank and int(given) != 0


def takes_axis(loss: NamedLoss) -> bool:
    """Return whether a loss takes a softmax over an axis that has to be found."""
    return loss.of_classes and loss.takes.ranks[1] is None


def axes_of(
    loss: NamedLoss,
    graphs: tuple[Graph, Graph],
    names: tuple[str, str],
    axis: object = None,
    *,
    suggested: bool = False,
) -> Axes:
    """Return which axis of either Value has the channels, or, for a loss over them, the classes.

    `axis` is the one that the loss was given. Where the pair was `suggested` and nothing says it,
    the classes are where most networks have them.
    """
    if loss.takes.heads:
        return None, None
    if not takes_axis(loss):
        return _axis(graphs[0], names[0]), _axis(graphs[1], names[1])
    shapes = [graph.values[name].shape or () for graph, name in zip(graphs, names, strict=True)]
    if axis is not None:
        ranks = map(len, shapes)
        first, second = (axis % rank if is_axis(axis, rank) else rank - 1 for rank in ranks)
        return first, second
    both = tuple(zip(graphs, names, strict=True))
    found = class_axes(shapes, [class_axis(*end) for end in both])
    if not suggested:
        return found
    first, second = (
        _usual_axis(*end) if known is None else known
        for end, known in zip(both, found, strict=True)
    )
    return first, second


def class_axes(shapes: Sequence[Shape], found: Sequence[int | None]) -> Axes:
    """Return the axes of the classes of two Values: what one does not say the other does."""
    teacher, student = found
    if len(shapes[0]) != len(shapes[1]):
        return teacher, student
    return (student if teacher is None else teacher), (teacher if student is None else student)


def class_axis(graph: Graph, name: str) -> int | None:
    """Return which axis of a Value has the classes, None where no operator says it."""
    shape, structure = graph.values[name].shape or (), analyse(graph)
    if len(shape) < 3:
        return len(shape) - 1
    return (structure.channel_axes[name] or None) if name in structure.known_axes else None


def _usual_axis(graph: Graph, name: str) -> int:
    axis = _axis(graph, name)
    return len(graph.values[name].shape or ()) - 1 if axis is None else axis


def _axis(graph: Graph, name: str) -> int | None:
    if not is_map(graph.values[name].shape or ()):
        return None
    axis = analyse(graph).channel_axes.get(name, _CHANNELS_FIRST)
    return axis if axis in (_CHANNELS_FIRST, _CHANNELS_LAST) else None


def moved(rank: int, axis: int, place: int) -> list[int]:
    """Return the order of the axes of a Value when one of them is moved to another place."""
    order = [other for other in range(rank) if other != axis]
    order.insert(place, axis)
    return order


def channels_first(rank: int, axis: int | None) -> list[int]:
    """Return the order that brings the channels of a map to the front, of all else to the end."""
    if axis is None:
        return list(range(rank))
    return moved(rank, axis, _CHANNELS_FIRST if rank == _MAP else rank - 1)


def are_classes_last(loss: NamedLoss, axes: Axes) -> bool:
    """Tell whether maps are brought back for a loss that takes a softmax over the last dim."""
    return loss.of_classes and None not in axes


def classes_last(rank: int) -> list[int]:
    """Return the order that brings the channels of a map to the end, of all else none."""
    return moved(rank, _CHANNELS_FIRST, rank - 1) if rank == _MAP else list(range(rank))
