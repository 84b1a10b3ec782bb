"""Adapters: bring a student's Value to the teacher's channels, width or size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import cast

from graphtool.arguments import bad_argument, short_repr
from graphtool.backend.legacy_editing import append_op
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.checks.adapters import (
    ADAPTER_CALL,
    ADAPTER_INPUTS,
    TRAINABLE_INPUT,
    Adapter,
    layer_axis,
    misapplied,
    parse_adapter,
    resized,
)
from graphtool.checks.layouts import is_map
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.losses._operands import atomic, in_float32, raise_pair_errors, resolve
from graphtool.losses._ops import as_vectors
from graphtool.losses._transaction import path_component
from graphtool.losses._values import (
    find_any,
    find_student,
    reaches_parameter,
    require_in_main_program,
    require_trainable_program,
    shape_of,
    where_of,
)
from graphtool.merging import merged_of
from graphtool.readers.graph_builder import NAME_ATTRIBUTES

__all__ = [
    "Adapter",
    "conv1x1",
    "linear",
    "parse_adapter",
    "resize",
    "resize_to_smaller",
]


# PIR operation -> its attribute that holds the name of a Variable; the last two are found in
# startup programs.
_NAME_ATTRIBUTES = {
    **NAME_ATTRIBUTES,
    "builtin.set_parameter": "parameter_name",
    "builtin.shadow_output": "output_name",
}


@atomic
def conv1x1(value: Paddle | str, channels: int, *, name: str = "conv1x1") -> Paddle:
    """Bring a student's map [N, C, H, W] to [N, channels, H, W] by a 1 × 1 convolution with bias.

    `value` is a Value or a name of the student. Low precision is cast to float32, which is then the
    dtype of the parameters too. The weight is initialised Xavier-uniform, the bias with 0. They are
    parameters of the current Program, `graphtool_adapter_<name>.w` and `.b`; a number is appended
    to `name` if these names are taken. This is the regressor of FitNets (Romero et al. 2015, arXiv
    1412.6550). For maps [N, H, W, C] use `linear`.

    Raises PairError, with nothing built: GT357 if no gradient passes through the Value, if it is
    not a map with a known number of channels, or `channels` is not a positive integer. Raises
    UsageError: GT231, GT248, GT340, GT352. Raises ReadError: GT101, GT102, GT031.
    """
    value = _student_value("conv1x1", value)
    raise_pair_errors(_check_layer(value, channels, "conv1x1"))
    value = in_float32(value)
    shape = [channels, shape_of(value)[1], 1, 1]
    return load_paddle().nn.functional.conv2d(value, *_parameters(value, shape, channels, name))


@atomic
def linear(value: Paddle | str, features: int, *, name: str = "linear") -> Paddle:
    """Bring a student's vectors [N, C] or tokens [N, L, C] to `features` by a layer with bias.

    A map [N, C, 1, 1] is flattened to vectors. Everything else is as for `conv1x1`. TinyBERT learns
    such a layer for a narrower student (Jiao et al. 2020, arXiv 1909.10351).

    Raises as `conv1x1` does; GT357 if the last dim is unknown.
    """
    value = _student_value("linear", value)
    raise_pair_errors(_check_layer(value, features, "linear"))
    vectors = in_float32(as_vectors(value))
    shape = [shape_of(vectors)[-1], features]
    parameters = _parameters(vectors, shape, features, name)
    return load_paddle().nn.functional.linear(vectors, *parameters)


@atomic
def resize(value: Paddle | str, like: Paddle | str | Sequence[int]) -> Paddle:
    """Bring a map [N, C, H, W] to the H × W of another map, or to `(H, W)`.

    A name with a teacher's prefix is that teacher's, any other the student's. A map shrinks by
    adaptive average pooling, as in the published comparison by Tian et al. (2020, arXiv
    1910.10699), and grows by bilinear interpolation. Unknown sizes are read at run time, and are
    taken to shrink the map.

    Raises PairError GT357, with nothing built, if a Value is not a map, UsageError GT248 for
    another size, otherwise as `conv1x1` does.
    """
    require_trainable_program("resize")
    value = _any_value(value)
    if isinstance(like, list | tuple):
        return _resize_to(value, _checked_size(cast("Sequence[object]", like)))
    like = _any_value(like)
    raise_pair_errors(_check_maps([value, like]))
    return _resize_to(value, _static_size(like), like)


@atomic
def resize_to_smaller(teacher: Paddle | str, student: Paddle | str) -> tuple[Paddle, Paddle]:
    """Bring two maps [N, C, H, W] to the smaller H and the smaller W, as `resize` shrinks a map.

    The larger map shrinks, on either side, so that no elements are made up, as in the comparison by
    Tian et al. (2020, arXiv 1910.10699). If a dim is unknown, the smaller is found at run time.

    Raises as `resize` does.
    """
    teacher, student = resolve("resize_to_smaller", {"teacher": teacher}, {"student": student})
    raise_pair_errors(_check_maps([teacher, student]))
    smaller = resized(shape_of(teacher), shape_of(student))[0][2:]
    if UNKNOWN_DIM not in smaller:
        return _resize_to(teacher, smaller), _resize_to(student, smaller)
    size = _minimum(_runtime_size(teacher), _runtime_size(student))
    pool = load_paddle().nn.functional.adaptive_avg_pool2d
    return pool(teacher, size), pool(student, size)


def _student_value(adapter: str, value: object) -> Paddle:
    require_trainable_program(adapter)
    return require_in_main_program(find_student(value, "value"), "value")


def _any_value(value: object) -> Paddle:
    found = find_any(value) if isinstance(value, str) else find_student(value, "value")
    return require_in_main_program(found, "value")


def _checked_size(given: Sequence[object]) -> Shape:
    size = tuple(side for side in given if isinstance(side, int) and side > 0)
    if len(size) != 2 or len(given) != 2:
        expected, example = "a map, or two positive numbers (H, W)", "resize(student, (7, 7))"
        raise UsageError(bad_argument("like", given, expected, example))
    return size


def _resize_to(value: Paddle, target: Shape, like: Paddle | None = None) -> Paddle:
    """Resize a map to a target H × W; if it is unknown, it is that of `like` at run time."""
    raise_pair_errors(_check_maps([value]))
    current = _static_size(value)
    if current == target and UNKNOWN_DIM not in target:
        return value
    size = list(target) if UNKNOWN_DIM not in target else _runtime_size(like)
    functional = load_paddle().nn.functional
    if any(UNKNOWN_DIM < old < new for old, new in zip(current, target, strict=True)):
        return functional.interpolate(value, size=size, mode="bilinear")
    return functional.adaptive_avg_pool2d(value, size)


def _static_size(value: Paddle) -> Shape:
    return shape_of(value)[2:]


def _runtime_size(value: Paddle) -> Paddle:
    """Return H and W as a Value of two integers."""
    return load_paddle().shape(value)[2:]


def _check_layer(value: Paddle, width: int, adapter: str) -> Iterator[Diagnostic]:
    if layer_axis(adapter, shape_of(value)) is None:
        yield misapplied(adapter, where_of(value, "student"), ADAPTER_INPUTS[adapter])
    if type(width) is not int or width < 1:
        wanted = f"a positive whole number, not {short_repr(width)}"
        yield misapplied(adapter, where_of(value, "student"), wanted)
    if not reaches_parameter(value):
        where = where_of(value, "student")
        yield misapplied(adapter, where, TRAINABLE_INPUT, help=ADAPTER_CALL)


def _check_maps(values: Sequence[Paddle]) -> Iterator[Diagnostic]:
    for value in values:
        if not is_map(shape_of(value)):
            yield misapplied("resize", where_of(value, "either"), ADAPTER_INPUTS["resize"])


def _minimum(a: Paddle, b: Paddle) -> Paddle:
    paddle = load_paddle()
    if not is_legacy(a):
        return paddle.minimum(a, b)
    # `paddle.minimum` of Paddle 3 accepts no Variables.
    return append_op("elementwise_min", {"X": a, "Y": b})


def _parameters(value: Paddle, shape: list[int], features: int, name: str) -> tuple[Paddle, Paddle]:
    """Create a weight and a bias in the current Programs."""
    static, initializer = load_paddle().static, load_paddle().nn.initializer
    weight, bias = _free_names(name)
    create, dtype = static.create_parameter, value.dtype
    return (
        create(shape, dtype, weight, default_initializer=initializer.XavierUniform()),
        create(
            [features], dtype, bias, is_bias=True, default_initializer=initializer.Constant(0.0)
        ),
    )


def _free_names(name: str) -> tuple[str, str]:
    """Return names for a weight and a bias that are free in the current Programs and Scopes."""
    stem = f"graphtool_adapter_{path_component(name)}"
    static = load_paddle().static
    programs = static.default_main_program(), static.default_startup_program()
    taken = frozenset(used for program in programs for used in _names(program))
    merged = merged_of(programs[0])
    scopes = [static.global_scope(), *([merged.scopes.student] if merged else ())]
    stems = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
    candidates = ((f"{one}.w", f"{one}.b") for one in stems)
    return next(
        names
        for names in candidates
        if taken.isdisjoint(names)
        and not any(scope.find_var(new) for scope in scopes for new in names)
    )


def _names(program: Paddle) -> Iterator[str]:
    """Yield the names of the Variables, parameters and feeds of a Program."""
    if is_legacy(program):
        for block in program.blocks:
            yield from block.vars
        return
    for op in program.global_block().ops:
        if attribute := _NAME_ATTRIBUTES.get(op.name()):
            yield op.str_attr(attribute)
