"""Build losses into Programs: find, check and prepare operands, and build all or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import signature
from itertools import takewhile
from typing import ParamSpec, cast

from graphtool.arguments import short_repr
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.generators import restore_counters_on
from graphtool.backend.joining import BlockSnapshot
from graphtool.backend.legacy import ProgramSnapshot
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir import remove_unused
from graphtool.both import Both
from graphtool.checks.fits import ROLES_OF, Fit, LossUse, fit, is_axis, moveaxis_order
from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    Severity,
    UsageError,
    documented,
    warn,
)
from graphtool.graph import UNKNOWN_DIM, Shape, shapes_agree
from graphtool.interrupts import raise_pending_interrupt
from graphtool.loss_specs import LossSpec, Option, spec_of
from graphtool.losses import _ops as ops
from graphtool.losses._values import (
    CurrentProgram,
    as_number,
    dtype_of,
    is_in_main_program,
    is_value,
    shape_of,
)

__all__ = [
    "SCOPE",
    "bad_option",
    "bad_value",
    "building",
    "custom",
    "loss",
    "name_scope",
    "path_component",
    "rollback_on_error",
]

_P = ParamSpec("_P")
_LABEL_DTYPES = frozenset({"int32", "int64"})
SCOPE = "graphtool_distill"


def path_component(name: str) -> str:
    """Replace the characters that Paddle does not accept in a component of a path."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


@contextmanager
def building(call: str) -> Generator[None]:
    """Build into the current Programs all or nothing, and ignore `paddle.amp.auto_cast`.

    Raises PairError GT258 for what Paddle raises in a call of that name.
    """
    paddle = load_paddle()
    main, startup = paddle.static.default_main_program(), paddle.static.default_startup_program()
    with ExitStack() as stack:
        stack.enter_context(raise_paddle_errors_as(PairError, call))
        stack.enter_context(rollback_on_error(main, startup))
        # Legacy Programs are cast later, by `static.amp.decorate`.
        if not is_legacy(main):
            stack.enter_context(paddle.amp.auto_cast(enable=False))
        yield


@contextmanager
def rollback_on_error(*programs: Paddle) -> Generator[None]:
    """Remove what was built into the Programs if building ends in an error."""
    with ExitStack() as rollback:
        for program in programs:
            restore_counters_on(program, rollback)
            if is_legacy(program):
                rollback.callback(ProgramSnapshot.of(program).restore, program)
                continue
            rollback.callback(_remove_added, program, BlockSnapshot.of(program))
            # It registers the names of parameters apart from its operations, and a registered
            # parameter gets no initial value again.
            registered = load_paddle().static.Program()
            registered.set_parameters_from(program)
            rollback.callback(program.set_parameters_from, registered)
        yield
        raise_pending_interrupt()
        rollback.pop_all()


def _remove_added(program: Paddle, extent: BlockSnapshot) -> None:
    block = program.global_block()
    remove_unused(block, [op for op in block.ops if op.id() not in extent.ids])


@contextmanager
def name_scope(program: Paddle, part: str) -> Generator[None]:
    """Put what is built in this context under `/graphtool_distill/<part>/`.

    That is the `op_namescope` of legacy operators, and the module path of PIR operations, for which
    `paddle.static.name_scope` does nothing.
    """
    raise_pending_interrupt()
    if is_legacy(program):
        with load_paddle().static.name_scope(path_component(part)):
            yield
        return
    ops = program.global_block().ops
    last = ops[-1] if ops else None
    yield
    # New operations come after the last; new parameters do not, and must not get the attribute:
    # they could not be saved.
    for op in takewhile(lambda op: op != last, reversed(program.global_block().ops)):
        if op.name() != "builtin.parameter":
            op.set_str_attr("struct_name", f"/{SCOPE}/{path_component(part)}/")


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
    operands = [key for key in given if key not in options]
    teachers = [key for key in operands if key.startswith("teacher")]
    students = [key for key in operands if key not in teachers]
    values_too = [key for key in options if spec.options[key] in (Option.LABELS, Option.MASK)]
    extra = [key for key in values_too if given[key] is not None]
    program, axis = CurrentProgram(name), options.get("axis")
    wanted = [("teacher" if key in teachers else "student", key) for key in (*operands, *extra)]
    found = program.find_all((role, given[key], key) for role, key in wanted)
    values = dict(zip((*operands, *extra), found, strict=True))
    student = shape_of(values[students[0]])
    if axis is not None:
        _require_axis(name, axis, shape_of(values[teachers[0]]), student)

    def fitted(*, named: bool) -> Fit:
        facts = {
            key: program.operand(values[key], key, spec, has_axis=axis is not None, named=named)
            for key in operands
        }
        ends = zip(teachers, students, strict=True)
        pairs = [Both(facts[one], facts[other]) for one, other in ends]
        return fit(LossUse(name=name, spec=spec, options=options, is_call=True), pairs)

    result = fitted(named=False)
    if result.diagnostics:  # to find names takes a walk of the Program
        result = fitted(named=True)
    errors = [one for one in result.diagnostics if one.severity is Severity.ERROR]
    errors += _check_extra(program, spec, {key: values[key] for key in extra}, student)
    if errors:
        raise PairError(*errors)
    for warning in result.diagnostics:
        warn(warning)
    values |= {key: ops.detach(values[key]) for key in teachers}
    compared = {key: ops.in_float32(values[key]) for key in operands}
    from_probs = cast("str | None", options.get("from_probs"))
    axes = result.alignments[0].axes if spec.needs_class_axis else ()
    return values | _aligned(compared, axes, ROLES_OF[from_probs])


