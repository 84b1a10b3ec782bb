"""What can be wrong with Paddle, or with a live Program: GT030 to GT032, GT049."""

from __future__ import annotations

from graphtool.diagnostics import Diagnostic, Where, rule
from graphtool.text import path_argument, shell_command

__all__ = [
    "foreign_operand",
    "no_paddle",
    "not_opened",
    "not_translated",
    "value_gone",
]


@rule("GT030")
def no_paddle(reason: str) -> Diagnostic:
    """What was asked for runs Paddle, and Paddle does not import.

    Saved models (`.json`, `.pdmodel`) are read without Paddle; a `module:callable` and a live
    Program need it. Any build will do: paddlepaddle or paddlepaddle-gpu, 2.6.2 or newer.
    """
    return Diagnostic(
        message=f"`import paddle` fails: {reason}",
        notes=("paddlepaddle-gpu will do as well",),
        help="pip install paddlepaddle",
    )


@rule("GT031")
def value_gone(program: str, name: str) -> Diagnostic:
    """The Program was changed after it was read, and the operator of this Value is no longer in it.

    Read the Program again: names are those of the Program as it is now.
    """
    return Diagnostic(
        message=f"`{name}` was in the Program when it was read and is not any more",
        where=(Where(program=program, value=name),),
        help="gt.read(program)",
    )


@rule("GT032")
def not_translated(program: str, reason: str) -> Diagnostic:
    """Paddle does not translate this legacy Program to PIR.

    It refuses the gradient of a while loop and operators that PIR lacks; Paddle 2.6 translates
    nothing. The Program can still be read and merged as the legacy Program that it is.
    """
    return Diagnostic(
        message="Paddle does not translate this Program to PIR",
        where=(Where(program=program),),
        notes=(reason,),
    )


@rule("GT049")
def not_opened(path: str, reason: str) -> Diagnostic:
    """Paddle does not open a saved model that could be read here.

    The file is damaged in a part that graphtool has no use for, or was written by another release.
    Reading, checking and drawing it still works. The note has Paddle's own words.
    """
    return Diagnostic(
        message="Paddle does not open the saved model",
        where=(Where(program=path),),
        notes=(reason,),
        help=shell_command("graphtool", "inspect", path_argument(path)),
    )


@rule("GT050")
def foreign_operand(operator: str, source: str | None) -> Diagnostic:
    """An operator reads a Value of another Program.

    What is computed from a Value goes into the default main Program, whichever Program the Value
    is of. Paddle takes it without a word, and ends the process when one of the two Programs goes.
    Build this Program anew, and compute with a Value under `program_guard` of its own Program.
    """
    return Diagnostic(
        message=f"`{operator}` reads a Value of another Program",
        where=(Where(program="<Program>", value=operator, source=source),),
        help="with paddle.static.program_guard(merged.program, startup): ...",
    )
