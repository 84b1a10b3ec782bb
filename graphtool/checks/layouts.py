"""Where the channels of maps are, and how both sides of a pair are laid out for a loss."""

from __future__ import annotations

from graphtool.graph import Graph, Shape
from graphtool.loss_names import NamedLoss
from graphtool.structure import analyse

__all__ = [
    "CHANNELS_LAST",
    "Axes",
    "are_classes_last",
    "axes_of",
    "channels_first",
    "classes_last",
    "is_map",
]

_MAP = 4
_CHANNELS_FIRST, CHANNELS_LAST = 1, 3
# Of the teacher's Value and of the student's, None for what is no map of rank 4.
Axes = tuple["int | None", "int | None"]


def is_map(shape: Shape) -> bool:
    """Tell a map [N, C, H, W]."""
    return len(shape) == _MAP


def axes_of(loss: NamedLoss, graphs: tuple[Graph, Graph], names: tuple[str, str]) -> Axes:
    """Return which axis of either Value has the channels."""
    if loss.takes.heads:
        return None, None
    return _axis(graphs[0], names[0]), _axis(graphs[1], names[1])


def _axis(graph: Graph, name: str) -> int | None:
    if not is_map(graph.values[name].shape or ()):
        return None
    axis = analyse(graph).channel_axes.get(name, _CHANNELS_FIRST)
    return axis if axis in (_CHANNELS_FIRST, CHANNELS_LAST) else None


def channels_first(shape: Shape, axis: int | None) -> Shape:
    """Return the shape of a Value whose channels, at an axis, were brought to the front."""
    return (shape[0], shape[3], shape[1], shape[2]) if axis == CHANNELS_LAST else shape


def are_classes_last(loss: NamedLoss, axes: Axes) -> bool:
    """Tell whether maps are brought back for a loss that takes a softmax over the last dim."""
    return loss.of_classes and None not in axes


def classes_last(shape: Shape) -> Shape:
    """Return the shape of a map whose channels were brought to the end, any other as it is."""
    return (shape[0], shape[2], shape[3], shape[1]) if is_map(shape) else shape
