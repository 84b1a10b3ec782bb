"""Run code of the user with a timeout, and list its frames in an error."""

from __future__ import annotations

import ctypes
import re
import signal
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import TIMEOUT_MAX, Event, Lock, Thread, current_thread, get_ident, main_thread
from types import FrameType, TracebackType
from typing import Any, TypeAlias

from graphtool.backend.errors import shortened_message
from graphtool.diagnostics import GraphtoolError
from graphtool.readers.graph_builder import user_line

__all__ = ["TIMEOUT", "Attempt", "error_notes", "user_frames", "working_directory_first"]

# A signal handler as `signal.signal` returns it: a function, or one of its constants.
_Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int | None"


# Seconds for a constructor or a forward. In static mode `for x in tensor` never ends, and takes
# 2 GB a minute.
TIMEOUT = 120.0
_MAX_FRAMES = 5
_TRANSFORMED_FRAME = re.compile(r'^\s+(File "[^"]*", line \d+), in (\w+)$', re.MULTILINE)


class _Timeout(Exception):  # noqa: N818  # `Attempt` reports it as a TimeoutError
    """Raised in code that takes too long; Paddle adds the user's line to an Exception."""


class _HardTimeout(BaseException):
    """Raised a second later, if the code caught the Exception and goes on."""


class Attempt:
    """Run code of the user, which may raise anything, and keep its exception in `error`.

    SystemExit is kept too, so that a script given as a module does not end the process. Code that
    runs longer than `timeout` seconds gives a TimeoutError with the line that was running, even if
    it catches the interruption. In the main thread, sleeping and waiting for a socket are
    interrupted as well; in other threads, a call that blocks outside of Python delays the timeout.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.error: Exception | SystemExit | None = None
        self._timeout = timeout
        self._timed_out = False
        self._done = Event()
        self._lock = Lock()
        self._handler: _Handler = None

    def __enter__(self) -> None:
        assert self.error is None
        if self._timeout is not None:
            if current_thread() is main_thread():
                self._handler = signal.signal(signal.SIGURG, _ignore_signal)
            Thread(target=self._watch, args=(self._timeout, get_ident()), daemon=True).start()

    def _watch(self, timeout: float, thread: int) -> None:
        for seconds, error in ((timeout, _Timeout), (1.0, _HardTimeout)):
            if self._done.wait(min(seconds, TIMEOUT_MAX)):
                return
            with self._lock:
                if not self._done.is_set():
                    self._timed_out = True
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
        if self._timed_out and not isinstance(error, KeyboardInterrupt):
            # The cause may be Paddle's own error made of it, which names the line.
            elapsed = f"it did not return within {self._timeout:g} s"
            message = f"{elapsed} (gt.from_layer(..., timeout=None) waits)"
            self.error = TimeoutError(message).with_traceback(trace)
            self.error.__cause__ = error
            return True
        if isinstance(error, GraphtoolError) or not isinstance(error, Exception | SystemExit):
            return False
        self.error = error
        return True

    def _stop(self) -> None:
        """Stop the watcher, and cancel a timeout that is still pending."""
        while not self._done.is_set():
            with suppress(_Timeout, _HardTimeout), self._lock:
                self._done.set()
                if self._timed_out:
                    _raise_in(get_ident(), None)
        if self._handler is not None:
            signal.signal(signal.SIGURG, self._handler)
            self._handler = None


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """Handle the signal that interrupts a blocking call, so that Python raises what is pending."""


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise asynchronously in a Python thread; None cancels a pending exception."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def error_notes(error: BaseException) -> tuple[str, ...]:
    """Return the error in brief, then the user's frames."""
    return (f"{type(error).__name__}: {shortened_message(str(error))}", *user_frames(error))


@contextmanager
def working_directory_first() -> Generator[None]:
    """Put the working directory first in `sys.path`."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def user_frames(error: BaseException) -> tuple[str, ...]:
    """List the user's frames, outermost first: `net.py:12 in forward: x = self.a(x)`."""
    frames = [
        f"{line} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (line := user_line([f'File "{frame.filename}", line {frame.lineno}']))
    ]
    frames += [
        f"{line} in {function}"
        for frame, function in _TRANSFORMED_FRAME.findall(f"{error}\n{error.__cause__}")
        if (line := user_line([frame]))
    ]
    return tuple(dict.fromkeys(frames))[-_MAX_FRAMES:]
