"""Adapters: bring a student's Value to the teacher's channels, width or size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import cast

from graphtool.arguments import bad_argument, short_repr
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.checks.adapters import (
    ADAPTER_CALL,
    ADAPTER_INPUTS,
    TRAINABLE_INPUT,
    Adapter,
    is_map,
    layer_axis,
    misapplied,
    parse_adapter,
    resized,
)
from graphtool.diagnostics import PairError, UsageError
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.losses import _ops as ops
from graphtool.losses._building import building, path_component
from graphtool.losses._operands import find_operands, in_float32
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
    with building("conv1x1"):
        value = in_float32(_adaptable(value, channels, "conv1x1"))
        shape = [channels, shape_of(value)[1], 1, 1]
        return load_paddle().nn.functional.conv2d(value, *_parameters(value, shape, channels, name))


def linear(value: Paddle | str, features: int, *, name: str = "linear") -> Paddle:
    """Bring a student's vectors [N, C] or tokens [N, L, C] to `features` by a layer with bias.

    A map [N, C, 1, 1] is flattened to vectors. Everything else is as for `conv1x1`. TinyBERT learns
    such a layer for a narrower student (Jiao et al. 2020, arXiv 1909.10351).

    Raises as `conv1x1` does; GT357 if the last dim is unknown.
    """
    with building("linear"):
        vectors = in_float32(ops.as_vectors(_adaptable(value, features, "linear")))
        shape = [shape_of(vectors)[-1], features]
        parameters = _parameters(vectors, shape, features, name)
        return load_paddle().nn.functional.linear(vectors, *parameters)


def resize(value: Paddle | str, like: Paddle | str | Sequence[int]) -> Paddle:
    """Bring a map [N, C, H, W] to the H × W of another map, or to `(H, W)`.

    A name with a teacher's prefix is that teacher's, any other the student's. A map shrinks by
    adaptive average pooling, as in the published comparison by Tian et al. (2020, arXiv
    1910.10699), and grows by bilinear interpolation. Unknown sizes are read at run time, and are
    taken to shrink the map.

    Raises PairError GT357, with nothing built, if a Value is not a map, UsageError GT248 for
    another size, otherwise as `conv1x1` does.
    """
    with building("resize"):
        require_trainable_program("resize")
        value = _any_value(value)
        if isinstance(like, list | tuple):
            sides = tuple(cast("Sequence[int]", like))
            if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
                expected = "a map, or two positive numbers (H, W)"
                raise UsageError(bad_argument("like", sides, expected, "resize(student, (7, 7))"))
            return _resize_to(value, sides)
        like = _any_value(like)
        _require_maps(value, like)
        return _resize_to(value, shape_of(like)[2:], like)


def resize_to_smaller(teacher: Paddle | str, student: Paddle | str) -> tuple[Paddle, Paddle]:
    """Bring two maps [N, C, H, W] to the smaller H and the smaller W, as `resize` shrinks a map.

    The larger map shrinks, on either side, so that no elements are made up, as in the comparison by
    Tian et al. (2020, arXiv 1910.10699). If a dim is unknown, the smaller is found at run time.

    Raises as `resize` does.
    """
    with building("resize_to_smaller"):
        maps = find_operands("resize_to_smaller", {"teacher": teacher}, {"student": student})
        teacher, student = maps.values()
        _require_maps(teacher, student)
        smaller = resized(shape_of(teacher), shape_of(student))[0][2:]
        if UNKNOWN_DIM not in smaller:
            return _resize_to(teacher, smaller), _resize_to(student, smaller)
        size = ops.minimum(_runtime_size(teacher), _runtime_size(student))
        pool = load_paddle().nn.functional.adaptive_avg_pool2d
        return pool(teacher, size), pool(student, size)


def _adaptable(value: object, width: int, adapter: str) -> Paddle:
    """Return the student's Value that a layer of some width can be built on."""
    require_trainable_program(adapter)
    value = require_in_main_program(find_student(value, "value"), "value")
    unfit: list[str] = []
    if layer_axis(adapter, shape_of(value)) is None:
        unfit.append(ADAPTER_INPUTS[adapter])
    if type(width) is not int or width < 1:
        unfit.append(f"a positive whole number, not {short_repr(width)}")
    found = [misapplied(adapter, where_of(value, "student"), wanted) for wanted in unfit]
    if not reaches_parameter(value):
        where = where_of(value, "student")
        found.append(misapplied(adapter, where, TRAINABLE_INPUT, help=ADAPTER_CALL))
    if found:
        raise PairError(*found)
    return value


def _any_value(value: object) -> Paddle:
    found = find_any(value) if isinstance(value, str) else find_student(value, "value")
    return require_in_main_program(found, "value")


def _resize_to(value: Paddle, target: Shape, like: Paddle | None = None) -> Paddle:
    """Resize a map to a target H × W; if it is unknown, it is that of `like` at run time."""
    _require_maps(value)
    current = shape_of(value)[2:]
    if current == target and UNKNOWN_DIM not in target:
        return value
    size = list(target) if UNKNOWN_DIM not in target else _runtime_size(like)
    functional = load_paddle().nn.functional
    if any(UNKNOWN_DIM < old < new for old, new in zip(current, target, strict=True)):
        return functional.interpolate(value, size=size, mode="bilinear")
    return functional.adaptive_avg_pool2d(value, size)


def _runtime_size(value: Paddle) -> Paddle:
    """Return H and W as a Value of two integers."""
    return load_paddle().shape(value)[2:]


def _require_maps(*values: Paddle) -> None:
    no_maps = [where_of(value, "either") for value in values if not is_map(shape_of(value))]
    if no_maps:
        raise PairError(*(misapplied("resize", one, ADAPTER_INPUTS["resize"]) for one in no_maps))


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
    scopes = [static.global_scope(), *([merged.scope] if merged else ())]
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
