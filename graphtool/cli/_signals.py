"""Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, so that unfinished work is undone."""

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
# In seconds: Python takes microseconds to drop an exception.
_RESEND_DELAY = 0.01


@contextmanager
def interruptible(statuses: list[int], *, for_good: bool) -> Generator[None]:
    """Raise KeyboardInterrupt for signals that end the process, and append the exit status.

    Signals that are ignored or have a handler already keep it. `for_good` means that the process
    ends afterwards: a later signal then ends it silently. If Paddle is loaded as well, a signal
    ends the process at once, since Paddle swallows exceptions raised in its callbacks, or crashes.
    """
    previous_hook = sys.unraisablehook
    handlers: dict[int, Any] = {}
    timers: list[Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        statuses.append(ENDED + number)
        if for_good and "paddle" in sys.modules and not _is_in_staging(frame):
            _exit(statuses[-1])
        raise KeyboardInterrupt

    def resend(unraisable: Any) -> None:
        """Send a signal again whose KeyboardInterrupt Python dropped in a callback or finaliser."""
        if statuses and issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Delayed: an interrupt within this hook would be dropped as well.
            timer = Timer(_RESEND_DELAY, signal.pthread_kill, [get_ident(), statuses[-1] - ENDED])
            timers.append(timer)
            timer.start()
        else:
            previous_hook(unraisable)

    # Only the main thread may set handlers.
    with suppress(ValueError):
        for number in filter(is_free, SIGNALS):
            handlers[number] = signal.signal(number, interrupt)
        sys.unraisablehook = resend
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if for_good else handler)
        sys.unraisablehook = previous_hook


def _is_in_staging(frame: FrameType | None) -> bool:
    """Return whether the interrupted code is moving files, in Python alone."""
    while frame is not None:
        if frame.f_code.co_filename == staging.__file__:
            return True
        frame = frame.f_back
    return False


def _exit(status: int) -> None:
    staging.settle_own()
    with suppress(OSError, ValueError, AttributeError):  # stderr may be closed or None.
        if sys.stderr.isatty():
            # Show the cursor, which a progress bar hides.
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(status)
