"""Bring the two Values of a pair into one layout, and through the pair's adapter."""

from __future__ import annotations

from typing import Any, TypeAlias

from graphtool.checks.adapters import parse_adapter, teacher_channels
from graphtool.checks.layouts import CHANNELS_LAST, Axes, are_classes_last, is_map
from graphtool.loss_names import named_losses
from graphtool.losses._ops import as_vectors
from graphtool.losses._values import shape_of
from graphtool.losses.adapters import conv1x1, linear, resize_to_smaller
from graphtool.matching import Pair
from graphtool.readers._paddle import load_paddle

__all__ = ["fitted"]

# Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def fitted(
    pair: Pair, values: tuple[_Paddle, _Paddle], axes: Axes, *, name: str
) -> tuple[_Paddle, _Paddle]:
    """Return both Values as the pair's loss takes them; maps have their channels first.

    For a loss over class scores they are last. `name` is for the parameters of an adapter.
    """
    teacher, student = (
        _transposed(value, [0, 3, 1, 2]) if axis == CHANNELS_LAST else value
        for value, axis in zip(values, axes, strict=True)
    )
    if pair.adapter is not None:
        teacher, student = _adapted(pair.adapter, teacher, student, name)
    if are_classes_last(named_losses()[pair.loss], axes):
        return _classes_last(teacher), _classes_last(student)
    return teacher, student


def _classes_last(value: _Paddle) -> _Paddle:
    return _transposed(value, [0, 2, 3, 1]) if is_map(shape_of(value)) else value


def _transposed(value: _Paddle, order: list[int]) -> _Paddle:
    return load_paddle().transpose(value, order)


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
