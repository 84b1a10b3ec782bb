"""Convolutions that do not fit what they read: Paddle 3 builds them, and fails when they run."""

from __future__ import annotations

from graphtool.graph import Graph, Operator, dims_agree

__all__ = ["misfit"]

_CONVOLUTIONS = frozenset({"conv2d", "conv3d", "depthwise_conv2d"})
_TRANSPOSED = frozenset({"conv2d_transpose", "conv3d_transpose", "depthwise_conv2d_transpose"})


def misfit(graph: Graph) -> str | None:
    """Name the first convolution whose filter is for another number of channels, if any.

    A filter is `[out, in / groups, …]`, that of a transposed convolution `[in, out / groups, …]`.
    """
    for operator in graph.operators.values():
        if operator.kind in _CONVOLUTIONS | _TRANSPOSED:
            found, wanted = _channels(graph, operator)
            if not dims_agree(found, wanted):
                return (
                    f"{_called(graph, operator)} reads {found} channels; its filter is for {wanted}"
                )
    return None


def _called(graph: Graph, operator: Operator) -> str:
    layer = graph.values[operator.results[0]].layer
    return f"`{operator.name}`" if layer is None else f"`{operator.name}` of `{layer}`"


def _channels(graph: Graph, operator: Operator) -> tuple[int, int]:
    """Return how many channels a convolution reads, and how many its filter is for; -1: unknown."""
    shapes = [graph.values[name].shape for name in operator.operands[:2] if name is not None]
    groups = operator.attributes.get("groups", 1)
    read, weights = shapes if len(shapes) == 2 else (None, None)
    if not read or not weights or len(read) != len(weights) or not isinstance(groups, int):
        return -1, -1
    last = str(operator.attributes.get("data_format")).endswith("C")
    wanted = weights[0] if operator.kind in _TRANSPOSED else weights[1] * groups
    return read[-1 if last else 1], wanted
