"""Diagnostics about a loss before it is built."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.arguments import short_repr
from graphtool.diagnostics import Diagnostic, Where, rule

__all__ = [
    "bad_labels",
    "bad_option",
    "bad_value",
    "custom_result",
]


@rule("GT346")
def bad_labels(argument: str, where: Where, found: str, expected: str) -> Diagnostic:
    """Labels or a mask do not fit the Values that they belong to.

    Labels are class numbers: int32 or int64, one per sample, [N] or [N, 1]. Convert one-hot labels
    with `paddle.argmax(labels, axis=-1)`. A mask is [N, L]: one number, or bool, per token.
    """
    return Diagnostic(
        message=f"`{argument}` is {found}; wanted {expected}",
        where=(where,),
        help='gt.losses.dkd(teacher, student, labels=paddle.static.data("label", [-1], "int64"))'
        if argument == "labels"
        else f'{argument}=paddle.static.data("mask", [-1, {_token_count(where)}])',
    )


def _token_count(where: Where) -> int:
    return where.shape[1] if where.shape and len(where.shape) > 1 else -1


@rule("GT347", replaces=("GT360", "GT361", "GT362", "GT364", "GT366"))
def bad_option(message: str, *, notes: Sequence[str] = (), help: str | None = None) -> Diagnostic:
    """An option or a weight has a wrong value, or belongs to no part of the loss.

    `options` are keyed by the name of a loss or of a part (`soft_label`); `help(gt.losses.kl)` and
    so on say which options a loss takes. `weights` is a list with one weight for each pair, or a
    mapping from the name of a part (`l2_relu_22`), the rank of a pair (3) or its kind (`stage`).

    A weight is a number of 0 or more, not all of them 0, or a scalar Value of the Program, [] or
    [1], which may change in training. The two pairs of an `fsp` loss have the same weight.
    """
    return Diagnostic(message=message, notes=tuple(notes), help=help)


def bad_value(loss: str, option: str, given: object, expected: str) -> Diagnostic:
    """Report the value of an option that the formula of a loss does not allow."""
    message = f"`{option}` of `{loss}` is `{short_repr(given)}`; wanted {expected}"
    return bad_option(message, help=f"help(gt.losses.{loss})")


@rule("GT353")
def custom_result(function: str, given: object) -> Diagnostic:
    """The function given to `custom` did not return a Value of the current main Program.

    It gets Values by keyword, and returns the loss that it computes from them with Paddle's
    operators.
    """
    return Diagnostic(
        message=f"`{function}` returned a `{type(given).__name__}`; wanted the Value of a loss",
        help="gt.losses.custom(lambda t, s: ((t - s) ** 2).mean(), t=teacher, s=student)",
    )
