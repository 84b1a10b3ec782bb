"""Whether a loss can compare Values, of a Graph or of a Program that is being built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from math import prod
from typing import TypeVar

from graphtool.dtypes import FLOAT_DTYPES, HALF_DTYPES
from graphtool.graph import UNKNOWN_DIM, Graph, Origin, Shape, dims_agree
from graphtool.loss_specs import OperandSpec
from graphtool.ops import ZERO_GRADIENT, kind_of

__all__ = [
    "are_comparable_dtypes",
    "insufficient_count",
    "passes_gradient",
    "reaches_parameter",
    "reaches_parameter_in",
    "unequal_axes",
    "unknown_axes",
    "wrong_rank_indices",
]

_Value = TypeVar("_Value")


def wrong_rank_indices(takes: OperandSpec, shapes: Sequence[Shape]) -> list[int]:
    """Return the indices of shapes with a rank that a loss is not defined for."""
    lowest, highest = takes.ranks
    return [
        index
        for index, shape in enumerate(shapes)
        if len(shape) < lowest or (highest is not None and len(shape) > highest)
    ]


def unequal_axes(takes: OperandSpec, teacher: Shape, student: Shape) -> list[int]:
    """Return the axes that a loss compares one to one and whose dims differ."""
    if len(teacher) != len(student):
        return []
    return [
        axis
        for axis in takes.equal_axes(len(teacher))
        if not dims_agree(teacher[axis], student[axis])
    ]


def unknown_axes(takes: OperandSpec, role: str, shape: Shape) -> list[int]:
    """Return the axes whose dims are unknown and must be known to build a loss."""
    return [axis for axis in takes.known_axes(role, len(shape)) if shape[axis] == UNKNOWN_DIM]


def insufficient_count(takes: OperandSpec, shapes: Iterable[Shape]) -> int | None:
    """Return the number of elements of the first Value with too few for a loss, else None.

    Unknown dims are taken to be large enough.
    """
    least = takes.least
    if least is None:
        return None
    known = [
        dims for shape in shapes if UNKNOWN_DIM not in (dims := shape[least.start : least.stop])
    ]
    return next((count for count in map(prod, known) if count < least.count), None)


def are_comparable_dtypes(dtypes: Collection[str]) -> bool:
    """Return whether a loss can compare Values of these dtypes."""
    computed = {"float32" if dtype in HALF_DTYPES else dtype for dtype in dtypes}
    return len(computed) == 1 and FLOAT_DTYPES.issuperset(dtypes)


_DISCRETE_DTYPES = ("bool", "int", "uint")


def passes_gradient(kind: str, dtype: str | None) -> bool:
    """Return whether a gradient passes through a result, by its operator's kind and its dtype."""
    return kind not in ZERO_GRADIENT and not (dtype or "").startswith(_DISCRETE_DTYPES)


def reaches_parameter(
    value: _Value,
    gradient_sources: Callable[[_Value], Iterable[_Value] | None],
    key: Callable[[_Value], Hashable],
) -> bool:
    """Return whether the gradient of a Value reaches a trainable parameter or a feed.

    `gradient_sources` returns the Values that a gradient flows to, None if the Value is or may be
    trainable itself; `key` identifies a Value.
    """
    pending, seen = [value], {key(value)}
    while pending:
        sources = gradient_sources(pending.pop())
        if sources is None:
            return True
        new = {key(one): one for one in sources if key(one) not in seen}
        seen |= new.keys()
        pending += new.values()
    return False


def reaches_parameter_in(graph: Graph, name: str, *, restored: bool) -> bool:
    """Return `reaches_parameter` for a Value of a Graph.

    `restored`: `for_training` makes parameters trainable unless they are frozen explicitly, and
    lets gradients pass where the translation to PIR stopped them.
    """

    def gradient_sources(name: str) -> Iterable[str] | None:
        value, operator = graph.values[name], graph.producer(name)
        if value.stop_gradient and (not restored or value.origin is not Origin.OPERATOR):
            return ()
        if value.origin is Origin.PARAMETER:
            trainable = value.dtype in FLOAT_DTYPES if restored else value.trainable
            return None if trainable else ()
        if value.origin is not Origin.OPERATOR or operator is None or operator.blocks:
            return None
        if not passes_gradient(kind_of(operator), value.dtype):
            return ()
        return [operand for operand in operator.operands if operand is not None]

    return reaches_parameter(name, gradient_sources, lambda name: name)
