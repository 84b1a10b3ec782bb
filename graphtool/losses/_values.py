"""The current main Program: how Values are found in it, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import isfinite
from numbers import Real

from graphtool.arguments import bad_argument
from graphtool.backend.errors import not_static
from graphtool.backend.facts import dtype_name
from graphtool.backend.legacy import read_legacy
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir import PirWalk, contains_value, read_pir
from graphtool.checks import fits
from graphtool.checks.networks import already_minimized
from graphtool.checks.pairs import class_axis
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, UsageError, Where, listed
from graphtool.loss_specs import LossSpec
from graphtool.merging import Merged, merged_of
from graphtool.merging.merged import value_of, wrong_program
from graphtool.ops import PIR_FEEDS, Probabilities, is_training_type, kind_of_type, logits_of
from graphtool.selectors import ambiguous_name, is_unknown_name
from graphtool.text import string_literal

__all__ = ["CurrentProgram", "as_number", "dtype_of", "is_in_main_program", "is_value", "shape_of"]

_EXAMPLE = 'gt.losses.l2("teacher_relu_4", "relu_2")'


class CurrentProgram:
    """The current main Program as one call finds it, with the merges into it."""

    def __init__(self, call: str) -> None:
        """Refuse dynamic mode, and a Program that was minimized.

        Raises UsageError: GT352, GT231.
        """
        paddle = load_paddle()
        if paddle.in_dynamic_mode():
            raise UsageError(not_static(call))
        self.program = paddle.static.default_main_program()
        for op in self.program.global_block().ops:
            operator = _type_of(op)
            if is_training_type(operator):
                has = f"the Program already has `{operator.rpartition('.')[2]}`"
                fix = "gt.minimize(optimizer, task_loss + distillation_loss)"
                raise UsageError(already_minimized(f"`{call}` would never train: {has}", help=fix))
        self._merged = merged_of(self.program)

    def find(self, role: str, given: object, argument: str) -> Paddle:
        """Return a Value itself, or by its name.

        A teacher's name may lack the prefix if the role is `teacher`; if it is `either`, only names
        with a prefix are a teacher's.

        Raises UsageError: GT248, GT340. Raises ReadError: GT101, GT102, GT031.
        """
        if not isinstance(given, str):
            if not is_value(given):
                raise UsageError(bad_argument(argument, given, "a Value or its name", _EXAMPLE))
            return self._require(given, argument)
        if self._merged is None:
            message = f"`{given}` is a name, and nothing was merged into the current main Program"
            raise UsageError(wrong_program(message))
        merges = self._merged.teachers
        if role == "teacher":
            found = _find_in_teachers(given, merges)
        elif role == "student":
            found = merges[0].student(given)
        else:
            found = value_of(given, merges, merges[0].student)
        return self._require(found, argument)

    def find_all(self, wanted: Iterable[tuple[str, object, str]]) -> list[Paddle]:
        """Find Values by role, name and argument, or raise the problems of all of them at once."""
        values: list[Paddle] = []
        errors: list[GraphtoolError] = []
        for role, given, argument in wanted:
            try:
                values.append(self.find(role, given, argument))
            except GraphtoolError as error:  # noqa: PERF203  # problems of the others are reported
                errors.append(error)
        if errors:
            raise type(errors[0])(*(found for error in errors for found in error.report))
        return values

    def _require(self, value: Paddle, argument: str) -> Paddle:
        if is_in_main_program(value):
            return value
        message = f"`{argument}` is not a Value at the top level of the current main Program"
        where = (Where(role=argument),)
        side = next((side for side in ("teacher", "student") if argument.startswith(side)), None)
        if side and self._merged is not None:
            raise UsageError(wrong_program(message, where, help=f'merged.{side}("relu_22")'))
        raise UsageError(wrong_program(message, where))

    @cached_property
    def _walk(self) -> PirWalk:
        return read_pir(self.program)

    def _origin(self, value: Paddle) -> tuple[Merged | None, str]:
        """Return the teacher that a Value came with and its name there, else None and its name."""
        name = value.name if is_legacy(value) else self._walk.names[value.id]
        key = name if is_legacy(value) else self._walk.keys[name]
        for teacher in self._merged.teachers if self._merged else ():
            joined = teacher.joined.keys or teacher.joined.names
            for teacher_name, teacher_key in joined.items():
                if teacher_key == key:
                    return teacher, teacher_name
        return None, name

    def name(self, value: Paddle) -> str:
        """Return a name that finds a Value: the teacher's with its prefix, or the student's."""
        if is_legacy(value):
            return value.name
        teacher, name = self._origin(value)
        return f"{teacher.prefix}{name}" if teacher else name

    def where(self, value: Paddle, role: str) -> Where:
        """Return where a Value is, by its name."""
        return Where(role=role, value=self.name(value), shape=shape_of(value))

    def _code(self, value: Paddle, argument: str) -> str:
        """Return code for a Value in a call: the name that finds it, else that of its argument."""
        name, role = self.name(value), "teacher" if argument.startswith("teacher") else "student"
        try:
            found = self.find(role, name, argument)
        except GraphtoolError:
            return argument
        return string_literal(name) if _key(found) == _key(value) else argument

    def operand(
        self, value: Paddle, argument: str, spec: LossSpec, *, has_axis: bool, named: bool
    ) -> fits.Operand:
        """Return what decides whether a loss can compare a Value.

        Its name, for which the Program is read, is left out unless `named`, and its class axis if
        the call `has_axis`.
        """
        shape, axis, logits = shape_of(value), None, None
        other = "student" if argument.startswith("teacher") else "teacher"
        if spec.needs_class_axis and not has_axis:
            axis = 1 if len(shape) == 2 else self._class_axis(value)
        if spec.takes.logits or spec.takes.prefers_logits:
            found = logits_of(value, self._source)
            logits = found and Probabilities(found.function, self.name(found.logits))
        op = self._producer(value)
        return fits.Operand(
            where=self.where(value, argument) if named else Where(role=argument, shape=shape),
            code=self._code(value, argument) if named else argument,
            swapped_code=self._code(value, other) if named else other,
            shape=shape,
            dtype=dtype_of(value),
            axis=axis,
            is_trainable=self.reaches_parameter(value),
            is_feed=bool(value.is_data if is_legacy(value) else _type_of(op) in PIR_FEEDS),
            logits=logits,
        )

    def _class_axis(self, value: Paddle) -> int | None:
        """Return the class axis, as the network says that a Value was merged from.

        For a Value that was built after the merge it is the current Program; None if nothing was
        merged into it.
        """
        if self._merged is None:
            return None
        teacher, name = self._origin(value)
        graph = teacher.source.graph if teacher else self._merged.teachers[0].before.graph
        if name not in graph.values:
            graph = read_legacy(self.program) if is_legacy(value) else self._walk.graph
        return class_axis(graph, name)

    @cached_property
    def _legacy_producers(self) -> Mapping[str, Paddle]:
        ops = self.program.global_block().ops
        return {name: op for op in ops for name in op.output_arg_names}

    def _producer(self, value: Paddle) -> Paddle | None:
        if is_legacy(value):
            return self._legacy_producers.get(value.name)
        return value.get_defining_op()

    def _operands(self, op: Paddle) -> list[Paddle]:
        if not is_legacy(op):
            return [source for source in op.operands_source() if source.initialized()]
        names = [
            name for slot in ("X", "Logits") if slot in op.input_names for name in op.input(slot)
        ]
        variables = self.program.global_block().vars
        return [variables[name] for name in (*names, *op.input_arg_names) if name in variables]

    def _source(self, value: Paddle) -> tuple[str, Paddle] | None:
        """Return the kind of operator that produces a Value, and its first operand."""
        op = self._producer(value)
        operands = [] if op is None else self._operands(op)
        return (kind_of_type(_type_of(op)), operands[0]) if operands else None

    def reaches_parameter(self, value: Paddle) -> bool:
        """Return whether the gradient of a Value reaches a trainable parameter or a feed.

        Paddle marks what stops a gradient, not what is computed from frozen parameters only.
        """
        return fits.reaches_parameter(value, self._gradient_sources, _key)

    def _gradient_sources(self, value: Paddle) -> Sequence[Paddle] | None:
        """Return the operands that a Value's gradient flows to, None if it is trainable itself."""
        if value.stop_gradient:
            return ()
        op = self._producer(value)
        if op is None or _type_of(op) == "builtin.parameter":
            return None if getattr(value, "trainable", True) else ()
        if not is_legacy(op) and (op.num_regions() or _type_of(op) in PIR_FEEDS):
            return None
        try:
            dtype = dtype_of(value)
        except (AttributeError, TypeError, ValueError):
            dtype = None  # a vector of tensors has none
        return self._operands(op) if fits.passes_gradient(kind_of_type(_type_of(op)), dtype) else ()


