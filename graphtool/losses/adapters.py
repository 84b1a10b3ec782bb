"""Adapters: bring a student's Value to the teacher's channels, width or size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import cast

from graphtool.arguments import bad_argument, short_repr
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.checks.adapters import (
    ADAPTER_INPUTS,
    Adapter,
    frozen_input,
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
from graphtool.losses._values import CurrentProgram, shape_of
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
        value = ops.in_float32(_adaptable(value, channels, "conv1x1"))
        shape = [channels, shape_of(value)[1], 1, 1]
        return load_paddle().nn.functional.conv2d(value, *_parameters(value, shape, channels, name))


def linear(value: Paddle | str, features: int, *, name: str = "linear") -> Paddle:
    """Bring a student's vectors [N, C] or tokens [N, L, C] to `features` by a layer with bias.

    A map [N, C, 1, 1] is flattened to vectors. Everything else is as for `conv1x1`. TinyBERT learns
    such a layer for a narrower student (Jiao et al. 2020, arXiv 1909.10351).

    Raises as `conv1x1` does; GT357 if the last dim is unknown.
    """
    with building("linear"):
        vectors = ops.in_float32(ops.as_vectors(_adaptable(value, features, "linear")))
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
        program = CurrentProgram("resize")
        value = program.find("either", value, "value")
        if isinstance(like, list | tuple):
            sides = tuple(cast("Sequence[int]", like))
            if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
                expected = "a map, or two positive numbers (H, W)"
                raise UsageError(bad_argument("like", sides, expected, "resize(student, (7, 7))"))
            _require_maps(program, value)
            return _resize_to(value, sides)
        like = program.find("either", like, "value")
        _require_maps(program, value, like)
        return _resize_to(value, shape_of(like)[2:], like)


def resize_to_smaller(teacher: Paddle | str, student: Paddle | str) -> tuple[Paddle, Paddle]:
    """Bring two maps [N, C, H, W] to the smaller H and the smaller W, as `resize` shrinks a map.

    The larger map shrinks, on either side, so that no elements are made up, as in the comparison by
    Tian et al. (2020, arXiv 1910.10699). If a dim is unknown, the smaller is found at run time.

    Raises as `resize` does.
    """
    with building("resize_to_smaller"):
        program = CurrentProgram("resize_to_smaller")
        wanted = ("teacher", teacher, "teacher"), ("student", student, "student")
        teacher, student = program.find_all(wanted)
        _require_maps(program, teacher, student)
        smaller = resized(shape_of(teacher), shape_of(student))[0][2:]
        if UNKNOWN_DIM not in smaller:
            return _resize_to(teacher, smaller), _resize_to(student, smaller)
        size = ops.minimum(_runtime_size(teacher), _runtime_size(student))
        pool = load_paddle().nn.functional.adaptive_avg_pool2d
        return pool(teacher, size), pool(student, size)


def _adaptable(value: object, width: int, adapter: str) -> Paddle:
    """Return the student's Value that a layer of some width can be built on."""
    program = CurrentProgram(adapter)
    value = program.find("student", value, "value")
    unfit: list[str] = []
    if layer_axis(adapter, shape_of(value)) is None:
        unfit.append(ADAPTER_INPUTS[adapter])
    if type(width) is not int or width < 1:
        unfit.append(f"a positive whole number, not {short_repr(width)}")
    reaches_parameter = program.reaches_parameter(value)
    if unfit or not reaches_parameter:
        where = program.where(value, "student")
        found = [misapplied(adapter, where, wanted) for wanted in unfit]
        raise PairError(*found, *([] if reaches_parameter else [frozen_input(adapter, where)]))
    return value


def _resize_to(value: Paddle, target: Shape, like: Paddle | None = None) -> Paddle:
    """Resize a map to a target H × W; if it is unknown, it is that of `like` at run time."""
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


def _require_maps(program: CurrentProgram, *values: Paddle) -> None:
    no_maps = [program.where(value, "either") for value in values if not is_map(shape_of(value))]
    if no_maps:
        raise PairError(*(misapplied("resize", one, ADAPTER_INPUTS["resize"]) for one in no_maps))


def _parameters(value: Paddle, shape: list[int], features: int, name: str) -> tuple[Paddle, Paddle]:
    """Create a weight and a bias, under names that are free in the current Programs and Scopes."""
    static, initializer = load_paddle().static, load_paddle().nn.initializer
    programs = static.default_main_program(), static.default_startup_program()
    taken = frozenset(used for program in programs for used in _names(program))
    merged = merged_of(programs[0])
    scopes = [static.global_scope(), *([merged.scope] if merged else ())]

    def is_free(name: str) -> bool:
        return name not in taken and not any(scope.find_var(name) for scope in scopes)

    stem = f"graphtool_adapter_{path_component(name)}"
    stems = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
    stem = next(one for one in stems if is_free(f"{one}.w") and is_free(f"{one}.b"))
    create, xavier = static.create_parameter, initializer.XavierUniform()
    zero = initializer.Constant(0.0)
    return (
        create(shape, value.dtype, f"{stem}.w", default_initializer=xavier),
        create([features], value.dtype, f"{stem}.b", is_bias=True, default_initializer=zero),
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
