"""What can be wrong with Paddle, or with a live Program."""

from __future__ import annotations

from graphtool.diagnostics import Diagnostic, Where, rule

__all__ = ["foreign_operand", "no_paddle", "not_opened", "value_gone"]


@rule("GT030")
def no_paddle(reason: str) -> Diagnostic:
    """Paddle cannot be imported.

    Saved models (`.json`, `.pdmodel`) are read without Paddle; a `module:callable` and a live
    Program need it. Install paddlepaddle or paddlepaddle-gpu, 2.6.2 or newer.
    """
    return Diagnostic(
        message=f"`import paddle` fails: {reason}",
        notes=("paddlepaddle-gpu works as well",),
        help="pip install paddlepaddle",
    )


@rule("GT031")
def value_gone(program: str, name: str) -> Diagnostic:
    """The Value was removed from the Program after the Program was read.

    Read the Program again to get its current names.
    """
    return Diagnostic(
        message=f"`{name}` was removed from the Program after it was read",
        where=(Where(program=program, value=name),),
        help="gt.read(program)",
    )


@rule("GT032", replaces=("GT049",))
def not_opened(
    program: str,
    reason: str,
    *,
    message: str = "Paddle cannot translate this Program to PIR",
    help: str | None = None,
) -> Diagnostic:
    """Paddle cannot open this saved model, or cannot translate this legacy Program to PIR.

    The note is Paddle's own message. A model that does not open is damaged, or was written by
    another release of Paddle; graphtool can still read, check and draw it.

    Paddle cannot translate the gradient of a while loop and operators that PIR lacks; Paddle 2.6
    translates nothing. Merge the Program into a legacy student, or build it from the network's
    code.
    """
    return Diagnostic(message=message, where=(Where(program=program),), notes=(reason,), help=help)


@rule("GT050")
def foreign_operand(operator: str, source: str | None) -> Diagnostic:
    """An operator reads a Value of another Program.

    Operators are added to the default main Program, whichever Program their operands are in. Paddle
    does not check this, and crashes when one of the two Programs is freed. Build the Program again,
    and compute with each Value inside the `program_guard` of its own Program.
    """
    return Diagnostic(
        message=f"`{operator}` reads a Value of another Program",
        where=(Where(program="<Program>", value=operator, source=source),),
        help="with paddle.static.program_guard(merged.program, startup): ...",
    )


@rule("GT352", replaces=("GT529",))
def not_static(call: str) -> Diagnostic:
    """A call that works on a Program was made in dynamic mode.

    `gt.from_layer` makes a Program of a network of the dynamic graph. To train it where it is, call
    the optimizer's own `step`.
    """
    return Diagnostic(message=f"`{call}` was called in dynamic mode", help="paddle.enable_static()")