def _type_of(op: Paddle) -> str:
    return op.type if is_legacy(op) else op.name()


def _key(value: Paddle) -> str:
    return value.name if is_legacy(value) else value.id


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


def _find_in_teachers(name: str, merges: tuple[Merged, ...]) -> Paddle:
    """Select the teacher by the longest matching prefix, else the only one that has the name."""
    matching = [merged for merged in merges if name.startswith(merged.prefix)]
    if len(merges) == 1 or matching:
        return max(matching or merges, key=lambda merged: len(merged.prefix)).teacher(name)
    having: list[Merged] = []
    unknown: list[Diagnostic] = []
    for merged in merges:
        try:
            merged.teacher_name(name)
            having.append(merged)
        except ReadError as error:  # noqa: PERF203  # all teachers are asked
            if not is_unknown_name(error):
                having.append(merged)
            unknown += error.report.errors
    if not having:
        raise ReadError(*unknown)
    if len(having) == 1:
        return having[0].teacher(name)
    prefixes = [merged.prefix for merged in having]
    raise ReadError(
        ambiguous_name(
            f"`{name}` has no teacher's prefix, and {len(prefixes)} teachers have it",
            notes=(f"their prefixes are {listed(prefixes, len(prefixes))}",),
            help=string_literal(f"{prefixes[0]}{name}"),
        )
    )


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
