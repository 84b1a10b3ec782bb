"""Values of the current main Program: how they are found, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from numbers import Real

from graphtool.arguments import bad_argument
from graphtool.backend.facts import dtype_name
from graphtool.backend.legacy import read_legacy
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir import contains_value, read_pir
from graphtool.backend.problems import not_static
from graphtool.checks import fits
from graphtool.checks.networks import already_minimized
from graphtool.checks.pairs import class_axis
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, UsageError, Where, listed
from graphtool.loss_specs import LossSpec
from graphtool.merging import Merged, merged_of
from graphtool.merging.merged import value_of, wrong_program
from graphtool.ops import Probabilities, is_training_type, kind_of_type, logits_of
from graphtool.selectors import ambiguous_name, is_unknown_name
from graphtool.text import string_literal

__all__ = [
    "as_number",
    "dtype_of",
    "expression_for",
    "find_all",
    "find_any",
    "find_student",
    "find_teacher",
    "is_in_main_program",
    "is_value",
    "operand_of",
    "reaches_parameter",
    "require_in_main_program",
    "require_trainable_program",
    "shape_of",
    "where_of",
]

_EXAMPLE = 'gt.losses.l2("teacher_relu_4", "relu_2")'


def require_trainable_program(loss: str) -> None:
    """Refuse to build a loss in dynamic mode, or after the Program was minimized.

    Raises UsageError: GT352, GT231.
    """
    paddle = load_paddle()
    if paddle.in_dynamic_mode():
        raise UsageError(not_static(loss))
    for op in paddle.static.default_main_program().global_block().ops:
        operator = op.type if is_legacy(op) else op.name()
        if is_training_type(operator):
            raise UsageError(
                already_minimized(
                    f"`{loss}` would never train: the Program already has "
                    f"`{operator.rpartition('.')[2]}`",
                    help="gt.minimize(optimizer, task_loss + distillation_loss)",
                )
            )


def require_in_main_program(value: Paddle, argument: str) -> Paddle:
    """Return a Value of the current main Program.

    Raises UsageError GT340 for any other.
    """
    if not is_in_main_program(value):
        message = f"`{argument}` is not a Value at the top level of the current main Program"
        where = (Where(role=argument),)
        side = next((side for side in ("teacher", "student") if argument.startswith(side)), None)
        if side and merged_of(load_paddle().static.default_main_program()) is not None:
            raise UsageError(wrong_program(message, where, help=f'merged.{side}("relu_22")'))
        raise UsageError(wrong_program(message, where))
    return value


def is_in_main_program(value: Paddle) -> bool:
    """Return whether a Value is at the top level of the current main Program."""
    program = load_paddle().static.default_main_program()
    if is_legacy(value):
        return is_legacy(program) and program.global_block().vars.get(value.name) is value
    return contains_value(program, value)


def is_value(given: object) -> bool:
    """Return whether an object is a PIR Value or a legacy Variable; dynamic tensors are neither."""
    paddle = load_paddle()
    value: type | None = getattr(paddle.pir, "Value", None)
    types: tuple[type, ...] = (paddle.static.Variable,)
    return isinstance(given, types if value is None else (*types, value))


def find_all(finders: Iterable[Callable[[], Paddle]]) -> list[Paddle]:
    """Find several Values, or raise the problems of all of them at once."""
    values: list[Paddle] = []
    errors: list[GraphtoolError] = []
    for find in finders:
        try:
            values.append(find())
        except GraphtoolError as error:  # noqa: PERF203  # problems of the others are reported too
            errors.append(error)
    if errors:
        raise type(errors[0])(*(found for error in errors for found in error.report))
    return values


def find_teacher(given: object, argument: str = "teacher") -> Paddle:
    """Return a Value itself, or a teacher's by its name with or without the prefix.

    Raises UsageError: GT248, GT340. Raises ReadError: GT101, GT102, GT031.
    """
    if isinstance(given, str):
        return _find_in_teachers(given, _merges(given))
    return _require_value(given, argument)


def find_student(given: object, argument: str = "student") -> Paddle:
    """Return a Value itself, or the student's by its name.

    Raises UsageError: GT248, GT340. Raises ReadError: GT101, GT102, GT031.
    """
    if isinstance(given, str):
        return _merges(given)[0].student(given)
    return _require_value(given, argument)


def find_any(name: str) -> Paddle:
    """Return a Value by its name: a teacher's if it has the prefix, else the student's.

    Raises what `find_teacher` and `find_student` do.
    """
    merges = _merges(name)
    return value_of(name, merges, merges[0].student)


def _require_value(given: object, argument: str) -> Paddle:
    if not is_value(given):
        raise UsageError(bad_argument(argument, given, "a Value or its name", _EXAMPLE))
    return given


def _merges(name: str) -> tuple[Merged, ...]:
    merged = merged_of(load_paddle().static.default_main_program())
    if merged is None:
        message = f"`{name}` is a name, and nothing was merged into the current main Program"
        raise UsageError(wrong_program(message))
    return merged.teachers


def _find_in_teachers(name: str, merges: tuple[Merged, ...]) -> Paddle:
    """Select the teacher by the longest matching prefix, else the only one that has the name."""
    if len(merges) == 1:
        return merges[0].teacher(name)
    matching = [merged for merged in merges if name.startswith(merged.prefix)]
    if matching:
        return max(matching, key=lambda merged: len(merged.prefix)).teacher(name)
    having: list[Merged] = []
    unknown: list[Diagnostic] = []
    for merged in merges:
        try:
            merged.teacher_name(name)
            having.append(merged)
        except ReadError as error:  # noqa: PERF203  # all teachers are asked
            if is_unknown_name(error):
                unknown += error.report.errors
            else:
                having.append(merged)
    if not having:
        raise ReadError(*unknown)
    if len(having) > 1:
        prefixes = [merged.prefix for merged in having]
        raise ReadError(
            ambiguous_name(
                f"`{name}` has no teacher's prefix, and {len(prefixes)} teachers have it",
                notes=(f"their prefixes are {listed(prefixes, len(prefixes))}",),
                help=string_literal(f"{prefixes[0]}{name}"),
            )
        )
    return having[0].teacher(name)


def as_number(given: object) -> float | None:
    """Return a finite number as a float, None for anything else."""
    if isinstance(given, bool) or not isinstance(given, Real):
        return None
    try:
        number = float(given)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def shape_of(value: Paddle) -> tuple[int, ...]:
    """Return the shape of a Value, with -1 for unknown dims."""
    return tuple(value.shape)


def dtype_of(value: Paddle) -> str:
    """Return the name of the dtype: `float32`."""
    return dtype_name(value.dtype)


def where_of(value: Paddle, role: str) -> Where:
    """Return where a Value is, by its name in the current Program."""
    return Where(role=role, value=_name(value), shape=shape_of(value))


def expression_for(value: Paddle, argument: str) -> str:
    """Return code for a Value in a call: the name that finds it, else that of its argument."""
    name = _name(value)
    try:
        found = find_teacher(name) if argument.startswith("teacher") else find_student(name)
    except GraphtoolError:
        return argument
    is_same = found is value if is_legacy(value) else found.id == value.id
    return string_literal(name) if is_same else argument


def _name(value: Paddle) -> str:
    """Return a name that finds a Value: the teacher's with its prefix, or the student's."""
    if is_legacy(value):
        return value.name
    program = load_paddle().static.default_main_program()
    walk = read_pir(program)
    name, merged = walk.names[value.id], merged_of(program)
    for teacher in merged.teachers if merged else ():
        for teacher_name, key in teacher.joined.keys.items():
            if key == walk.keys[name]:
                return f"{teacher.prefix}{teacher_name}"
    return name


def operand_of(
    value: Paddle, argument: str, spec: LossSpec, *, has_axis: bool, named: bool
) -> fits.Operand:
    """Return what decides whether a loss can compare a Value.

    Its name is left out unless `named`, and its class axis if the call `has_axis`.
    """
    shape, axis, logits = shape_of(value), None, None
    other = "student" if argument.startswith("teacher") else "teacher"
    if spec.needs_class_axis and not has_axis:
        axis = 1 if len(shape) == 2 else _class_axis(value)
    if spec.takes.logits or spec.takes.prefers_logits:
        found = logits_of(value, _producer)
        logits = found and Probabilities(found.function, _name(found.logits))
    return fits.Operand(
        where=where_of(value, argument) if named else Where(role=argument, shape=shape),
        code=expression_for(value, argument) if named else argument,
        swapped_code=expression_for(value, other) if named else other,
        shape=shape,
        dtype=dtype_of(value),
        axis=axis,
        is_trainable=reaches_parameter(value),
        logits=logits,
    )


def _class_axis(value: Paddle) -> int | None:
    """Return the class axis, as the network says that a Value was merged from.

    For a Value that was built after the merge it is the current Program; None if nothing was merged
    into it.
    """
    program = load_paddle().static.default_main_program()
    merged = merged_of(program)
    if merged is None:
        return None
    walk = None if is_legacy(value) else read_pir(program)
    name = value.name if walk is None else walk.names[value.id]
    for teacher in merged.teachers:
        for teacher_name, merged_name in teacher.values.items():
            if merged_name == name:
                return class_axis(teacher.source.graph, teacher_name)
    student = merged.teachers[0].before.graph
    if name in student.values:
        return class_axis(student, name)
    return class_axis(read_legacy(program) if walk is None else walk.graph, name)


def _producer(value: Paddle) -> tuple[str, Paddle] | None:
    """Return the kind of operator that produces a Value, and its first operand."""
    if is_legacy(value):
        return _variable_producer(value)
    op = value.get_defining_op()
    if op is None or not op.num_operands():
        return None
    return kind_of_type(op.name()), op.operand_source(0)


def _variable_producer(variable: Paddle) -> tuple[str, Paddle] | None:
    block = variable.block
    producers = (op for op in reversed(block.ops) if variable.name in op.output_arg_names)
    op = next(producers, None)
    if op is None:
        return None
    operands = (op.input(slot) for slot in ("X", "Logits") if slot in op.input_names)
    source = block.vars.get(next((names[0] for names in operands if names), None))
    return None if source is None else (kind_of_type(op.type), source)


def reaches_parameter(value: Paddle) -> bool:
    """Return whether the gradient of a Value reaches a trainable parameter or a feed.

    Paddle marks what stops a gradient, not what is computed from frozen parameters only.
    """
    if is_legacy(value):
        return fits.reaches_parameter(value, _variable_gradient_sources(value.block), id)
    return fits.reaches_parameter(value, _gradient_sources, lambda one: one.id)


def _gradient_sources(value: Paddle) -> Sequence[Paddle] | None:
    """Return the operands that a Value's gradient flows to, None if it is trainable itself."""
    op = value.get_defining_op()
    if value.stop_gradient:
        return ()
    if op is None or op.num_regions() or op.name() == "pd_op.data":
        return None
    if op.name() == "builtin.parameter":
        return None if value.trainable else ()
    if not fits.passes_gradient(kind_of_type(op.name()), _tensor_dtype(value)):
        return ()
    return [source for source in op.operands_source() if source.initialized()]


def _variable_gradient_sources(block: Paddle) -> Callable[[Paddle], Sequence[Paddle] | None]:
    """Return `_gradient_sources` for the Variables of a Block."""
    producers = {name: op for op in block.ops for name in op.output_arg_names}

    def gradient_sources(variable: Paddle) -> Sequence[Paddle] | None:
        op = producers.get(variable.name)
        if variable.stop_gradient:
            return ()
        if op is None:
            return None if getattr(variable, "trainable", True) else ()
        if not fits.passes_gradient(kind_of_type(op.type), _tensor_dtype(variable)):
            return ()
        operands = (block.vars.get(name) for name in op.input_arg_names)
        return [source for source in operands if source is not None]

    return gradient_sources


def _tensor_dtype(value: Paddle) -> str | None:
    """Return the name of a dtype, None for a vector of tensors, which has none."""
    try:
        return dtype_of(value)
    except (AttributeError, TypeError, ValueError):
        return None
