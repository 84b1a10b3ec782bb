"""Adapters: how the text of a pair's adapter is parsed, and the shapes that it produces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from graphtool.checks.rules import format_shape
from graphtool.diagnostics import Diagnostic, PairError, Where, documented
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.loss_specs import channel_axis

__all__ = [
    "ADAPTER_INPUTS",
    "Adapter",
    "adapted_shapes",
    "adapter_misfit",
    "check_adapter",
    "frozen_input",
    "is_map",
    "is_pooled",
    "layer_axis",
    "misapplied",
    "parse_adapter",
    "resized",
    "teacher_channels",
]

_STEP = re.compile(
    r"(?P<layer>conv1x1|linear)(\((?P<student>\d+)->(?P<teacher>\d+)\))?|(?P<size>resize)"
)
_SUGGEST = "graphtool suggest-pairs TEACHER STUDENT -o pairs.toml"
_RANKS = {"conv1x1": (4,), "linear": (2, 3, 4, 5)}
# The Values that each adapter can be applied to.
ADAPTER_INPUTS = {
    "conv1x1": "a map of rank 4 whose channels are known",
    "linear": "a Value of rank 2 or more whose last dim is known",
    "resize": "maps of rank 4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """The parsed text of `Pair.adapter`.

    `layer` is `conv1x1`, `linear` or None. `channels` are those of the student and of the teacher
    in the text, None if they are left out. If it `resizes`, both maps get the smaller size.
    """

    layer: str | None
    channels: tuple[int, int] | None
    resizes: bool


def parse_adapter(text: str) -> Adapter:
    """Parse the text of `Pair.adapter`: `conv1x1(256->512)+resize`; the numbers are optional.

    Raises PairError: GT357 for any other text.
    """
    steps = [_STEP.fullmatch(step) for step in text.replace(" ", "").split("+")]
    layers = [step for step in steps if step and step["layer"]]
    sizes = [step for step in steps if step and step["size"]]
    if len(layers) > 1 or len(sizes) > 1 or len(layers) + len(sizes) < len(steps):
        known = "known: `conv1x1`, `linear`, `resize`, `conv1x1+resize`"
        message, example = f"there is no adapter `{text}`", 'adapter = "conv1x1"'
        raise PairError(adapter_misfit(message, notes=(known,), help=example))
    layer, channels = None, None
    if layers:
        layer = layers[0]["layer"]
        if layers[0]["student"]:
            channels = int(layers[0]["student"]), int(layers[0]["teacher"])
    return Adapter(layer=layer, channels=channels, resizes=bool(sizes))


def is_map(shape: Shape) -> bool:
    """Return whether a shape is that of a map [N, C, H, W]."""
    return len(shape) == 4


def is_pooled(shape: Shape) -> bool:
    """Return whether a shape is [N, C, 1, 1], which `linear` takes as vectors."""
    return is_map(shape) and shape[2:] == (1, 1)


def layer_axis(layer: str, shape: Shape) -> int | None:
    """Return the axis whose channels a layer reads, None if it cannot be applied to the shape."""
    axis = 1 if layer == "conv1x1" or is_pooled(shape) else len(shape) - 1
    return axis if len(shape) in _RANKS[layer] and shape[axis] != UNKNOWN_DIM else None


def teacher_channels(shape: Shape) -> int:
    """Return the number of channels that a layer brings the student's to."""
    return shape[channel_axis(len(shape))] if shape else UNKNOWN_DIM


def resized(teacher: Shape, student: Shape) -> tuple[Shape, Shape]:
    """Return the shapes of both maps at the smaller size, which is unknown if a side is."""
    sides = teacher[2:], student[2:]
    known = UNKNOWN_DIM not in (*sides[0], *sides[1])
    size = tuple(map(min, *sides)) if known else (UNKNOWN_DIM, UNKNOWN_DIM)
    return (*teacher[:2], *size), (*student[:2], *size)


