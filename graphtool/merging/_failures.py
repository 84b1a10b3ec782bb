"""Say in a Diagnostic that Paddle failed inside of a call, with its own words behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType

from graphtool.diagnostics import Diagnostic, GraphtoolError, rule
from graphtool.merging._interrupts import interrupts_held
from graphtool.readers._messages import said_by
from graphtool.readers._paddle import REFUSALS, one_at_a_time

__all__ = ["paddle_failures", "said_by_paddle"]

# As what else Paddle's functions written in Python fail.
_SLIPS = (AssertionError, AttributeError, KeyError)
_FAILURES = (*REFUSALS, OSError, *_SLIPS)
# As what any line of Python fails.
_ANYONES = (*_SLIPS, ValueError, TypeError, IndexError, RecursionError)
# How Paddle's compiled part words these, whose last line in Python is that which called it.
_COMPILED = re.compile(
    r"\((InvalidArgument|InvalidType|NotFound|OutOfRange|AlreadyExists|ResourceExhausted|Fatal"
    r"|PreconditionNotMet|PermissionDenied|ExecutionTimeout|Unimplemented|Unavailable|External)\) "
    r"|Error Message Summary|incompatible (function|constructor) arguments"
    r"|Unable to (cast|convert)|\(position \d+\) must be|\[json\.exception\.|\bstd::|::(_M_|at\b)"
)


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
    with one_at_a_time(), said_by_paddle(lambda words: kind(paddle_failed(call, words))):
        yield


@contextmanager
def said_by_paddle(say: Callable[[str], GraphtoolError]) -> Generator[None]:
    """Raise what `say` makes of Paddle's words where it raises an error; Ctrl-C waits meanwhile."""
    with interrupts_held():
        try:
            yield
        except _FAILURES as error:
            words = _words_of(error)
            if words is None:
                raise
            raise say(words) from error


def _words_of(error: Exception) -> str | None:
    """Return what an error of Paddle's says, None for one of another's."""
    if isinstance(error, OSError) and error.errno is not None:
        return None
    raised_in = _raised_in(error)
    is_paddles = (
        raised_in == "paddle"
        or _COMPILED.search(str(error))
        or (raised_in == "graphtool" and not isinstance(error, _ANYONES))
    )
    return said_by(error) if is_paddles else None


def _raised_in(error: Exception) -> str:
    """Return the package whose line raised an error, or called the compiled part that did.

    What Paddle's Python calls of a caller's, such as an optimizer of its own, counts as Paddle's.
    """
    trace: TracebackType | None = error.__traceback__
    found = ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if found != "paddle" or module == "graphtool":
            found = module
        trace = trace.tb_next
    return found
