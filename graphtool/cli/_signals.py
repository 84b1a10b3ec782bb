"""Signals that ask a command to end, as a KeyboardInterrupt: what is half done is undone."""

from __future__ import annotations

import signal
import sys
from _thread import interrupt_main
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["INTERRUPTED", "interruptible"]

# What a shell says of a process that a signal ended is this and the signal's number.
_ENDED = 128
INTERRUPTED = _ENDED + signal.SIGINT
# A terminal sends the last one when it is closed.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(statuses: list[int], *, for_good: bool) -> Generator[None]:
    """Raise KeyboardInterrupt where a signal asks the process to end, and note the exit status.

    Signals that are ignored, or that have a handler already, are left as they are. The process is
    about to end where it is done `for_good`: what comes later ends it without a word.
    """
    ignored = sys.unraisablehook
    handlers: dict[int, Any] = {}

    def interrupt(number: int, _: object) -> None:
        statuses.append(_ENDED + number)
        raise KeyboardInterrupt

    def again(unraisable: Any) -> None:
        """Interrupt once more where Python has to drop an interrupt: in a callback, a finaliser."""
        if statuses and issubclass(unraisable.exc_type, KeyboardInterrupt):
            interrupt_main()
        else:
            ignored(unraisable)

    # Only the main thread may.
    with suppress(ValueError):
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                handlers[number] = signal.signal(number, interrupt)
        sys.unraisablehook = again
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if for_good else handler)
        sys.unraisablehook = ignored
