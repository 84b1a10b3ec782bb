"""Defer SIGINT while Paddle runs: Paddle crashes, or reports it as its own error."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from threading import current_thread, main_thread
from time import monotonic
from types import FrameType

__all__ = ["interrupts_deferred", "raise_pending_interrupt"]

# Seconds: several presses in a row are one.
_PATIENCE = 1.0
# When the pending interrupt came, or the last one that was raised; only the main thread gets any.
_since: list[float] = []


@contextmanager
def interrupts_deferred() -> Generator[None]:
    """Defer the KeyboardInterrupt of a Ctrl-C to the end, whatever else is raised meanwhile.

    Another one that comes more than a second later is not deferred. A caller's own handler is left
    alone.
    """
    if not _is_main() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _since.clear()
    signal.signal(signal.SIGINT, _hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if _since:
            _since.clear()
            raise KeyboardInterrupt from None


def raise_pending_interrupt() -> None:
    """Raise a deferred KeyboardInterrupt at a point where rollback is possible."""
    if _since and _is_main():
        # Those that come during the rollback are deferred in their turn.
        _since[:] = [monotonic()]
        raise KeyboardInterrupt


def _hold(number: int, frame: FrameType | None) -> None:
    now = monotonic()
    if not _since:
        _since.append(now)
    elif now - _since[0] > _PATIENCE:
        _since[:] = [now]
        signal.default_int_handler(number, frame)


def _is_main() -> bool:
    return current_thread() is main_thread()
