"""Whether Values fit a loss: the same for those of a Graph and of a Program that is built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from math import prod
from typing import TypeVar

from graphtool.graph import FLOATS, HALVES, UNKNOWN, Graph, Origin, Shape, dims_agree
from graphtool.loss_names import Takes
from graphtool.structure import kind_of

__all__ = [
    "graph_learns",
    "is_computed",
    "learns",
    "misranked",
    "passes_gradient",
    "too_few",
    "unequal",
    "unknown_dims",
]

_Value = TypeVar("_Value")


def misranked(takes: Takes, shapes: Sequence[Shape]) -> list[int]:
    """Return the places of shapes with more or fewer dims than a loss is defined for."""
    lowest, highest = takes.ranks
    return [
        place
        for place, shape in enumerate(shapes)
        if len(shape) < lowest or (highest is not None and len(shape) > highest)
    ]


def unequal(takes: Takes, teacher: Shape, student: Shape) -> list[int]:
    """Return the axes that a loss compares one to one and that differ; ranks fit."""
    if len(teacher) != len(student):
        return []
    return [
        axis
        for axis in takes.compared(len(teacher))
        if not dims_agree(teacher[axis], student[axis])
    ]


def unknown_dims(takes: Takes, role: str, shape: Shape) -> list[int]:
    """Return the axes that a loss must know to be built, and that are not known; the rank fits."""
    return [axis for axis in takes.known_of(role, len(shape)) if shape[axis] == UNKNOWN]


def too_few(takes: Takes, shapes: Iterable[Shape]) -> int | None:
    """Return how many numbers a loss has of the first Value that has too few, None where none has.

    Dims that are not known may hold any number.
    """
    least = takes.least
    if least is None:
        return None
    known = [dims for shape in shapes if UNKNOWN not in (dims := shape[least.start : least.stop])]
    return next((count for count in map(prod, known) if count < least.count), None)


def is_computed(dtypes: Collection[str]) -> bool:
    """Tell whether a loss computes with Values of these dtypes, all of them in one."""
    computed = {"float32" if dtype in HALVES else dtype for dtype in dtypes}
    return len(computed) == 1 and FLOATS.issuperset(dtypes)


# Numbers that jump, or that are made of a shape alone.
_FLAT = frozenset(
    {"ceil", "floor", "floor_divide", "full_like", "ones_like", "round", "sign", "trunc"}
    | {"fill_any_like", "zeros_like"}
)
_STEPS = ("bool", "int", "uint")


def passes_gradient(kind: str, dtype: str | None) -> bool:
    """Return whether a gradient passes a result of an operator, by its kind and the dtype."""
    return kind not in _FLAT and not (dtype or "").startswith(_STEPS)


def learns(
    value: _Value,
    made_from: Callable[[_Value], Iterable[_Value] | None],
    key: Callable[[_Value], Hashable],
) -> bool:
    """Tell whether the gradient of a Value reaches a parameter, or feed, that learns.

    `made_from` returns what a gradient goes on to, None where the Value learns itself or may; `key`
    is what tells Values apart.
    """
    waiting, seen = [value], {key(value)}
    while waiting:
        before = made_from(waiting.pop())
        if before is None:
            return True
        new = {key(one): one for one in before if key(one) not in seen}
        seen |= new.keys()
        waiting += new.values()
    return False


def graph_learns(graph: Graph, name: str, *, restored: bool) -> bool:
    """Tell whether anything learns from the gradient of a Value of a Graph.

    `restored`: `for_training` lets parameters learn that don't say themselves that they are frozen,
    and gradients pass where translation stopped them.
    """

    def made_from(name: str) -> Iterable[str] | None:
        value, operator = graph.values[name], graph.producer(name)
        if value.stop_gradient and (not restored or value.origin is not Origin.OPERATOR):
            return ()
        if value.origin is Origin.PARAMETER:
            may = value.dtype in FLOATS if restored else value.trainable
            return None if may else ()
        if value.origin is not Origin.OPERATOR or operator is None or operator.blocks:
            return None
        if not passes_gradient(kind_of(operator), value.dtype):
            return ()
        return [operand for operand in operator.operands if operand is not None]

    return learns(name, made_from, lambda name: name)
