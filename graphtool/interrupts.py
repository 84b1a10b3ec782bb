"""Defer signals while Paddle runs, which may crash of one, and while files are switched."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import current_thread, main_thread
from time import monotonic
from types import FrameType

__all__ = ["interrupts_deferred", "raise_pending_interrupt", "signals_deferred"]

# Seconds: several presses in a row are one.
_PATIENCE = 1.0
# When the pending Ctrl-C came, or the last one that was raised; only the main thread gets any.
_since: list[float] = []


@contextmanager
def signals_deferred(*numbers: int) -> Generator[None]:
    """Call Python's handlers of signals at the end, whatever else is raised meanwhile.

    Another Ctrl-C that comes more than a second after the first is not deferred.
    """
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
    pending: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        now = monotonic()
        if number == signal.SIGINT and _since and now - _since[0] > _PATIENCE:
            _since[:] = [now]
            handlers[number](number, frame)
        elif number not in pending:
            pending.append(number)
            _since[:] = [now] if number == signal.SIGINT else _since

    # Only the main thread may set handlers.
    for number in numbers if current_thread() is main_thread() else ():
        handler = signal.getsignal(number)
        if callable(handler):
            handlers[number] = handler
            signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in pending:
            if number == signal.SIGINT:
                _since.clear()
            handlers[number](number, None)


def interrupts_deferred() -> AbstractContextManager[None]:
    """Defer the KeyboardInterrupt of a Ctrl-C to the end; a caller's own handler is left alone."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return signals_deferred(signal.SIGINT) if is_default else nullcontext()


def raise_pending_interrupt() -> None:
    """Raise a deferred KeyboardInterrupt at a point where rollback is possible."""
    if _since and current_thread() is main_thread():
        # Those that come during the rollback are deferred in their turn.
        _since[:] = [monotonic()]
        raise KeyboardInterrupt
