"""Say in a Diagnostic that Paddle failed inside of a call, with its own words behind it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from graphtool.diagnostics import Diagnostic, GraphtoolError, rule
from graphtool.readers._messages import brief
from graphtool.readers._paddle import REFUSALS, one_at_a_time

__all__ = ["FAILURES", "paddle_failures", "words_of"]

# As what else Paddle's functions written in Python fail.
_SLIPS = (AssertionError, AttributeError, KeyError)
FAILURES = (*REFUSALS, OSError, *_SLIPS)
_OURS = f"{Path(__file__).parents[1]}{os.sep}"


@rule("GT258")
def paddle_failed(call: str, reason: str) -> Diagnostic:
    """Paddle raised an error inside of a call that had passed all checks.

    The Programs and Scopes are as they were before. The message has Paddle's own words; what it
    raised is the cause of the exception (`error.__cause__`). With the flag of the help Paddle adds
    the stack of its compiled part.
    """
    return Diagnostic(
        message=f"Paddle failed in `{call}`: {reason}",
        notes=("Programs and Scopes are as they were",),
        help='paddle.set_flags({"FLAGS_call_stack_level": 2})  # and once again',
    )


@contextmanager
def paddle_failures(kind: type[GraphtoolError], call: str) -> Generator[None]:
    """Raise an error of a kind, GT258, where Paddle raises one in a call.

    Calls of other threads wait until this one is done.
    """
    try:
        with one_at_a_time():
            yield
    except FAILURES as error:
        words = words_of(error)
        if words is None:
            raise
        raise kind(paddle_failed(call, words)) from error


def words_of(error: Exception) -> str | None:
    """Return what an error of Paddle's says, None for one of another's."""
    if isinstance(error, OSError) and error.errno is not None:
        return None
    if isinstance(error, _SLIPS) and _is_ours(error):
        return None
    return brief(str(error)) or type(error).__name__


def _is_ours(error: Exception) -> bool:
    """Tell what was raised in a line of graphtool's."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS)
