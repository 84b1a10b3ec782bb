"""Make losses of formulas: their operands are found, checked and prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from inspect import signature
from typing import ParamSpec, cast

from graphtool.arguments import short_repr
from graphtool.backend.paddle import Paddle
from graphtool.both import Both
from graphtool.checks.fits import ROLES_OF, Fit, LossUse, fit, is_axis, moveaxis_order
from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    Severity,
    UsageError,
    Where,
    documented,
    rule,
    warn,
)
from graphtool.dtypes import HALF_DTYPES
from graphtool.graph import UNKNOWN_DIM, shapes_agree
from graphtool.loss_specs import LossSpec, Option, spec_of
from graphtool.losses import _ops as ops
from graphtool.losses._building import building
from graphtool.losses._values import (
    as_number,
    dtype_of,
    find_all,
    find_student,
    find_teacher,
    operand_of,
    require_in_main_program,
    require_trainable_program,
    shape_of,
    where_of,
)

__all__ = ["bad_option", "bad_value", "find_operands", "in_float32", "loss"]

_P = ParamSpec("_P")

_LABEL_DTYPES = frozenset({"int32", "int64"})


def loss(formula: Callable[_P, Paddle]) -> Callable[_P, Paddle]:
    """Make a loss of a formula, which gets Values that it can compare as they are.

    `graphtool.loss_specs` says under the formula's name what it takes. The loss takes names too,
    checks everything before it builds anything, and builds all or nothing. Teachers are detached,
    low precision is float32; a loss over classes gets logits, with the classes last.
    """
    name, spec, parameters = formula.__name__, spec_of(formula.__name__), signature(formula)

    @wraps(formula)
    def build(*args: _P.args, **kwargs: _P.kwargs) -> Paddle:
        # Python itself raises for a call that does not match the signature.
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()
        with building(name):
            bound.arguments.update(_prepare(name, spec, bound.arguments))
            return cast("Callable[..., Paddle]", formula)(*bound.args, **bound.kwargs)

    return build


def _prepare(name: str, spec: LossSpec, given: Mapping[str, object]) -> dict[str, Paddle]:
    """Return the Values of a loss by argument, or raise all that is wrong with them."""
    options = {option: given[option] for option in spec.options}
    if wrong := tuple(_check_options(name, spec, options)):
        raise UsageError(*wrong)
    operands = {key: one for key, one in given.items() if key not in options}
    of_teacher = {key: one for key, one in operands.items() if key.startswith("teacher")}
    of_student = {key: one for key, one in operands.items() if key not in of_teacher}
    extra = {
        option: given[option]
        for option, kind in spec.options.items()
        if kind in (Option.LABELS, Option.MASK) and given[option] is not None
    }
    values = find_operands(name, of_teacher, {**of_student, **extra})
    teachers, students = ([values[key] for key in side] for side in (of_teacher, of_student))
    axis = options.get("axis")
    if axis is not None:
        _require_axis(name, axis, teachers[0], students[0])
    use = LossUse(name=name, spec=spec, options=options, is_call=True)

    def fitted(*, named: bool) -> Fit:
        facts = {
            key: operand_of(values[key], key, spec, has_axis=axis is not None, named=named)
            for key in (*of_teacher, *of_student)
        }
        return fit(
            use,
            [
                Both(facts[teacher], facts[student])
                for teacher, student in zip(of_teacher, of_student, strict=True)
            ],
        )

    found = fitted(named=False)
    if found.diagnostics:  # to find names takes a walk of the Program
        found = fitted(named=True)
    errors = [one for one in found.diagnostics if one.severity is Severity.ERROR]
    errors += _check_extra(spec, {key: values[key] for key in extra}, students[0])
    if errors:
        raise PairError(*errors)
    for warning in found.diagnostics:
        warn(warning)
    ready = [ops.detach(value) for value in teachers] + students
    ready = [in_float32(value) for value in ready]
    # A teacher that was exported at another batch is compared at run time.
    if len({shape_of(value)[0] for value in ready} - {UNKNOWN_DIM}) > 1:
        ready = [ops.with_dynamic_batch(value) for value in ready]
    values.update(zip((*of_teacher, *of_student), ready, strict=True))
    if spec.needs_class_axis:
        axes = found.alignments[0].axes
        values.update(teacher=_classes_last(values["teacher"], axes.teacher))
        values.update(student=_classes_last(values["student"], axes.student))
    for role in ROLES_OF[cast("str | None", options.get("from_probs"))]:
        values[role] = ops.log_probability(values[role])
    return values


def _classes_last(value: Paddle, axis: int | None) -> Paddle:
    rank = len(shape_of(value))
    return value if axis is None else ops.transpose(value, moveaxis_order(rank, axis, rank - 1))


def find_operands(
    loss: str, teacher: Mapping[str, object], student: Mapping[str, object]
) -> dict[str, Paddle]:
    """Find the Values of a loss by argument name.

    Raises what `find_teacher`, `find_student` and `require_trainable_program` do, UsageError GT340.
    """

    def find_operand(find: Callable[[object, str], Paddle], given: object, argument: str) -> Paddle:
        return require_in_main_program(find(given, argument), argument)

    require_trainable_program(loss)
    finders = [(find_teacher, name, given) for name, given in teacher.items()]
    finders += [(find_student, name, given) for name, given in student.items()]
    found = find_all([partial(find_operand, find, given, name) for find, name, given in finders])
    return dict(zip((*teacher, *student), found, strict=True))


def in_float32(value: Paddle) -> Paddle:
    """Return a Value of low precision in float32, any other unchanged.

    The sum over a map can overflow float16.
    """
    return ops.cast(value, "float32") if dtype_of(value) in HALF_DTYPES else value


def _check_options(
    loss: str, spec: LossSpec, options: Mapping[str, object]
) -> Iterator[Diagnostic]:
    """Yield options that are meaningless in the formula of a loss."""
    weights: dict[str, float] = {}
    for option, kind in spec.options.items():
        given = options[option]
        number = as_number(given)
        is_valid = True
        if kind is Option.POSITIVE or (kind is Option.POSITIVE_OR_NONE and given is not None):
            is_valid = number is not None and number > 0
        elif kind is Option.WEIGHT:
            is_valid = number is not None and number >= 0
            weights[option] = number or 0.0 if is_valid else 1.0
        elif kind is Option.FROM_PROBS:
            # Comparing a PIR Value would build an operator.
            is_valid = given is None or (isinstance(given, str) and given in ROLES_OF)
        elif kind is Option.BY:
            is_valid = isinstance(given, str) and given in ("squares", "divergence")
        if not is_valid:
            yield bad_value(loss, option, given, kind.value)
    if weights and not any(weights.values()):
        expected = f"a weight above 0 here or for `{list(weights)[-1]}`"
        yield bad_value(loss, next(iter(weights)), 0, expected)


def _require_axis(loss: str, axis: object, teacher: Paddle, student: Paddle) -> None:
    rank = len(shape_of(teacher))
    if 2 <= rank == len(shape_of(student)) and not is_axis(axis, rank):
        expected = f"the axis of the classes, from 1 to {rank - 1}, or None"
        raise UsageError(bad_value(loss, "axis", axis, expected))


def _check_extra(
    spec: LossSpec, extra: Mapping[str, Paddle], student: Paddle
) -> Iterator[Diagnostic]:
    """Yield labels that are not one class number per sample, and masks that are not [N, L]."""
    batch = shape_of(student)[:1]
    for name, value in extra.items():
        shape, dtype = shape_of(value), dtype_of(value)
        if spec.options[name] is Option.LABELS:
            is_column = len(shape) in (1, 2) and shape[1:] in ((), (1,))
            if dtype not in _LABEL_DTYPES or not is_column or not shapes_agree(shape[:1], batch):
                expected = f"int64 {list(batch)}, a class number per sample"
                yield bad_labels(name, where_of(value, name), f"{dtype} {list(shape)}", expected)
            continue
        for axis in spec.token_axes:
            tokens = (*batch, *shape_of(student)[axis : axis + 1])
            if not shapes_agree(shape, tokens):
                expected = f"{list(tokens)}: a number, or bool, per token"
                yield bad_labels(name, where_of(value, name), f"{dtype} {list(shape)}", expected)


@rule("GT346")
def bad_labels(argument: str, where: Where, found: str, expected: str) -> Diagnostic:
    """Labels or a mask do not fit the Values that they belong to.

    Labels are class numbers: int32 or int64, one per sample, [N] or [N, 1]. Convert one-hot labels
    with `paddle.argmax(labels, axis=-1)`. A mask is [N, L]: one number, or bool, per token.
    """
    tokens = where.shape[1] if where.shape and len(where.shape) > 1 else -1
    return Diagnostic(
        message=f"`{argument}` is {found}; wanted {expected}",
        where=(where,),
        help='gt.losses.dkd(teacher, student, labels=paddle.static.data("label", [-1], "int64"))'
        if argument == "labels"
        else f'{argument}=paddle.static.data("mask", [-1, {tokens}])',
    )


@documented("GT347", replaces=("GT360", "GT361", "GT362", "GT364", "GT366"))
def bad_option() -> None:
    """An option or a weight has a wrong value, or belongs to no part of the loss.

    `options` are keyed by the name of a loss or of a part (`soft_label`); `help(gt.losses.kl)` and
    so on say which options a loss takes. `weights` is a list with one weight for each pair, or a
    mapping from the name of a part (`l2_relu_22`), the rank of a pair (3) or its kind (`stage`).

    A weight is a number of 0 or more, not all of them 0, or a scalar Value of the Program, [] or
    [1], which may change in training. The two pairs of an `fsp` loss have the same weight.
    """


def bad_value(loss: str, option: str, given: object, expected: str) -> Diagnostic:
    """Report the value of an option that the formula of a loss does not allow."""
    message = f"`{option}` of `{loss}` is `{short_repr(given)}`; wanted {expected}"
    return bad_option(message, help=f"help(gt.losses.{loss})")
