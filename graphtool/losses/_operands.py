"""The operands of a loss, found and checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, wraps
from inspect import signature
from math import gcd, isfinite
from numbers import Real
from typing import ParamSpec

from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.both import Both
from graphtool.checks.comparability import (
    are_comparable_dtypes,
    insufficient_count,
    unequal_axes,
    unknown_axes,
    wrong_rank_indices,
)
from graphtool.checks.layouts import class_axis, complete_class_axes, is_axis, moveaxis_order
from graphtool.checks.locations import format_shape
from graphtool.checks.pair_problems import (
    constant_loss,
    frozen_student,
    pair_dtype,
    pair_shape,
    unknown_class_axis,
    unknown_dim,
)
from graphtool.checks.softmax_inputs import ROLES_OF, probabilities, undeclared_probabilities
from graphtool.diagnostics import Diagnostic, PairError, Severity, UsageError, Where
from graphtool.dtypes import HALF_DTYPES
from graphtool.graph import UNKNOWN_DIM, Shape
from graphtool.loss_specs import OperandSpec, channel_axis, named_losses
from graphtool.losses import _ops as ops
from graphtool.losses import problems
from graphtool.losses._transaction import rollback_on_error
from graphtool.losses._values import (
    dtype_of,
    expression_for,
    find_all,
    find_student,
    find_teacher,
    origin_of,
    reaches_parameter,
    require_in_main_program,
    require_trainable_program,
    shape_of,
    source_logits,
    where_of,
)
from graphtool.text import string_literal

__all__ = [
    "Operand",
    "atomic",
    "check_dtypes",
    "check_l2_probabilities",
    "check_operands",
    "check_shapes",
    "class_operands",
    "in_float32",
    "loss_operands",
    "no_student_gradient",
    "prepare",
    "raise_pair_errors",
    "require_valid_options",
    "resolve",
    "takes_of",
]

_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """A Value that a loss compares, with the name of its argument."""

    value: Paddle
    argument: str

    @property
    def shape(self) -> Shape:
        """The shape of the Value."""
        return shape_of(self.value)

    @property
    def where(self) -> Where:
        """Where the Value is."""
        return where_of(self.value, self.argument)

    @property
    def expression(self) -> str:
        """Code for the Value in a call."""
        return expression_for(self.value, self.argument)


def _call(loss: str, operands: Iterable[Operand], *options: str) -> str:
    """Return the code of a call of a loss."""
    arguments = ", ".join((*(operand.expression for operand in operands), *options))
    return f"gt.losses.{loss}({arguments})"


def atomic(loss: Callable[_P, Paddle]) -> Callable[_P, Paddle]:
    """Make a loss build all or nothing, and ignore `paddle.amp.auto_cast`."""
    loss_signature = signature(loss)

    @wraps(loss)
    def build(*args: _P.args, **kwargs: _P.kwargs) -> Paddle:
        # Python itself raises for a call that does not match the signature.
        loss_signature.bind(*args, **kwargs)
        static = load_paddle().static
        programs = static.default_main_program(), static.default_startup_program()
        rollback = rollback_on_error(*programs)
        with raise_paddle_errors_as(PairError, loss.__name__), rollback, _without_auto_cast():
            return loss(*args, **kwargs)

    return build


def _without_auto_cast() -> AbstractContextManager[None]:
    paddle = load_paddle()
    # Legacy Programs are cast later, by `static.amp.decorate`.
    if is_legacy(paddle.static.default_main_program()):
        return nullcontext()
    return paddle.amp.auto_cast(enable=False)


def takes_of(loss: str, **options: object) -> OperandSpec:
    """Return what a loss that pairs can name takes with these options."""
    return named_losses()[loss].takes_with(options)


def loss_operands(
    loss: str,
    teacher: object,
    student: object,
    *,
    takes: OperandSpec | None = None,
    from_probs: str | None = None,
) -> Both[Paddle]:
    """Return both Values of a loss, checked and prepared; the teacher's is detached.

    `takes` is what a loss takes that pairs cannot name.

    Raises ReadError, UsageError and PairError, with nothing built: GT101, GT102, GT228,
    GT231, GT248, GT333, GT334, GT336, GT340, GT348, GT352.
    """
    values = Both(*resolve(loss, {"teacher": teacher}, {"student": student}))
    takes = takes_of(loss) if takes is None else takes
    raise_pair_errors(check_operands(loss, takes, *values, from_probs=from_probs))
    return Both(*prepare(*values))


def class_operands(
    loss: str, teacher: object, student: object, *, axis: object, from_probs: str | None
) -> Both[Paddle]:
    """Return `loss_operands` of a loss over classes, with the class axis moved to the end.

    If `axis` is None it is found from the layers of the networks that the Values belong to.

    Raises what `loss_operands` does, UsageError GT347, PairError GT336.
    """
    values = Both(*resolve(loss, {"teacher": teacher}, {"student": student}))
    resolved_axis = _class_axis(loss, axis, *values)
    if resolved_axis is None:
        operands = Operand(values.teacher, "teacher"), Operand(values.student, "student")
        call = _call(loss, operands, f"axis={channel_axis(len(shape_of(values.teacher)))}")
        raise PairError(unknown_class_axis(loss, [operand.where for operand in operands], call))
    raise_pair_errors(
        check_operands(loss, takes_of(loss), *values, from_probs=from_probs, axis=resolved_axis)
    )

    def classes_last(value: Paddle) -> Paddle:
        rank = len(shape_of(value))
        return ops.transpose(value, moveaxis_order(rank, resolved_axis, rank - 1))

    return Both(*prepare(*values)).map(classes_last)


def _class_axis(loss: str, axis: object, teacher: Paddle, student: Paddle) -> int | None:
    """Return the class axis of two Values, None if it would be a guess."""
    shapes = shape_of(teacher), shape_of(student)
    rank = len(shapes[0])
    if len(shapes[1]) != rank or rank < 2:
        return rank - 1  # the rank is refused later
    if axis is not None:
        if not is_axis(axis, rank):
            expected = f"the axis of the classes, from 1 to {rank - 1}, or None"
            raise UsageError(problems.bad_value(loss, "axis", axis, expected))
        return int(axis) % rank
    if rank == 2:
        return 1
    origins = origin_of(teacher), origin_of(student)
    axes = complete_class_axes(
        shapes, [None if one is None else class_axis(*one) for one in origins]
    )
    return axes[0] if axes[0] == axes[1] else None


def resolve(
    loss: str, teacher: Mapping[str, object], student: Mapping[str, object]
) -> list[Paddle]:
    """Find the Values of a loss by argument name, the teacher's first.

    Raises what `find_teacher`, `find_student` and `require_trainable_program` do, UsageError GT340.
    """

    def find_operand(find: Callable[[object, str], Paddle], given: object, argument: str) -> Paddle:
        return require_in_main_program(find(given, argument), argument)

    require_trainable_program(loss)
    return find_all(
        [
            partial(find_operand, find_teacher, given, argument)
            for argument, given in teacher.items()
        ]
        + [
            partial(find_operand, find_student, given, argument)
            for argument, given in student.items()
        ]
    )


def check_operands(
    loss: str,
    takes: OperandSpec,
    teacher: Paddle,
    student: Paddle,
    *,
    from_probs: str | None = None,
    axis: int = -1,
) -> Iterator[Diagnostic]:
    """Yield the problems of comparing two Values; `axis` is the class axis."""
    operands = Operand(teacher, "teacher"), Operand(student, "student")
    yield from check_shapes(loss, takes, operands, axis)
    yield from check_dtypes(loss, operands)
    if not reaches_parameter(student):
        yield no_student_gradient(loss, [teacher], [student])
    if takes.logits:
        yield from _check_probabilities(loss, operands, from_probs)


def _check_probabilities(
    loss: str, operands: tuple[Operand, Operand], from_probs: str | None
) -> Iterator[Diagnostic]:
    sources = [source_logits(operand.value) for operand in operands]
    found = {
        operand.where: source
        for operand, source in zip(operands, sources, strict=True)
        if source is not None
    }
    expressions = (
        operand.expression if source is None else string_literal(source.logits)
        for operand, source in zip(operands, sources, strict=True)
    )
    yield from undeclared_probabilities(
        loss,
        found,
        from_probs,
        lambda roles: _call(loss, operands, f'from_probs="{roles}"'),
        f"gt.losses.l2({', '.join(expressions)})",
    )


def check_l2_probabilities(teacher: Paddle, student: Paddle) -> Iterator[Diagnostic]:
    """Yield a warning if l2 compares class scores of which some went through softmax."""
    operands = Operand(teacher, "teacher"), Operand(student, "student")
    sources = [source_logits(operand.value) for operand in operands]
    softmaxes = [one if one is not None and one.function == "softmax" else None for one in sources]
    if any(softmaxes):
        pairs = list(zip(operands, softmaxes, strict=True))
        logits = [
            operand.expression if softmax is None else string_literal(softmax.logits)
            for operand, softmax in pairs
        ]
        where = [operand.where for operand, softmax in pairs if softmax]
        names = " and ".join(f"`{place.value}`" for place in where)
        yield probabilities(
            f"{names} {'hold' if len(where) > 1 else 'holds'} probabilities, and `l2` of them "
            "teaches next to nothing",
            severity=Severity.WARNING,
            where=where,
            help=f"gt.losses.kl({', '.join(logits)}, temperature=4.0)",
        )


def no_student_gradient(
    loss: str, teacher: Sequence[Paddle], student: Sequence[Paddle]
) -> Diagnostic:
    """Report that the student's side gets no gradient; if the teacher's does, they are swapped."""
    call = None
    if any(map(reaches_parameter, teacher)):
        swapped = [Operand(value, "teacher") for value in student]
        swapped += [Operand(value, "student") for value in teacher]
        call = _call(loss, swapped)
    return frozen_student(loss, where_of(student[0], "student"), call)


def check_shapes(
    loss: str, takes: OperandSpec, operands: tuple[Operand, Operand], axis: int = -1
) -> Iterator[Diagnostic]:
    """Yield the problems of the shapes of two operands.

    `axis` is where they have what `takes` describes as their last dim.
    """
    shapes = operands[0].shape, operands[1].shape
    where = [operand.where for operand in operands]
    wrong = wrong_rank_indices(takes, shapes)
    if wrong or (takes.equal_ranks and len(shapes[0]) != len(shapes[1])):
        found = " and ".join(format_shape(shapes[index]) for index in wrong or (0, 1))
        places = [where[index] for index in wrong or (0, 1)]
        message = f"`{loss}` wants {takes.ranks_text}, not {found}"
        yield pair_shape(message, places, f"help(gt.losses.{loss})")
        return
    if axes := unequal_axes(takes, *shapes):
        dims = f"{'dim' if len(axes) == 1 else 'dims'} {', '.join(map(str, axes))}"
        found = " and ".join(map(format_shape, shapes))
        message = f"`{loss}` wants {dims} to be equal, not {found}"
        yield pair_shape(message, where, _suggested_call(loss, takes, operands, axes))
    orders = [moveaxis_order(len(shape), axis % len(shape), len(shape) - 1) for shape in shapes]
    permuted = [tuple(shape[at] for at in o) for shape, o in zip(shapes, orders, strict=True)]
    count = insufficient_count(takes, permuted)
    if takes.least is not None and count is not None and not axes:
        call = _call("l2" if shapes[0] == shapes[1] else "similarity", operands)
        yield constant_loss(loss, where, takes.least, count, call)
    for operand, shape, order in zip(operands, permuted, orders, strict=True):
        for at in unknown_axes(takes, operand.argument, shape):
            yield unknown_dim(loss, operand.where, order[at])


def _suggested_call(
    loss: str, takes: OperandSpec, operands: tuple[Operand, Operand], axes: list[int]
) -> str:
    """Return the code of a call that can compare such shapes."""
    shape, student_shape = operands[0].shape, operands[1].shape
    teacher, student = operands[0].expression, operands[1].expression
    rank, adapters, call = len(shape), "gt.losses.adapters", f"gt.losses.{loss}"
    if takes.flows:
        # Channels are compared between the networks, sizes within each.
        if axes == [1]:
            return f"{adapters}.conv1x1({student}, {shape[1]})"
        return f"{adapters}.resize({teacher}, {student})"
    if loss == "attention_relation" and axes == [1]:
        return f"{call}({teacher}, {student}, heads={gcd(shape[1], student_shape[1])})"
    if takes.logits or takes.heads:
        return f"gt.losses.similarity({teacher}, {student})"
    if rank == 4 and axes == [1]:
        return f"{call}({teacher}, {adapters}.conv1x1({student}, {shape[1]}))"
    if rank == 4 and 1 not in axes:
        return f"{call}(*{adapters}.resize_to_smaller({teacher}, {student}))"
    if rank < 4 and axes == [rank - 1]:
        return f"{call}({teacher}, {adapters}.linear({student}, {shape[-1]}))"
    return f"gt.losses.similarity({teacher}, {student})"


def check_dtypes(loss: str, operands: Sequence[Operand]) -> Iterator[Diagnostic]:
    """Yield a problem if dtypes differ or are not floating-point."""
    dtypes = [dtype_of(operand.value) for operand in operands]
    if not are_comparable_dtypes(dtypes):
        yield pair_dtype(loss, [operand.where for operand in operands], dtypes)


def raise_pair_errors(found: Iterable[Diagnostic]) -> None:
    """Raise PairError with all problems, if there are any."""
    if errors := tuple(found):
        raise PairError(*errors)


def prepare(*values: Paddle) -> list[Paddle]:
    """Make checked Values ready to be compared; the first half of them is the teacher's.

    The teacher's are detached. Low precision becomes float32, as the sum over a map can overflow
    float16. If known batches differ, as for a teacher that was exported at another one, they are
    compared at run time.
    """
    half = len(values) // 2
    ready = [ops.detach(value) for value in values[:half]] + list(values[half:])
    ready = [in_float32(value) for value in ready]
    if len({shape_of(value)[0] for value in ready} - {UNKNOWN_DIM}) > 1:
        ready = [ops.with_dynamic_batch(value) for value in ready]
    return ready


def in_float32(value: Paddle) -> Paddle:
    """Return a Value of low precision in float32, any other unchanged."""
    return ops.cast(value, "float32") if dtype_of(value) in HALF_DTYPES else value


def require_valid_options(
    loss: str,
    *,
    positive: Mapping[str, object] | None = None,
    weights: Mapping[str, object] | None = None,
    from_probs: object = None,
) -> None:
    """Refuse options that are meaningless in the formula of a loss, all of them at once.

    `positive` are numbers above 0, `weights` non-negative numbers that are not all 0; all are
    finite.

    Raises UsageError GT347.
    """
    found = [
        *_check_numbers(loss, positive or {}, "a finite number above 0", lambda given: given > 0),
        *_check_numbers(
            loss, weights or {}, "a finite number of 0 or more", lambda given: given >= 0
        ),
    ]
    if weights and not found and not any(weights.values()):
        expected = f"a weight above 0 here or for `{list(weights)[-1]}`"
        found.append(problems.bad_value(loss, next(iter(weights)), 0, expected))
    # Comparing a PIR Value would build an operator.
    if not (from_probs is None or isinstance(from_probs, str)) or from_probs not in ROLES_OF:
        expected = '"teacher", "student", "both" or None'
        found.append(problems.bad_value(loss, "from_probs", from_probs, expected))
    if found:
        raise UsageError(*found)


def _check_numbers(
    loss: str, options: Mapping[str, object], expected: str, is_valid: Callable[[float], bool]
) -> Iterator[Diagnostic]:
    for option, given in options.items():
        number = float(given) if not isinstance(given, bool) and isinstance(given, Real) else None
        if number is None or not isfinite(number) or not is_valid(number):
            yield problems.bad_value(loss, option, given, expected)
