"""Multiply-adds and parameters of each Operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from graphtool.graph import UNKNOWN, Operator, Shape
from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import GLOBAL, Scale, channels_last
from graphtool.structure._vocabulary import CONVOLUTIONS, PRODUCTS

__all__ = ["Cost", "costs_of"]

# Stands in for an unknown side of the input, so that fractions of the whole are known all the same.
_NOMINAL_SIDE = 224
_NOMINAL_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds for one sample; not `exact` where an unknown dim was given a nominal size."""

    multiply_adds: int
    exact: bool = True


def costs_of(flow: Flow, scales: Mapping[str, Scale]) -> Mapping[str, Cost]:
    """Return the multiply-adds of convolutions and products by Operator name; others have none.

    One multiply-add is one multiplication and one addition: resnet50 at 224 × 224 has 4.1 G.
    """
    found: dict[str, Cost] = {}
    for step in flow.steps.values():
        if step.kind in CONVOLUTIONS and step.weighted:
            found[step.operator.name] = _convolution(flow, step, scales)
        elif step.kind in PRODUCTS and step.data:
            found[step.operator.name] = _product(flow, step)
    return found


def _convolution(flow: Flow, step: Step, scales: Mapping[str, Scale]) -> Cost:
    filter_shape = _shape(flow, step.weights[0])
    # A transposed convolution does its work once per place of what it reads.
    transposed = step.kind.endswith("transpose")
    counted = step.data[0] if transposed else step.result
    places, exact = _places(flow, counted, step.operator, scales)
    outputs = filter_shape[0]
    return Cost(places * outputs * prod(filter_shape[1:]), exact=exact)


def _places(
    flow: Flow, name: str, operator: Operator, scales: Mapping[str, Scale]
) -> tuple[int, bool]:
    shape = _shape(flow, name)
    sides = shape[1:-1] if channels_last(operator) else shape[2:]
    if UNKNOWN not in sides:
        return prod(sides), True
    scale = scales.get(name)
    if scale is None or scale == GLOBAL:
        return 1, scale == GLOBAL
    return max(1, round(scale.area * _NOMINAL_SIDE**2)), False


def _product(flow: Flow, step: Step) -> Cost:
    """Count result elements times the length of the summed axis."""
    result = _per_sample(_shape(flow, step.result))
    summed = _summed_axis(flow, step)
    known = [dim if dim != UNKNOWN else _NOMINAL_LENGTH for dim in result]
    return Cost(prod(known) * summed, exact=UNKNOWN not in result)


def _summed_axis(flow: Flow, step: Step) -> int:
    if step.weights:
        shape = _shape(flow, step.weights[0])
        transposed = bool(
            step.operator.attributes.get("transpose_y") or step.operator.attributes.get("trans_y")
        )
        return shape[-1 if transposed else -2] if len(shape) > 1 else shape[0] if shape else 1
    shape = _shape(flow, step.data[0])
    transposed = bool(
        step.operator.attributes.get("transpose_x") or step.operator.attributes.get("trans_x")
    )
    dim = shape[-2 if transposed else -1] if len(shape) > 1 else 1
    return dim if dim != UNKNOWN else _NOMINAL_LENGTH


def _per_sample(shape: Shape) -> Shape:
    return shape[1:] if len(shape) > 1 else shape


def _shape(flow: Flow, name: str) -> Shape:
    return flow.graph.values[name].shape or ()
