"""Adapters: what a pair's text asks for, and the shapes that both sides have behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from graphtool.checks.layouts import is_map
from graphtool.checks.places import spelt
from graphtool.diagnostics import Diagnostic, PairError, Where, rule
from graphtool.graph import UNKNOWN, Shape
from graphtool.loss_names import channel_axis

__all__ = [
    "WANTED",
    "Adapter",
    "adapter_misfit",
    "adapter_misfits",
    "behind",
    "fixed_value",
    "is_pooled",
    "layer_axis",
    "parse_adapter",
    "resized",
    "teacher_channels",
    "unknown_adapter",
]

_STEP = re.compile(
    r"(?P<layer>conv1x1|linear)(\((?P<given>\d+)->(?P<wanted>\d+)\))?|(?P<size>resize)"
)
_SUGGEST = "graphtool suggest-pairs TEACHER STUDENT -o pairs.toml"
_RANKS = {"conv1x1": (4,), "linear": (2, 3, 4, 5)}
# What each adapter is put on.
WANTED = {
    "conv1x1": "a map of rank 4 whose channels are known",
    "linear": "a Value of rank 2 or more whose last dim is known",
    "resize": "maps of rank 4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """What the text of `Pair.adapter` asks for.

    `layer` is `conv1x1`, `linear` or None; `channels` are those of the student and of the teacher
    that the text gives, None where it gives none; `resizes` brings both maps to the smaller size.
    """

    layer: str | None
    channels: tuple[int, int] | None
    resizes: bool


def parse_adapter(text: str) -> Adapter:
    """Read the text of `Pair.adapter`: `conv1x1(256->512)+resize`; the numbers may be left out.

    Raises PairError: GT355 for any other text.
    """
    steps = [_STEP.fullmatch(step) for step in text.replace(" ", "").split("+")]
    layers = [step for step in steps if step and step["layer"]]
    sizes = [step for step in steps if step and step["size"]]
    if len(layers) > 1 or len(sizes) > 1 or len(layers) + len(sizes) < len(steps):
        raise PairError(unknown_adapter(text))
    layer = layers[0] if layers else None
    return Adapter(
        layer=layer["layer"] if layer else None,
        channels=(int(layer["given"]), int(layer["wanted"])) if layer and layer["given"] else None,
        resizes=bool(sizes),
    )


def is_pooled(shape: Shape) -> bool:
    """Tell a map [N, C, 1, 1], which `linear` takes as vectors."""
    return is_map(shape) and shape[2:] == (1, 1)


def layer_axis(layer: str, shape: Shape) -> int | None:
    """Return the axis whose channels a layer reads, None where it cannot be put on the shape."""
    axis = 1 if layer == "conv1x1" or is_pooled(shape) else len(shape) - 1
    return axis if len(shape) in _RANKS[layer] and shape[axis] != UNKNOWN else None


def teacher_channels(shape: Shape) -> int:
    """Return the channels that a layer brings the student's to."""
    return shape[channel_axis(len(shape))] if shape else UNKNOWN


def resized(teacher: Shape, student: Shape) -> tuple[Shape, Shape]:
    """Return both maps at the smaller size; it is found in the run where a side is not known."""
    sides = teacher[2:], student[2:]
    known = UNKNOWN not in (*sides[0], *sides[1])
    size = tuple(map(min, *sides)) if known else (UNKNOWN, UNKNOWN)
    return (*teacher[:2], *size), (*student[:2], *size)


def behind(adapter: Adapter, teacher: Shape, student: Shape) -> tuple[Shape, Shape]:
    """Return the shapes that an adapter, which fits, makes of both sides."""
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


