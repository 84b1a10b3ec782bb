"""Which axis holds the channels: transposes move it, and some networks are NHWC."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

from graphtool.graph import UNKNOWN_DIM, Graph, Operator
from graphtool.ops import (
    CONVOLUTIONS,
    POOLS,
    PRODUCTS,
    RESHAPES,
    RESIZES,
    integers,
    integers_of,
)
from graphtool.structure._flow import Flow, Step

__all__ = ["channel_axes"]

_CHANNELS_LAST = frozenset({"NHWC", "NLC", "NDHWC", "NWC"})
_CHANNELS_FIRST_AXIS = 1
_HAVE_DATA_FORMAT = CONVOLUTIONS | POOLS | RESIZES | {"batch_norm", "group_norm"}
# They flatten a map of any rank, and sum over all of it.
_FLATTENING = frozenset({"mul", "fc"})
# Attributes that transpose the data operand of a product, by whether the weight is the left one.
_TRANSPOSE_DATA = {
    True: ("transpose_y", "trans_y", "transpose_Y"),
    False: ("transpose_x", "trans_x", "transpose_X"),
}


def channel_axes(flow: Flow) -> tuple[Mapping[str, int], frozenset[str]]:
    """Return the channel axis of every Value that depends on the input, and the known ones.

    For Values that are not among the known ones, no operator determines the axis: it is the one
    that most networks have at that rank.
    """
    graph = flow.graph
    axes, known = dict[str, int](), set[str]()
    for name in graph.feeds:
        axis = _axis_of_feed(flow, name)
        axes[name] = _axis_or_default(graph, name, axis)
        known.update([name] if axis is not None else ())
    for step in flow.steps.values():
        axis = _axis_after(graph, step, axes, known)
        is_known = axis is not None and _is_axis_known(graph, step, axis, known)
        for name in step.operator.results:
            axes[name] = _axis_or_default(graph, name, axis)
            known.update([name] if is_known and axes[name] == axis else ())
    return axes, frozenset(known)


def _axis_or_default(graph: Graph, name: str, axis: int | None) -> int:
    rank = graph.values[name].rank or 0
    if axis is not None and 0 <= axis < rank:
        return axis
    return _CHANNELS_FIRST_AXIS if rank > 3 else max(rank - 1, 0)


def _axis_of_feed(flow: Flow, name: str) -> int | None:
    """Return the channel axis of a map by the first Operator that has a data format."""
    rank = flow.graph.values[name].rank or 0
    if rank <= 3:
        return None
    axes = (_axis_by_format(step.operator, rank) for step in flow.steps.values())
    return next((axis for axis in axes if axis is not None), None)


def _axis_by_format(operator: Operator, rank: int) -> int | None:
    data_format = operator.attributes.get("data_format", operator.attributes.get("data_layout"))
    if operator.kind not in _HAVE_DATA_FORMAT or not isinstance(data_format, str):
        return None
    return rank - 1 if data_format in _CHANNELS_LAST else _CHANNELS_FIRST_AXIS


def _is_axis_known(graph: Graph, step: Step, axis: int, known: Collection[str]) -> bool:
    """Return whether a step determines the channel axis, or preserves a known one."""
    if step.kind in _HAVE_DATA_FORMAT:
        return True
    if step.kind in PRODUCTS and step.weights:
        return axis == _axis_made_by_weight(graph, step)
    source = step.data[0]
    before, after = (graph.values[name].shape or () for name in (source, step.result))
    if step.kind in PRODUCTS or (step.kind in RESHAPES and len(before) == len(after)):
        is_transpose = step.kind == "transpose"
        is_same_dim = axis < len(before) and before[axis] == after[axis]
        return source in known and (is_transpose or is_same_dim)
    return source in known


def _axis_after(
    graph: Graph, step: Step, axes: Mapping[str, int], known: Collection[str]
) -> int | None:
    """Return the channel axis after a step, None for the default of its rank."""
    operator, rank = step.operator, graph.values[step.result].rank or 0
    if step.kind in _HAVE_DATA_FORMAT:
        return _axis_by_format(operator, rank)
    if step.kind == "einsum":
        return None
    source = step.data[0]
    if step.kind in PRODUCTS and step.weights:
        return _axis_after_weight(graph, step, axes[source] if source in known else None)
    axis = axes[source]
    if step.kind == "transpose":
        permutation = integers(operator.attributes.get("perm", operator.attributes.get("axis")))
        return permutation.index(axis) if axis in permutation else None
    if step.kind == "squeeze":
        return _axis_after_squeeze(graph, step, axis)
    rank_before = graph.values[source].rank or 0
    if step.kind == "reshape" and rank_before != rank:
        return _axis_after_reshape(graph, step, axis)
    # A flatten of H and W merges only axes after the channels.
    start = operator.attributes.get("start_axis")
    merges_after = step.kind == "flatten" and isinstance(start, int) and start > axis
    return axis if rank_before == rank or merges_after else None


def _axis_after_weight(graph: Graph, step: Step, axis: int | None) -> int | None:
    """Return the axis that a product with a weight makes, or that of channels it doesn't sum over.

    `axis` is the channel axis before it, None where that is not known.
    """
    made, rank = _axis_made_by_weight(graph, step), graph.values[step.data[0]].rank or 0
    if axis is None or rank < 3 or step.operator.kind in _FLATTENING:
        return made
    weight_is_left = _weight_is_left(step)
    is_transposed = any(
        step.operator.attributes.get(name) is True for name in _TRANSPOSE_DATA[weight_is_left]
    )
    summed = rank - (1 if weight_is_left == is_transposed else 2)
    if axis == summed:
        return made
    return None if is_transposed else axis


def _axis_made_by_weight(graph: Graph, step: Step) -> int | None:
    """Return the axis that a product takes from its weight, None for an einsum."""
    rank = graph.values[step.result].rank or 0
    if step.kind == "einsum":
        return None
    return rank - 2 if rank > 2 and _weight_is_left(step) else rank - 1


def _weight_is_left(step: Step) -> bool:
    """Return whether a product has its weight as left operand: W · x."""
    operands = step.operator.operands
    return len(operands) == 2 and operands[0] in step.weights


def _axis_after_reshape(graph: Graph, step: Step, axis: int) -> int | None:
    """Return the axis of channels that a reshape preserves: last, or with all dims before them."""
    before, after = (graph.values[name].shape for name in (step.data[0], step.result))
    if not before or not after:
        return None
    if axis == len(before) - 1 and before[-1] == after[-1] != UNKNOWN_DIM:
        return len(after) - 1
    end = axis + 1
    is_kept = before[:end] == after[:end] and UNKNOWN_DIM not in before[1:end]
    sizes = [None if UNKNOWN_DIM in dims else prod(dims) for dims in (before[end:], after[end:])]
    # If the dims after it changed in size, the difference went into the batch.
    return axis if is_kept and (None in sizes or sizes[0] == sizes[1]) else None


def _axis_after_squeeze(graph: Graph, step: Step, axis: int) -> int | None:
    """Move the axis up by the squeezed axes before it: a map of one row becomes a sequence."""
    rank = graph.values[step.data[0]].rank or 0
    squeezed = {one % rank for one in integers_of(graph, step.operator, "axis", "axes") if rank}
    if not squeezed or axis in squeezed:
        return None
    return axis - sum(one < axis for one in squeezed)