def _require_axis(name: str, axis: object, teacher: Shape, student: Shape) -> None:
    rank = len(student)
    if 2 <= rank == len(teacher) and not is_axis(axis, rank):
        expected = f"the axis of the classes, from 1 to {rank - 1}, or None"
        raise UsageError(bad_value(name, "axis", axis, expected))


def _aligned(
    values: dict[str, Paddle], axes: Iterable[int | None], probabilities: Iterable[str]
) -> dict[str, Paddle]:
    """Return operands with one batch and with their classes last, as logits."""
    # A teacher that was exported at another batch is compared at run time.
    if len({shape_of(value)[0] for value in values.values()} - {UNKNOWN_DIM}) > 1:
        values = {key: ops.with_dynamic_batch(value) for key, value in values.items()}
    for role, axis in zip(("teacher", "student"), axes, strict=False):
        if axis is not None:
            rank = len(shape_of(values[role]))
            values[role] = ops.transpose(values[role], moveaxis_order(rank, axis, rank - 1))
    return values | {role: ops.log_probability(values[role]) for role in probabilities}


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


def _check_extra(
    program: CurrentProgram,
    spec: LossSpec,
    extra: Mapping[str, Paddle],
    student: Shape,
) -> Iterator[Diagnostic]:
    """Yield labels that are not one class number per sample, and masks that are not [N, L]."""
    batch = student[:1]
    for name, value in extra.items():
        shape = shape_of(value)
        if spec.options[name] is Option.LABELS:
            is_column = len(shape) in (1, 2) and shape[1:] in ((), (1,))
            fits = dtype_of(value) in _LABEL_DTYPES and is_column and shapes_agree(shape[:1], batch)
            expected = [] if fits else [f"int64 {list(batch)}, a class number per sample"]
            example = 'labels=paddle.static.data("label", [-1], "int64")'
            fix = f"gt.losses.dkd(teacher, student, {example})"
        else:
            wanted = [(*batch, *student[axis : axis + 1]) for axis in spec.token_axes]
            expected = [
                f"{list(tokens)}: a number, or bool, per token"
                for tokens in wanted
                if not shapes_agree(shape, tokens)
            ]
            tokens = shape[1] if len(shape) > 1 else -1
            fix = f'{name}=paddle.static.data("mask", [-1, {tokens}])'
        for one in expected:
            message = f"`{name}` is {dtype_of(value)} {list(shape)}; wanted {one}"
            yield bad_labels(message, program.where(value, name), help=fix)


def custom(function: Callable[..., Paddle], /, **inputs: object) -> Paddle:
    """Return the loss that a function computes from Values: the tutorial's `loss(function, ...)`.

    Each string in `inputs` names a Value: a teacher's if it has that teacher's prefix, else the
    student's. Everything else is passed on unchanged. The function may take Values of any shape.
    Teachers are frozen by the merge.

        gt.losses.custom(lambda t, s: paddle.abs(t - s).mean(), t="teacher_relu_4", s="relu_2")

    Raises UsageError, with nothing built: GT231, GT340, GT352, and GT353 if the function
    does not return a Value. Raises ReadError: GT101, GT102, GT031. What the function itself
    raises is passed on, after a rollback of what it had built.
    """
    program = CurrentProgram("custom")
    named = {key: one for key, one in inputs.items() if isinstance(one, str) or is_value(one)}
    values = program.find_all(("either", given, argument) for argument, given in named.items())
    startup = load_paddle().static.default_startup_program()
    with rollback_on_error(program.program, startup):
        result = function(**{**inputs, **dict(zip(named, values, strict=True))})
        if not is_value(result) or not is_in_main_program(result):
            name = getattr(function, "__name__", type(function).__name__)
            message = f"`{name}` returned a `{type(result).__name__}`; wanted the Value of a loss"
            example = "lambda t, s: ((t - s) ** 2).mean(), t=teacher, s=student"
            raise UsageError(custom_result(message, help=f"gt.losses.custom({example})"))
    return result


@documented("GT353")
def custom_result() -> None:
    """The function given to `custom` did not return a Value of the current main Program.

    It gets Values by keyword, and returns the loss that it computes from them with Paddle's
    operators.
    """


@documented("GT346")
def bad_labels() -> None:
    """Labels or a mask do not fit the Values that they belong to.

    Labels are class numbers: int32 or int64, one per sample, [N] or [N, 1]. Convert one-hot labels
    with `paddle.argmax(labels, axis=-1)`. A mask is [N, L]: one number, or bool, per token.
    """


@documented("GT347", replaces=("GT360", "GT361", "GT362", "GT364", "GT366"))
def bad_option() -> None:
    """An option or a weight has a wrong value, or belongs to no part of the loss.

    `options` are keyed by the name of a loss or of a part (`soft_label`); `help(gt.losses.kl)`
    and so on say which a loss takes. `weights` is a list with one weight for each pair, or a
    mapping from the name of a part (`l2_relu_22`), the rank of a pair (3) or its kind
    (`stage`).

    A weight is a number of 0 or more, not all of them 0, or a scalar Value of the Program, []
    or [1], which may change in training. The two pairs of an `fsp` loss have the same weight.
    """


def bad_value(loss: str, option: str, given: object, expected: str) -> Diagnostic:
    """Report the value of an option that the formula of a loss does not allow."""
    message = f"`{option}` of `{loss}` is `{short_repr(given)}`; wanted {expected}"
    return bad_option(message, help=f"help(gt.losses.{loss})")
