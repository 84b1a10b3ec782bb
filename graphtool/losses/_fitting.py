"""Bring the two Values of a pair into one layout, and through the pair's adapter."""

from __future__ import annotations

from typing import Any, TypeAlias

from graphtool.checks.adapters import parse_adapter, teacher_channels
from graphtool.checks.layouts import Axes, are_classes_last, channels_first, classes_last
from graphtool.loss_names import named_losses
from graphtool.losses._ops import as_vectors, transposed
from graphtool.losses._values import shape_of
from graphtool.losses.adapters import conv1x1, linear, resize_to_smaller
from graphtool.matching import Pair

__all__ = ["fitted"]

# Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def fitted(
    pair: Pair, values: tuple[_Paddle, _Paddle], axes: Axes, *, name: str
) -> tuple[_Paddle, _Paddle]:
    """Return both Values as the pair's loss takes them; maps have their channels first.

    For a loss over class scores these are last. `name` is for the parameters of an adapter.
    """
    teacher, student = (
        transposed(value, channels_first(len(shape_of(value)), axis))
        for value, axis in zip(values, axes, strict=True)
    )
    if pair.adapter is not None:
        teacher, student = _adapted(pair.adapter, teacher, student, name)
    if are_classes_last(named_losses()[pair.loss], axes):
        teacher, student = (
            transposed(value, classes_last(len(shape_of(value)))) for value in (teacher, student)
        )
    return teacher, student


def _adapted(text: str, teacher: _Paddle, student: _Paddle, name: str) -> tuple[_Paddle, _Paddle]:
    adapter = parse_adapter(text)
    if adapter.resizes:
        teacher, student = resize_to_smaller(teacher, student)
    channels = teacher_channels(shape_of(teacher))
    if adapter.layer == "conv1x1":
        return teacher, conv1x1(student, channels, name=name)
    if adapter.layer == "linear":
        return as_vectors(teacher), linear(student, channels, name=name)
    return teacher, student
