"""Which axis of a Value holds the channels: it moves with transposes, and NHWC networks exist."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

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
        axis = _after(graph, step, axes, known)
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
    if step.kind in _WITH_FORMAT:
        return True
    if step.kind in PRODUCTS and step.weights:
        return axis == _made_by_weight(graph, step)
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


def _after(graph: Graph, step: Step, axes: Mapping[str, int], known: Collection[str]) -> int | None:
    """Return where the channels are after a step, None for the usual place of its rank."""
    operator, rank = step.operator, graph.values[step.result].rank or 0
    if step.kind in _WITH_FORMAT:
        return _stated(operator, rank)
    source = step.data[0]
    if step.kind == "transpose":
        order = whole_numbers(operator.attributes.get("perm", operator.attributes.get("axis")))
        return order.index(axes[source]) if axes[source] in order else None
    if step.kind == "einsum":
        return None
    if step.kind in PRODUCTS and step.weights:
        is_known = source in known
        return _after_weight(graph, step, axes[source] if is_known else None)
    if step.kind == "squeeze":
        return _after_squeeze(graph, step, axes[source])
    before = graph.values[source].rank or 0
    if step.kind == "reshape" and before != rank:
        return _after_reshape(graph, step, axes[source])
    return axes[source] if before == rank or _keeps_front(step, axes[source]) else None


def _after_weight(graph: Graph, step: Step, axis: int | None) -> int | None:
    """Return where a product with a weight makes channels, or leaves those that it doesn't sum.

    `axis` is where they are known to have been, None where that is not known.
    """
    made, before = _made_by_weight(graph, step), graph.values[step.data[0]].rank or 0
    if axis is None or before < 3 or step.operator.kind in _FLATTENING:
        return made
    is_left = _is_left(step)
    names = _TRANSPOSED[is_left]
    is_turned = any(step.operator.attributes.get(name) is True for name in names)
    if axis == before - (1 if is_left == is_turned else 2):
        return made
    return None if is_turned else axis


# They sum over all of a map, whatever its rank.
_FLATTENING = frozenset({"mul", "fc"})
# What says that the right operand is transposed behind a weight, that the left is before one.
_TRANSPOSED = {
    True: ("transpose_y", "trans_y", "transpose_Y"),
    False: ("transpose_x", "trans_x", "transpose_X"),
}


def _made_by_weight(graph: Graph, step: Step) -> int | None:
    """Return the axis that a product takes from its weight, None where an equation says it."""
    rank = graph.values[step.result].rank or 0
    if step.kind == "einsum":
        return None
    return rank - 2 if rank > 2 and _is_left(step) else rank - 1


def _is_left(step: Step) -> bool:
    """Return whether a product has its weight on the left: W · x."""
    operands = step.operator.operands
    return len(operands) == 2 and operands[0] in step.weights


def _after_reshape(graph: Graph, step: Step, axis: int) -> int | None:
    """Return where channels are that a reshape leaves whole: last, or with all dims before them."""
    old, new = (graph.values[name].shape for name in (step.data[0], step.result))
    if not old or not new:
        return None
    if axis == len(old) - 1 and old[-1] == new[-1] != UNKNOWN:
        return len(new) - 1
    end = axis + 1
    is_kept = old[:end] == new[:end] and UNKNOWN not in old[1:end]
    behind = [None if UNKNOWN in dims else prod(dims) for dims in (old[end:], new[end:])]
    # Of other sizes it would have gone into the batch.
    return axis if is_kept and (None in behind or behind[0] == behind[1]) else None


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
