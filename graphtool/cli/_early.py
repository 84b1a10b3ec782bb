"""Before all else is imported: a signal that asks a command to end does so without a word."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
else:
    # What `signal` makes enums of, which takes as long as the start of Python does. Until a command
    # has come here, Ctrl-C is a traceback.
    import _signal as signal

__all__ = ["ENDED", "SIGNALS", "is_free", "leave_on_signals"]

# What a shell says of a process that a signal ended is this and the signal's number.
ENDED = 128
# A terminal sends the last one when it is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_on_signals() -> None:
    """End the process where a signal asks for it, until something is begun that has to be undone.

    Only the main thread may set this; called in another one, it changes nothing.
    """
    try:
        for number in filter(is_free, SIGNALS):
            signal.signal(number, _leave)
    except ValueError:
        return


def is_free(number: int) -> bool:
    """Tell a signal that is neither ignored nor has a handler of the caller's."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    os._exit(ENDED + number)
