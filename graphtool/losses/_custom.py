"""User-defined losses: custom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.diagnostics import UsageError
from graphtool.losses import problems
from graphtool.losses._transaction import rollback_on_error
from graphtool.losses._values import (
    find_all,
    find_any,
    is_in_main_program,
    is_value,
    require_in_main_program,
    require_trainable_program,
)

__all__ = ["custom"]


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
    require_trainable_program("custom")
    values = find_all(partial(_resolve_input, name, given) for name, given in inputs.items())
    paddle = load_paddle()
    with rollback_on_error(
        paddle.static.default_main_program(), paddle.static.default_startup_program()
    ):
        result = function(**dict(zip(inputs, values, strict=True)))
        if not is_value(result) or not is_in_main_program(result):
            name = getattr(function, "__name__", type(function).__name__)
            raise UsageError(problems.custom_result(name, result))
    return result


def _resolve_input(argument: str, given: object) -> Paddle:
    if isinstance(given, str):
        return find_any(given)
    return require_in_main_program(given, argument) if is_value(given) else given