def adapted_shapes(adapter: Adapter, teacher: Shape, student: Shape) -> tuple[Shape, Shape]:
    """Return both shapes after an adapter that `check_adapter` accepts."""
    if adapter.resizes:
        teacher, student = resized(teacher, student)
    if adapter.layer is None:
        return teacher, student
    channels = teacher_channels(teacher)
    if adapter.layer == "linear":
        teacher, student = (
            shape[:2] if is_pooled(shape) else shape for shape in (teacher, student)
        )
    axis = layer_axis(adapter.layer, student)
    assert axis is not None
    return teacher, (*student[:axis], channels, *student[axis + 1 :])


def check_adapter(
    text: str, adapter: Adapter, shapes: tuple[Shape, Shape], where: tuple[Where, Where]
) -> Iterator[Diagnostic]:
    """Yield why an adapter cannot be built for a pair, whose maps have their channels first."""
    no_maps = [place for place, shape in zip(where, shapes, strict=True) if not is_map(shape)]
    if adapter.resizes and no_maps:
        yield from (misapplied("resize", place, ADAPTER_INPUTS["resize"]) for place in no_maps)
        return
    layer = adapter.layer
    if layer is None:
        return
    # A resize leaves the channels as they are, but not the size, which `linear` may read.
    teacher_shape, student_shape = resized(*shapes) if adapter.resizes else shapes
    teacher, axis = teacher_channels(teacher_shape), layer_axis(layer, student_shape)
    if teacher == UNKNOWN_DIM:
        yield misapplied(layer, where[0], "one whose channels are known")
    if axis is None:
        yield misapplied(layer, where[1], ADAPTER_INPUTS[layer])
    if teacher == UNKNOWN_DIM or axis is None or adapter.channels is None:
        return
    student, expected = student_shape[axis], f"{adapter.channels[0]} channels"
    corrected = f"{layer}({student}->{teacher})"
    if axis != channel_axis(len(student_shape)) and not is_pooled(student_shape):
        # The last dim of a map is its width.
        corrected = f"conv1x1({student_shape[1]}->{teacher})"
        expected = f"a last dim of {adapter.channels[0]}"
    given = f"{layer}({'->'.join(map(str, adapter.channels))})"
    fix = f'adapter = "{text.replace(" ", "").replace(given, corrected)}"'
    if adapter.channels[0] != student:
        yield misapplied(text, where[1], expected, help=fix)
    if adapter.channels[1] != teacher:
        message = (
            f"`{text}` brings `{where[1].value}` to {adapter.channels[1]} channels, the teacher's "
            f"`{where[0].value}` has {teacher}"
        )
        yield adapter_misfit(message, (where[1], where[0]), help=fix)


@documented("GT357", replaces=("GT355", "GT356", "GT365"))
def adapter_misfit() -> None:
    """A pair's `adapter` does not exist, does not fit its Value, or is not needed.

    `conv1x1` takes maps of rank 4, `linear` vectors and tokens, of a known number of channels.
    `resize` brings the larger of two maps to the size of the smaller; `conv1x1+resize` is both.
    The numbers of `conv1x1(256->512)` are the channels of the student and of the teacher, and
    are optional. If dims are unknown, build the network with the size of its input.

    An adapter belongs on the student's side. If no gradient reaches a parameter of the student,
    only the adapter would learn: a parameter is frozen, or something stops the gradient. It
    would learn in the student's place, too, for a loss that compares any number of channels:
    delete it.
    """


def misapplied(adapter: str, where: Where, wanted: str, *, help: str = _SUGGEST) -> Diagnostic:
    """Report an adapter that cannot be applied to a Value."""
    value = f"`{where.value}` {format_shape(where.shape)}"
    message = f"`{adapter}` is applied to {value}; wanted {wanted}"
    return adapter_misfit(message, where, help=help)


def frozen_input(adapter: str, where: Where) -> Diagnostic:
    """Report an adapter on a Value that is not trained."""
    wanted = "a Value whose gradient reaches a parameter of the student"
    example = 'gt.losses.adapters.conv1x1(merged.student("relu_22"), 512)'
    return misapplied(adapter, where, wanted, help=example)
