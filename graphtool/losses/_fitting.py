"""Bring the two Values of a pair into one layout, and through the pair's adapter."""

from __future__ import annotations

from typing import Any, TypeAlias

from graphtool.loss_names import named_losses
from graphtool.losses._networks import CHANNELS_LAST, MAP
from graphtool.losses._values import shape_of
from graphtool.losses.adapters import conv1x1, linear, parse_adapter, resize_to_smaller
from graphtool.matching import Pair
from graphtool.readers._paddle import load_paddle

__all__ = ["fitted"]

# Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def fitted(
    pair: Pair, values: tuple[_Paddle, _Paddle], axes: tuple[int | None, int | None], *, name: str
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
    if named_losses()[pair.loss].of_classes and axes[0] is not None and axes[1] is not None:
        return _transposed(teacher, [0, 2, 3, 1]), _transposed(student, [0, 2, 3, 1])
    return teacher, student


def _transposed(value: _Paddle, order: list[int]) -> _Paddle:
    return load_paddle().transpose(value, order)


def _adapted(text: str, teacher: _Paddle, student: _Paddle, name: str) -> tuple[_Paddle, _Paddle]:
    adapter = parse_adapter(text)
    if adapter.resizes:
        teacher, student = resize_to_smaller(teacher, student)
    if adapter.layer == "conv1x1":
        return teacher, conv1x1(student, _channels(teacher), name=name)
    if adapter.layer == "linear":
        return _vectors(teacher), linear(student, _channels(teacher), name=name)
    return teacher, student


def _channels(teacher: _Paddle) -> int:
    shape = shape_of(teacher)
    return shape[1] if len(shape) == MAP else shape[-1]


def _vectors(value: _Paddle) -> _Paddle:
    """Take a pooled map [N, C, 1, 1] as vectors, as `linear` does."""
    shape = shape_of(value)
    is_pooled = len(shape) == MAP and shape[2:] == (1, 1)
    return load_paddle().flatten(value, 1) if is_pooled else value
