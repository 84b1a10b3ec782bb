"""Errors that Paddle raises: shortened, and turned into Diagnostics that quote them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import TracebackType

from graphtool.backend.paddle import missing_names, program_lock
from graphtool.diagnostics import Diagnostic, GraphtoolError, Where, rule
from graphtool.interrupts import interrupts_deferred

__all__ = [
    "PADDLE_ERRORS",
    "convert_paddle_errors",
    "error_text",
    "not_static",
    "paddle_failed",
    "raise_paddle_errors_as",
    "shortened_message",
]

# The Python exceptions that Paddle's errors become: InvalidArgument, OutOfRange, Unimplemented,
# Fatal, ..., and those of its JSON parser.
PADDLE_ERRORS = (ValueError, RuntimeError, IndexError, MemoryError, TypeError, SystemError)
# Also raised by Paddle's functions written in Python.
_PYTHON_ERRORS = (AssertionError, AttributeError, KeyError)
_PADDLE_ERRORS = (*PADDLE_ERRORS, OSError, *_PYTHON_ERRORS)
# Any line of Python may raise these.
_GENERIC_ERRORS = (*_PYTHON_ERRORS, ValueError, TypeError, IndexError, RecursionError)
# Messages of Paddle's compiled part. Tracebacks of these end at the Python line that called it.
_COMPILED_MESSAGE = re.compile(
    r"\((InvalidArgument|InvalidType|NotFound|OutOfRange|AlreadyExists|ResourceExhausted|Fatal"
    r"|PreconditionNotMet|PermissionDenied|ExecutionTimeout|Unimplemented|Unavailable|External)\) "
    r"|Error Message Summary|incompatible (function|constructor) arguments"
    r"|Unable to (cast|convert)|\(position \d+\) must be|\[json\.exception\.|\bstd::|::(_M_|at\b)"
)


@rule("GT258", replaces=("GT257", "GT378"))
def paddle_failed(
    message: str,
    *,
    where: Sequence[Where] = (),
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """Paddle raised an error, although all checks had passed.

    The message quotes Paddle; its exception is the cause of this one (`error.__cause__`). Programs
    and Scopes are as they were before. `FLAGS_call_stack_level` adds the stack of Paddle's compiled
    part.

    If a network does not run in `verify` or for evidence, its input may be unsuitable: ids out of
    range, or a size that it does not take. `verify` generates whole numbers of 0 and 1, images of
    32 × 32 pixels and sequences of 8 steps: pass a feed that fits the network. If the merge warned,
    the cause may be tensors in its Scope that belong to another network.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@rule("GT352", replaces=("GT529",))
def not_static(call: str) -> Diagnostic:
    """A call that works on a Program was made in dynamic mode.

    `gt.from_layer` makes a Program of a network of the dynamic graph. To train it where it is, call
    the optimizer's own `step`.
    """
    return Diagnostic(message=f"`{call}` was called in dynamic mode", help="paddle.enable_static()")


@contextmanager
def raise_paddle_errors_as(kind: type[GraphtoolError], call: str) -> Generator[None]:
    """Raise errors of Paddle's in a call as GT258, in an error of the given kind.

    Other threads' calls wait until this one is done.
    """

    def error(reason: str) -> GraphtoolError:
        return kind(
            paddle_failed(
                f"Paddle failed in `{call}`: {reason}",
                notes=("Programs and Scopes are as they were",),
                help='paddle.set_flags({"FLAGS_call_stack_level": 2})  # and once again',
            )
        )

    with program_lock(), convert_paddle_errors(error):
        yield


@contextmanager
def convert_paddle_errors(convert: Callable[[str], GraphtoolError]) -> Generator[None]:
    """Convert the message of an error of Paddle's, and raise the result; defers Ctrl-C."""
    with interrupts_deferred():
        try:
            yield
        except _PADDLE_ERRORS as error:
            message = _paddle_message(error)
            if message is None:
                raise
            raise convert(message) from error


def _paddle_message(error: Exception) -> str | None:
    """Return the message of an error that Paddle raised, None if it did not."""
    if isinstance(error, OSError) and error.errno is not None:
        return None
    package = _raising_package(error)
    is_from_paddle = (
        package == "paddle"
        or _is_missing_name(error)
        or _COMPILED_MESSAGE.search(str(error))
        or (package == "graphtool" and not isinstance(error, _GENERIC_ERRORS))
    )
    return error_text(error) if is_from_paddle else None


def _is_missing_name(error: Exception) -> bool:
    """Return whether an error is that a private name of Paddle is gone in its new release."""
    paddle = sys.modules.get("paddle")
    if paddle is None or not isinstance(error, AttributeError):
        return False
    missing = missing_names(paddle).values()
    return any(name.endswith(f".{error.name}") for names in missing for name in names)


def _raising_package(error: Exception) -> str:
    """Return the package whose line raised an error, or called the compiled part that did.

    User code that Paddle's Python calls, such as a custom optimizer, counts as Paddle.
    """
    trace: TracebackType | None = error.__traceback__
    package = ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if package != "paddle" or name == "graphtool":
            package = name
        trace = trace.tb_next
    return package


_MAX_LINES = 4
_SUMMARY = re.compile(r".*Error Message Summary:\s*-+\s*", re.DOTALL)
# Errors of `to_static` and Executors: the frames that built the operator, then the error itself.
_TRANSFORMED = re.compile(
    r".*In (?:transformed|user) code:.*\n\s+[\w.]+(?:Error|Exception): ", re.DOTALL
)
_PADDLE_LOCATION = re.compile(r"\s*\(at [^()\s]+:\d+\)")
_RULER = re.compile(r"^[-\s]*$")


def shortened_message(message: str) -> str:
    """Return the first non-empty lines, without Paddle's C++ stack and source locations."""
    text = _PADDLE_LOCATION.sub("", _SUMMARY.sub("", _TRANSFORMED.sub("", message)))
    lines = [line.strip() for line in text.splitlines() if not _RULER.match(line)]
    return "\n".join(lines[:_MAX_LINES])


def error_text(error: BaseException) -> str:
    """Return the message of an error in brief, or its type if it has no message."""
    return shortened_message(str(error)) or type(error).__name__
