"""Let Ctrl-C wait while Paddle works: it makes a failure of its own of one, or crashes."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from threading import current_thread, main_thread
from time import monotonic
from types import FrameType

__all__ = ["heed_interrupt", "interrupts_held"]

# Seconds: several presses in a row are one.
_PATIENCE = 1.0
# When the one came that waits, or that was raised last: of the main thread, for no other gets any.
_since: list[float] = []


@contextmanager
def interrupts_held() -> Generator[None]:
    """Raise the KeyboardInterrupt of a Ctrl-C afterwards, whatever else was raised meanwhile.

    Another one that comes more than a second later does not wait. Where a caller has a handler of
    its own, that is left to it.
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


def heed_interrupt() -> None:
    """Raise the KeyboardInterrupt that waits, where what was done can still be undone."""
    if _since and _is_main():
        # Those that come while it is undone wait in their turn.
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
