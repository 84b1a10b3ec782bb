"""Signals that ask a command to end, as a KeyboardInterrupt: what is half done is undone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Timer, get_ident
from types import FrameType
from typing import Any

from graphtool import staging
from graphtool.cli._early import ENDED, SIGNALS, is_free

__all__ = ["INTERRUPTED", "interruptible"]

INTERRUPTED = ENDED + signal.SIGINT
# Seconds: what Python does where it drops an exception takes microseconds.
_SOON = 0.01


@contextmanager
def interruptible(statuses: list[int], *, for_good: bool) -> Generator[None]:
    """Raise KeyboardInterrupt where a signal asks the process to end, and note the exit status.

    Signals that are ignored, or that have a handler already, are left as they are. The process is
    about to end where it is done `for_good`: what comes later ends it without a word. Then it ends
    at once if Paddle is there, which swallows what is raised while it calls Python, or crashes.
    """
    ignored = sys.unraisablehook
    handlers: dict[int, Any] = {}
    timers: list[Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        statuses.append(ENDED + number)
        if for_good and "paddle" in sys.modules and not _is_staging(frame):
            _end(statuses[-1])
        raise KeyboardInterrupt

    def again(unraisable: Any) -> None:
        """Interrupt once more where Python has to drop an interrupt: in a callback, a finaliser."""
        if statuses and issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Not at once: the interrupt would come within this hook, and be dropped as well.
            timer = Timer(_SOON, signal.pthread_kill, [get_ident(), statuses[-1] - ENDED])
            timers.append(timer)
            timer.start()
        else:
            ignored(unraisable)

    # Only the main thread may.
    with suppress(ValueError):
        for number in filter(is_free, SIGNALS):
            handlers[number] = signal.signal(number, interrupt)
        sys.unraisablehook = again
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if for_good else handler)
        sys.unraisablehook = ignored


def _is_staging(frame: FrameType | None) -> bool:
    """Tell whether files are being moved, by Python alone."""
    while frame is not None:
        if frame.f_code.co_filename == staging.__file__:
            return True
        frame = frame.f_back
    return False


def _end(status: int) -> None:
    staging.settle_own()
    with suppress(OSError, ValueError, AttributeError):  # No stream has to be there.
        if sys.stderr.isatty():
            # A progress bar hides the cursor.
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(status)