def adapter_misfits(
    text: str, adapter: Adapter, shapes: tuple[Shape, Shape], where: tuple[Where, Where]
) -> Iterator[Diagnostic]:
    """Yield why an adapter cannot be built for a pair, whose maps have their channels first."""
    unfit = [place for place, shape in zip(where, shapes, strict=True) if not is_map(shape)]
    if adapter.resizes and unfit:
        yield from (adapter_misfit("resize", WANTED["resize"], place) for place in unfit)
        return
    if adapter.resizes:
        shapes = resized(*shapes)
    if adapter.layer is not None:
        yield from _wrong_channels(text, adapter, shapes, where)


def _wrong_channels(
    text: str, adapter: Adapter, shapes: tuple[Shape, Shape], where: tuple[Where, Where]
) -> Iterator[Diagnostic]:
    layer = adapter.layer or ""
    teacher, axis = teacher_channels(shapes[0]), layer_axis(layer, shapes[1])
    if teacher == UNKNOWN:
        yield adapter_misfit(layer, "one whose channels are known", where[0])
    if axis is None:
        yield adapter_misfit(layer, WANTED[layer], where[1])
    if teacher == UNKNOWN or axis is None:
        return
    student = shapes[1][axis]
    given, made = adapter.channels or (student, teacher)
    plain = text.replace(" ", "")
    instead = plain.replace(f"{given}->{made}", f"{student}->{teacher}")
    wanted = f"{given} channels"
    if axis != channel_axis(len(shapes[1])) and not is_pooled(shapes[1]):
        # The last dim of a map is its width.
        instead = plain.replace(f"{layer}({given}->{made})", f"conv1x1({shapes[1][1]}->{teacher})")
        wanted = f"a last dim of {given}"
    if given != student:
        yield adapter_misfit(text, wanted, where[1], instead=instead)
    if made != teacher:
        has, wanted = (f"`{where[0].value}` has {teacher}", where[0]), f"{made} channels"
        yield adapter_misfit(text, wanted, where[1], instead=instead, brought=has)


@rule("GT355")
def unknown_adapter(text: str) -> Diagnostic:
    """A pair's `adapter` is none that graphtool can build.

    There are `conv1x1` for maps, `linear` for vectors and tokens, and `resize`, which brings the
    larger of two maps to the size of the smaller; `conv1x1+resize` is both. The numbers of
    `conv1x1(256->512)` are the channels of the student and of the teacher, and may be left out.
    """
    return Diagnostic(
        message=f"there is no adapter `{text}`",
        notes=("known: `conv1x1`, `linear`, `resize`, `conv1x1+resize`",),
        help='adapter = "conv1x1"',
    )


@rule("GT356")
def fixed_value(adapter: str, where: Where) -> Diagnostic:
    """An adapter is put on a Value through which no gradient reaches a parameter.

    The adapter alone would learn then, and nothing of the student. An adapter belongs on the
    student's side: the teacher is frozen. Where it is a Value of the student's, all parameters
    before it are frozen, or something stops the gradient (`stop_gradient`, `detach`).
    """
    return Diagnostic(
        message=f"`{adapter}` is put on `{where.value}`, whose gradient reaches no parameter",
        where=(where,),
        help='gt.losses.adapters.conv1x1(merged.student("relu_22"), 512)',
    )


@rule("GT357")
def adapter_misfit(
    adapter: str,
    wanted: str,
    where: Where,
    *,
    instead: str | None = None,
    brought: tuple[str, Where] | None = None,
) -> Diagnostic:
    """An adapter cannot be built for a Value of such a shape, or makes what the teacher has not.

    `conv1x1` takes maps of rank 4, `linear` vectors and tokens: both need to know how many channels
    there are. `resize` takes maps. Where dims are not known, build the network with the size of its
    input.
    """
    placed = f"`{adapter}` is put on `{where.value}` {spelt(where.shape)}; wanted {wanted}"
    made = f"`{adapter}` brings `{where.value}` to {wanted}, "
    return Diagnostic(
        message=f"{made}the teacher's {brought[0]}" if brought else placed,
        where=(where,) if brought is None else (where, brought[1]),
        help=f'adapter = "{instead}"' if instead else _SUGGEST,
    )
