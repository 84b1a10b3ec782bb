"""Which axis of a Value holds the channels: it moves with transposes, and NHWC networks exist."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from graphtool.graph import UNKNOWN, Graph, Operator
from graphtool.structure._flow import Flow, Step
from graphtool.structure._numbers import numbers_of, whole_numbers
from graphtool.structure._vocabulary import CONVOLUTIONS, POOLS, PRODUCTS, RESHAPES, RESIZES

__all__ = ["channel_axes"]

_LAST = frozenset({"NHWC", "NLC", "NDHWC", "NWC"})
_FIRST = 1
_WITH_FORMAT = CONVOLUTIONS | POOLS | RESIZES | {"batch_norm", "group_norm"}


def channel_axes(flow: Flow) -> tuple[Mapping[str, int], frozenset[str]]:
    """Return the axis of the channels for every Value of rank 2 and more that the input reaches.

    The second are the Values for which operators say it: for the others it is where most networks
    have it.
    """
    graph = flow.graph
    axes, known = dict[str, int](), set[str]()
    for name in graph.feeds:
        stated = _axis_of_feed(flow, name)
        axes[name] = _within(graph, name, stated)
        known.update([name] if stated is not None else ())
    for step in flow.steps.values():
        axis = _after(graph, step, axes)
        is_known = axis is not None and _says(graph, step, axis, known)
        for name in step.operator.results:
            axes[name] = _within(graph, name, axis)
            known.update([name] if is_known and axes[name] == axis else ())
    return axes, frozenset(known)


def _axis_of_feed(flow: Flow, name: str) -> int | None:
    """Return where the first Operator with a layout says that the channels of a map are."""
    rank = flow.graph.values[name].rank or 0
    stated = (_stated(step.operator, rank) for step in flow.steps.values()) if rank > 3 else ()
    return next((axis for axis in stated if axis is not None), None)


def _says(graph: Graph, step: Step, axis: int, known: Collection[str]) -> bool:
    """Return whether a step says where the channels are, or keeps them where they were known."""
    if step.kind in _WITH_FORMAT or (step.kind in PRODUCTS and step.weights):
        return True
    source = step.data[0]
    old, new = (graph.values[name].shape or () for name in (source, step.result))
    if step.kind in PRODUCTS or (step.kind in RESHAPES and len(old) == len(new)):
        is_moved = step.kind == "transpose"
        return source in known and (is_moved or (axis < len(old) and old[axis] == new[axis]))
    return source in known


def _stated(operator: Operator, rank: int) -> int | None:
    spelled = operator.attributes.get("data_format", operator.attributes.get("data_layout"))
    if operator.kind not in _WITH_FORMAT or not isinstance(spelled, str):
        return None
    return rank - 1 if spelled in _LAST else _FIRST


def _after(graph: Graph, step: Step, axes: Mapping[str, int]) -> int | None:
    """Return where the channels are after a step, None for the usual place of its rank."""
    operator, rank = step.operator, graph.values[step.result].rank or 0
    if step.kind in _WITH_FORMAT:
        return _stated(operator, rank)
    source = step.data[0]
    if step.kind == "transpose":
        order = whole_numbers(operator.attributes.get("perm", operator.attributes.get("axis")))
        return order.index(axes[source]) if axes[source] in order else None
    if step.kind in PRODUCTS and step.weights:
        return rank - 1
    if step.kind == "squeeze":
        return _after_squeeze(graph, step, axes[source])
    before = graph.values[source].rank or 0
    if step.kind == "reshape" and before != rank:
        return _after_reshape(graph, step, axes[source])
    return axes[source] if before == rank or _keeps_front(step, axes[source]) else None


def _after_reshape(graph: Graph, step: Step, axis: int) -> int | None:
    """Channels that were last and stay as they are remain last: tokens laid out as a map."""
    old, new = (graph.values[name].shape for name in (step.data[0], step.result))
    if not old or not new or axis != len(old) - 1:
        return None
    return len(new) - 1 if old[-1] == new[-1] != UNKNOWN else None


def _after_squeeze(graph: Graph, step: Step, axis: int) -> int | None:
    """Axes move up where one before them is left out: a map of one row becomes a sequence."""
    rank = graph.values[step.data[0]].rank or 0
    given = numbers_of(graph, step.operator, "axis", "axes")
    gone = {one % rank for one in given if rank}
    if not gone or axis in gone:
        return None
    return axis - sum(one < axis for one in gone)


def _keeps_front(step: Step, axis: int) -> bool:
    """Tell whether only axes behind the channels are merged: `flatten` of H and W."""
    start = step.operator.attributes.get("start_axis")
    return step.kind == "flatten" and isinstance(start, int) and start > axis


def _within(graph: Graph, name: str, axis: int | None) -> int:
    rank = graph.values[name].rank or 0
    if axis is not None and 0 <= axis < rank:
        return axis
    return _FIRST if rank > 3 else max(rank - 1, 0)
