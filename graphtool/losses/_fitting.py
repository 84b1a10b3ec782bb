"""Align the two Values of a pair: permute their axes and apply the pair's adapter."""

from __future__ import annotations

from graphtool.backend.paddle import Paddle
from graphtool.checks.adapters import parse_adapter, teacher_channels
from graphtool.checks.layouts import (
    Axes,
    channels_first_order,
    classes_last_order,
    has_classes_last,
)
from graphtool.loss_specs import named_losses
from graphtool.losses._ops import as_vectors, transpose
from graphtool.losses._values import shape_of
from graphtool.losses.adapters import conv1x1, linear, resize_to_smaller
from graphtool.matching import Pair

__all__ = ["align_pair"]


def align_pair(
    pair: Pair, values: tuple[Paddle, Paddle], axes: Axes, *, name: str
) -> tuple[Paddle, Paddle]:
    """Return both Values in the layout of the pair's loss: channels first, or classes last.

    `name` names the parameters of an adapter.
    """
    teacher, student = (
        transpose(value, channels_first_order(len(shape_of(value)), axis))
        for value, axis in zip(values, axes, strict=True)
    )
    if pair.adapter is not None:
        teacher, student = _apply_adapter(pair.adapter, teacher, student, name)
    if has_classes_last(named_losses()[pair.loss], axes):
        teacher, student = (
            transpose(value, classes_last_order(len(shape_of(value))))
            for value in (teacher, student)
        )
    return teacher, student


def _apply_adapter(text: str, teacher: Paddle, student: Paddle, name: str) -> tuple[Paddle, Paddle]:
    adapter = parse_adapter(text)
    if adapter.resizes:
        teacher, student = resize_to_smaller(teacher, student)
    channels = teacher_channels(shape_of(teacher))
    if adapter.layer == "conv1x1":
        return teacher, conv1x1(student, channels, name=name)
    if adapter.layer == "linear":
        return as_vectors(teacher), linear(student, channels, name=name)
    return teacher, student
