"""Diagnostics about a loss before it is built: GT340 to GT347, GT350 to GT353, GT369."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.arguments import short_repr
from graphtool.checks.locations import format_shape
from graphtool.diagnostics import Diagnostic, Severity, Where, rule
from graphtool.text import string_literal

__all__ = [
    "after_minimize",
    "bad_labels",
    "bad_option",
    "custom_result",
    "foreign_value",
    "l2_of_probabilities",
    "loss_dtype",
    "loss_rank",
    "loss_shape",
    "no_merged_program",
    "no_value",
    "not_static",
    "which_teacher",
]

_GUARD = "with paddle.static.program_guard(merged.program, startup):"


@rule("GT340")
def no_merged_program(name: str) -> Diagnostic:
    """A loss was given a name, and the current main Program has no teacher merged into it.

    Names are looked up in the Program that `gt.merge` returned: build losses inside its
    `program_guard`. For a legacy Program on Paddle 3 that is inside `paddle.pir_utils.OldIrGuard()`
    too. Paddle's own Values need no merge.
    """
    return Diagnostic(
        message=f"`{name}` is a name, and nothing was merged into the current main Program",
        help=_GUARD,
    )


@rule("GT341")
def foreign_value(argument: str, where: Where, *, merged: bool) -> Diagnostic:
    """A loss was given a Value that is not at the top level of the current main Program.

    Under PIR, a loss over a Value of another Program, of its clone or from inside of a branch or
    loop is built without a word and crashes, or gives nothing, later. Build losses inside the
    `program_guard` of the merged Program, on Values that `merged.teacher(name)` and
    `merged.student(name)` return, for a legacy Program on Paddle 3 inside of
    `paddle.pir_utils.OldIrGuard()`.
    """
    side = next((side for side in ("teacher", "student") if argument.startswith(side)), None)
    return Diagnostic(
        message=f"`{argument}` is no Value at the top level of the current main Program",
        where=(where,),
        help=f'merged.{side}("relu_22")' if merged and side else _GUARD,
    )


@rule("GT342")
def after_minimize(loss: str, operator: str) -> Diagnostic:
    """A loss is built into a Program that has gradients or an optimizer already.

    They were made for what was there before: the loss would be computed and never train anything.
    Build all losses, then minimize their sum once.
    """
    return Diagnostic(
        message=f"`{loss}` would never train: the Program has `{operator}` already",
        help="gt.minimize(optimizer, task_loss + distillation_loss)",
    )


@rule("GT343")
def loss_rank(
    loss: str, ranks: tuple[int, int | None] | None, wrong: Sequence[Where]
) -> Diagnostic:
    """The Values have a number of dims that this loss is not defined for, or not the same number.

    `help(gt.losses.l2)`, and so on, says which shapes a loss takes. A map becomes a vector by
    pooling (`paddle.nn.functional.adaptive_avg_pool2d`), tokens become a map by a reshape.
    """
    expected = "as many dims on both sides" if ranks is None else _format_ranks(*ranks)
    shapes = " and ".join(format_shape(place.shape) for place in wrong)
    return Diagnostic(
        message=f"`{loss}` wants {expected}, not {shapes}",
        where=tuple(wrong),
        help=f"help(gt.losses.{loss})",
    )


def _format_ranks(lowest: int, highest: int | None) -> str:
    if lowest == highest:
        return f"{lowest} dims"
    return f"{lowest} or more dims" if highest is None else f"{lowest} to {highest} dims"


@rule("GT344")
def loss_shape(loss: str, where: tuple[Where, Where], axes: Sequence[int], help: str) -> Diagnostic:
    """The Values differ in dims that this loss compares one to one.

    Where one of the two dims is 1 Paddle would stretch it in silence, and the loss would be a
    number that means nothing. The batch is not looked at, and dims that are not known yet are
    compared in each run, which stops with both shapes where they differ.
    """
    differ = ", ".join(map(str, axes))
    axis = f"dim {differ}" if len(axes) == 1 else f"dims {differ}"
    return Diagnostic(
        message=f"`{loss}` compares {axis} one to one, and has "
        f"{format_shape(where[0].shape)} and {format_shape(where[1].shape)}",
        where=where,
        help=help,
    )


@rule("GT345")
def loss_dtype(loss: str, where: Sequence[Where], dtypes: Sequence[str]) -> Diagnostic:
    """The Values of a loss are no floating-point numbers, or of two dtypes.

    Cast one of them. What is float16 or bfloat16 is computed in float32, beside float32 too.
    """
    return Diagnostic(
        message=f"`{loss}` wants floating-point Values of one dtype, not {' and '.join(dtypes)}",
        where=tuple(where),
        help='paddle.cast(value, "float32")',
    )


@rule("GT346")
def bad_labels(argument: str, where: Where, found: str, expected: str) -> Diagnostic:
    """Labels or a mask don't go with the Values that they belong to.

    Labels are class numbers: int32 or int64, one per sample, [N] or [N, 1]. One-hot labels become
    that by `paddle.argmax(labels, axis=-1)`. A mask is [N, L]: one number, or bool, per token.
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


