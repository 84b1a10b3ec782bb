"""A loss of one's own: custom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from graphtool.diagnostics import UsageError
from graphtool.losses import problems
from graphtool.losses._building import all_or_nothing
from graphtool.losses._values import (
    belongs,
    gathered,
    is_value,
    of_either,
    own,
    require_trainable_program,
)
from graphtool.readers._paddle import load_paddle

__all__ = ["custom"]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def custom(function: Callable[..., _Paddle], /, **inputs: object) -> _Paddle:
    """Return what a function of one's own makes of Values: the tutorial's `loss(function, ...)`.

    Each text among `inputs` is a name: with a teacher's prefix it is that teacher's Value, else the
    student's. All else is handed on as it is, numbers too. Shapes are the function's own matter;
    teachers are frozen by the merge.

        gt.losses.custom(lambda t, s: paddle.abs(t - s).mean(), t="teacher_relu_4", s="relu_2")

    Raises UsageError, with nothing built: GT340, GT341, GT342, GT352, and GT353 where the function
    returns no Value. Raises ReadError: GT101, GT102, GT031, GT351. What the function raises comes
    through, with what it had built taken out again.
    """
    require_trainable_program("custom")
    values = gathered(partial(_value, argument, given) for argument, given in inputs.items())
    paddle = load_paddle()
    with all_or_nothing(
        paddle.static.default_main_program(), paddle.static.default_startup_program()
    ):
        result = function(**dict(zip(inputs, values, strict=True)))
        if not is_value(result) or not belongs(result):
            name = getattr(function, "__name__", type(function).__name__)
            raise UsageError(problems.custom_result(name, result))
    return result


def _value(argument: str, given: object) -> _Paddle:
    if isinstance(given, str):
        return of_either(given)
    return own(given, argument) if is_value(given) else given
