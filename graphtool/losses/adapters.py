"""Adapters: what brings a student's Value to the teacher's channels, width or size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, TypeAlias, cast

from graphtool.arguments import shown
from graphtool.checks.adapters import (
    WANTED,
    Adapter,
    adapter_misfit,
    fixed_value,
    layer_axis,
    parse_adapter,
    resized,
)
from graphtool.checks.layouts import is_map
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.graph import UNKNOWN, Shape
from graphtool.losses import pair_problems as problems
from graphtool.losses._ends import built_whole, in_float32, refuse, resolved
from graphtool.losses._learning import learns
from graphtool.losses._ops import as_vectors
from graphtool.losses._values import (
    of_either,
    of_student,
    own,
    place_of,
    require_trainable_program,
    shape_of,
)
from graphtool.merging import merged_of
from graphtool.readers._assembly import NAME_ATTRIBUTES
from graphtool.readers._paddle import is_legacy, load_paddle

__all__ = [
    "Adapter",
    "conv1x1",
    "linear",
    "parse_adapter",
    "resize",
    "resize_to_smaller",
]

# Values, Variables, Programs and Scopes are Paddle's, without types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# What an operation of a startup program names a Variable with.
_WRITTEN = {"builtin.set_parameter": "parameter_name", "builtin.shadow_output": "output_name"}
_NAMES = {**NAME_ATTRIBUTES, **_WRITTEN}


@built_whole
def conv1x1(value: _Paddle | str, channels: int, *, name: str = "conv1x1") -> _Paddle:
    """Bring a student's map [N, C, H, W] to [N, channels, H, W] by a 1 × 1 convolution with bias.

    `value` is a Value, or a name of the student; one of low precision becomes float32, which the
    parameters are then too. The weight starts Xavier-uniform, the bias at 0.
    They are parameters of the current Program, `graphtool_adapter_<name>.w` and `.b`, with a number
    behind `name` where that is taken. It is the regressor of FitNets (Romero et al. 2015, arXiv
    1412.6550). For maps [N, H, W, C] `linear` is the same.

    Raises PairError, with nothing built: GT356 where no gradient passes the Value, GT357 where it
    is no map with a known number of channels, or `channels` is no positive number. Raises
    UsageError: GT340 to GT342, GT350, GT352. Raises ReadError: GT101, GT102, GT031.
    """
    value = _students("conv1x1", value)
    refuse(_misfits(value, channels, "conv1x1"))
    value = in_float32(value)
    size = [channels, shape_of(value)[1], 1, 1]
    return load_paddle().nn.functional.conv2d(value, *_parameters(value, size, channels, name))


@built_whole
def linear(value: _Paddle | str, features: int, *, name: str = "linear") -> _Paddle:
    """Bring a student's vectors [N, C] or tokens [N, L, C] to so many features, with a bias.

    A map [N, C, 1, 1] is taken as vectors. All else is as for `conv1x1`. It is what TinyBERT learns
    beside a narrower student (Jiao et al. 2020, arXiv 1909.10351).

    Raises as `conv1x1` does; GT357 where the last dim is not known.
    """
    value = _students("linear", value)
    refuse(_misfits(value, features, "linear"))
    vectors = in_float32(as_vectors(value))
    size = [shape_of(vectors)[-1], features]
    return load_paddle().nn.functional.linear(vectors, *_parameters(vectors, size, features, name))


@built_whole
def resize(value: _Paddle | str, like: _Paddle | str | Sequence[int]) -> _Paddle:
    """Bring a map [N, C, H, W] to the H × W of another map, or to `(H, W)`.

    Names are looked up as those of a teacher with its prefix, else as the student's. A map shrinks
    by the mean over the places that fall together (adaptive pooling), as in the published
    comparison by Tian et al. (2020, arXiv 1910.10699); where a side grows it is bilinear. Sizes
    that are not known are looked up at run time, and taken to shrink the map.

    Raises PairError GT357, with nothing built, where a Value is no map, UsageError GT358 for
    another size, else as `conv1x1` does.
    """
    require_trainable_program("resize")
    value = _of_either(value)
    if isinstance(like, list | tuple):
        return _to_size(value, _checked_size(cast("Sequence[object]", like)))
    like = _of_either(like)
    refuse(_no_maps([value, like]))
    return _to_size(value, _sides(like), like)


@built_whole
def resize_to_smaller(teacher: _Paddle | str, student: _Paddle | str) -> tuple[_Paddle, _Paddle]:
    """Bring two maps [N, C, H, W] to the smaller H and the smaller W, as `resize` shrinks a map.

    The larger map shrinks, whichever side it is on: nothing is made up that a network has not
    computed, as in the comparison by Tian et al. (2020, arXiv 1910.10699). Where a dim is not known
    the smaller is found at run time.

    Raises as `resize` does.
    """
    values = resolved("resize_to_smaller", {"teacher": teacher}, {"student": student})
    refuse(_no_maps(values))
    smaller = resized(*map(shape_of, values))[0][2:]
    if UNKNOWN not in smaller:
        return _to_size(values[0], smaller), _to_size(values[1], smaller)
    size = _minimum(*map(_size, values))
    pool = load_paddle().nn.functional.adaptive_avg_pool2d
    return pool(values[0], size), pool(values[1], size)


def _students(adapter: str, value: object) -> _Paddle:
    require_trainable_program(adapter)
    return own(of_student(value, "value"), "value")


def _of_either(value: object) -> _Paddle:
    found = of_either(value) if isinstance(value, str) else of_student(value, "value")
    return own(found, "value")


def _checked_size(given: Sequence[object]) -> Shape:
    size = tuple(side for side in given if isinstance(side, int) and side > 0)
    if len(size) != 2 or len(given) != 2:
        wanted, example = "a map, or two positive numbers (H, W)", "resize(student, (7, 7))"
        raise UsageError(problems.wrong_argument("like", given, wanted, example))
    return size


def _to_size(value: _Paddle, wanted: Shape, like: _Paddle | None = None) -> _Paddle:
    """Resize a map; `like` has the size where that is not known."""
    refuse(_no_maps([value]))
    given = _sides(value)
    if given == wanted and UNKNOWN not in wanted:
        return value
    size = list(wanted) if UNKNOWN not in wanted else _size(like)
    functional = load_paddle().nn.functional
    if any(UNKNOWN < a < b for a, b in zip(given, wanted, strict=True)):
        return functional.interpolate(value, size=size, mode="bilinear")
    return functional.adaptive_avg_pool2d(value, size)


def _sides(value: _Paddle) -> Shape:
    return shape_of(value)[2:]


def _size(value: _Paddle) -> _Paddle:
    """Return H and W as a Value of two whole numbers."""
    return load_paddle().shape(value)[2:]


def _misfits(value: _Paddle, wanted: int, adapter: str) -> Iterator[Diagnostic]:
    if layer_axis(adapter, shape_of(value)) is None:
        yield adapter_misfit(adapter, WANTED[adapter], place_of(value, "student"))
    if type(wanted) is not int or wanted < 1:
        number = f"a positive whole number, not {shown(wanted)}"
        yield adapter_misfit(adapter, number, place_of(value, "student"))
    if not learns(value):
        yield fixed_value(adapter, place_of(value, "student"))


def _no_maps(values: Sequence[_Paddle]) -> Iterator[Diagnostic]:
    for value in values:
        if not is_map(shape_of(value)):
            yield adapter_misfit("resize", WANTED["resize"], place_of(value, "either"))


def _minimum(a: _Paddle, b: _Paddle) -> _Paddle:
    paddle = load_paddle()
    if not hasattr(a, "desc"):
        return paddle.minimum(a, b)
    # `paddle.minimum` of Paddle 3 takes no Variables.
    helper = paddle.base.layer_helper.LayerHelper("graphtool_minimum")
    out = helper.create_variable_for_type_inference(a.dtype)
    helper.append_op(type="elementwise_min", inputs={"X": a, "Y": b}, outputs={"Out": out})
    return out


def _parameters(
    value: _Paddle, size: list[int], features: int, name: str
) -> tuple[_Paddle, _Paddle]:
    """Create a weight and a bias in the current Programs."""
    static, initial = load_paddle().static, load_paddle().nn.initializer
    weight, bias = _free_names(name)
    create, dtype = static.create_parameter, value.dtype
    return (
        create(size, dtype, weight, default_initializer=initial.XavierUniform()),
        create([features], dtype, bias, is_bias=True, default_initializer=initial.Constant(0.0)),
    )


def _free_names(name: str) -> tuple[str, str]:
    """Return names for a weight and a bias that no Program and no Scope at hand has."""
    stem = f"graphtool_adapter_{re.sub(r'[^A-Za-z0-9_.]+', '_', name)}"
    static = load_paddle().static
    programs = static.default_main_program(), static.default_startup_program()
    taken = frozenset(known for program in programs for known in _names(program))
    merged = merged_of(programs[0])
    scopes = [static.global_scope(), *([merged.scopes.student] if merged else ())]
    stems = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
    candidates = ((f"{one}.w", f"{one}.b") for one in stems)
    return next(
        names
        for names in candidates
        if taken.isdisjoint(names)
        and not any(scope.find_var(wanted) for scope in scopes for wanted in names)
    )


def _names(program: _Paddle) -> Iterator[str]:
    """Yield the names of what a Program keeps or is fed with."""
    if is_legacy(program):
        for block in program.blocks:
            yield from block.vars
        return
    for op in program.global_block().ops:
        if attribute := _NAMES.get(op.name()):
            yield op.str_attr(attribute)