@rule("GT347")
def bad_option(loss: str, option: str, given: object, expected: str) -> Diagnostic:
    """An option of a loss has a value that its formula has no meaning for; nothing was built."""
    return Diagnostic(
        message=f"`{option}` of `{loss}` is `{short_repr(given)}`; wanted {expected}",
        help=f"help(gt.losses.{loss})",
    )


@rule("GT369")
def l2_of_probabilities(where: Sequence[Where], logits: Sequence[str]) -> Diagnostic:
    """The l2 loss was given what went through softmax: it is built, and teaches next to nothing.

    Squared differences of probabilities are small, and where a network is sure their gradient all
    but vanishes. Compare logits, by `kl` or `soft_label` with a temperature.
    """
    listed = " and ".join(f"`{place.value}`" for place in where)
    return Diagnostic(
        message=f"{listed} {'hold' if len(where) > 1 else 'holds'} probabilities, which `l2` "
        "hardly tells apart",
        severity=Severity.WARNING,
        where=tuple(where),
        help=f"gt.losses.kl({', '.join(logits)}, temperature=4.0)",
    )


@rule("GT350")
def no_value(argument: str, given: object, expected: str = "a Value or its name") -> Diagnostic:
    """A loss was given something that is neither a Value of a Program nor a name.

    Tensors of dynamic mode and numpy arrays are no part of a Program: feed them.
    """
    return Diagnostic(
        message=f"`{argument}` is of type `{type(given).__name__}`; wanted {expected}",
        help='gt.losses.l2("teacher_relu_4", "relu_2")',
    )


@rule("GT351")
def which_teacher(name: str, prefixes: Sequence[str]) -> Diagnostic:
    """Several teachers of the Program have a Value of a name, which doesn't say which is meant.

    Put the prefix that was given to `gt.merge` before the teacher's own name.
    """
    return Diagnostic(
        message=f"`{name}` has no teacher's prefix, and {len(prefixes)} teachers have it",
        notes=(f"their prefixes are {', '.join(f'`{prefix}`' for prefix in prefixes)}",),
        help=string_literal(f"{prefixes[0]}{name}"),
    )


@rule("GT352")
def not_static(loss: str) -> Diagnostic:
    """A loss is built into a Program, which takes Paddle's static mode."""
    return Diagnostic(message=f"`{loss}` was called in dynamic mode", help="paddle.enable_static()")


@rule("GT353")
def custom_result(function: str, given: object) -> Diagnostic:
    """The function given to `custom` returned no Value of the current main Program.

    It gets Values by keyword and returns the loss: a Value that Paddle's operators made of them.
    """
    return Diagnostic(
        message=f"`{function}` returned a `{type(given).__name__}`; wanted the Value of a loss",
        help="gt.losses.custom(lambda t, s: ((t - s) ** 2).mean(), t=teacher, s=student)",
    )
