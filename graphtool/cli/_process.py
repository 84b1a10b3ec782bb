"""The process of a command: how signals end it, and its standard streams."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

from graphtool.files import remove_temporaries

__all__ = ["open_closed_streams", "signals_raised", "stop_writing"]

# A terminal sends the last one when it is closed.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_raised() -> Generator[None]:
    """Raise KeyboardInterrupt with the status of a shell for signals that end the process.

    Signals that are ignored or have a handler already keep it; afterwards, a signal ends the
    process silently.
    """
    taken: list[signal.Signals] = []
    # Only the main thread may set handlers.
    with suppress(ValueError):
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _interrupt)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _: FrameType | None) -> None:
    status = 128 + number
    if "paddle" not in sys.modules:
        raise KeyboardInterrupt(status)
    # Paddle swallows exceptions raised in its callbacks, or crashes.
    remove_temporaries()
    with suppress(OSError, ValueError, AttributeError):  # stderr may be closed or None.
        if sys.stderr.isatty():
            # Show the cursor, which a progress bar hides.
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(status)


def open_closed_streams() -> None:
    """Open the null device for streams that the caller has closed (`>&-`).

    Otherwise the next opened files would get their descriptors.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  # is never closed


def stop_writing() -> None:
    """Redirect stdout to the null device: its reader is gone, the disk full, or output partial."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
