"""Make what the user's or Paddle's code raised fit a Diagnostic: message and the user's frames."""

from __future__ import annotations

import ctypes
import re
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from threading import TIMEOUT_MAX, Event, Lock, Thread, current_thread, get_ident, main_thread
from types import FrameType, TracebackType
from typing import Any, TypeAlias

from graphtool.diagnostics import GraphtoolError
from graphtool.readers._callstack import user_line

__all__ = ["TIMEOUT", "Attempt", "brief", "said_by", "user_frames"]

# What `signal.signal` gives back: a function, or one of its constants.
_Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int | None"

# Seconds for a constructor, or a forward. In static mode `for x in tensor` never ends, and takes
# 2 GB a minute.
TIMEOUT = 120.0

_LINES = 4
_FRAMES = 5
_SUMMARY = re.compile(r".*Error Message Summary:\s*-+\s*", re.DOTALL)
# What `to_static` and Executors raise: the frames that built the operator, then the error itself.
_TRANSFORMED = re.compile(
    r".*In (?:transformed|user) code:.*\n\s+[\w.]+(?:Error|Exception): ", re.DOTALL
)
_TRANSFORMED_FRAME = re.compile(r'^\s+(File "[^"]*", line \d+), in (\w+)$', re.MULTILINE)
_IN_PADDLE = re.compile(r"\s*\(at [^()\s]+:\d+\)")
_RULER = re.compile(r"^[-\s]*$")


class _Late(Exception):  # noqa: N818  # it is an error by the time that anybody sees it
    """Raised in code that takes too long: Paddle adds the user's line to it."""


class _TooLate(BaseException):
    """Raised a second later, where the code caught the Exception and goes on."""


class Attempt:
    """Run code of the user's, which may raise anything, and keep what it raised in `error`.

    `raise SystemExit` is kept too, so that a script given as a module does not end the process. So
    is a TimeoutError, with the line that was running, where the code takes longer than `timeout`
    seconds, whatever it makes of being interrupted. In the main thread that ends sleeping and
    waiting for a socket as well; elsewhere a call that blocks outside of Python is waited for.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.error: Exception | SystemExit | None = None
        self._timeout = timeout
        self._late = False
        self._done = Event()
        self._lock = Lock()
        self._handler: _Handler = None

    def __enter__(self) -> None:
        assert self.error is None
        if self._timeout is not None:
            if current_thread() is main_thread():
                self._handler = signal.signal(signal.SIGURG, _wake)
            Thread(target=self._watch, args=(self._timeout, get_ident()), daemon=True).start()

    def _watch(self, timeout: float, thread: int) -> None:
        for seconds, error in ((timeout, _Late), (1.0, _TooLate)):
            if self._done.wait(min(seconds, TIMEOUT_MAX)):
                return
            with self._lock:
                if not self._done.is_set():
                    self._late = True
                    _raise_in(thread, error)
                    if self._handler is not None:
                        signal.pthread_kill(thread, signal.SIGURG)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._stop()
        if self._late and not isinstance(error, KeyboardInterrupt):
            # Paddle may have made an error of its own of it, which names the line.
            after = f"it did not return within {self._timeout:g} s"
            message = f"{after} (gt.from_layer(..., timeout=None) waits)"
            self.error = TimeoutError(message).with_traceback(trace)
            self.error.__cause__ = error
            return True
        if isinstance(error, GraphtoolError) or not isinstance(error, Exception | SystemExit):
            return False
        self.error = error
        return True

    def _stop(self) -> None:
        """Let nothing more be raised, nor what was about to be."""
        while not self._done.is_set():
            with suppress(_Late, _TooLate), self._lock:
                self._done.set()
                if self._late:
                    _raise_in(get_ident(), None)
        if self._handler is not None:
            signal.signal(signal.SIGURG, self._handler)
            self._handler = None


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Come back to Python, which raises what is pending."""


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise in a thread of Python's as soon as it runs Python; None takes back what is pending."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def brief(message: str) -> str:
    """Return the first lines that say something, without Paddle's C++ stack and source places."""
    text = _IN_PADDLE.sub("", _SUMMARY.sub("", _TRANSFORMED.sub("", message)))
    lines = [line.strip() for line in text.splitlines() if not _RULER.match(line)]
    return "\n".join(lines[:_LINES])


def said_by(error: BaseException) -> str:
    """Return what an error says in brief, its type where it says nothing."""
    return brief(str(error)) or type(error).__name__


def user_frames(error: BaseException) -> tuple[str, ...]:
    """List the user's frames, outermost first: `net.py:12 in forward: x = self.a(x)`."""
    frames = [
        f"{place} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (place := user_line([f'File "{frame.filename}", line {frame.lineno}']))
    ]
    frames += [
        f"{place} in {function}"
        for frame, function in _TRANSFORMED_FRAME.findall(f"{error}\n{error.__cause__}")
        if (place := user_line([frame]))
    ]
    return tuple(dict.fromkeys(frames))[-_FRAMES:]
