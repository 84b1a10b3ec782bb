"""Let Ctrl-C wait while Paddle works: it makes a failure of its own of one, or crashes."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

__all__ = ["heed_interrupt", "interrupts_held"]

# Those that came, all in the main thread: no other gets any.
_held: list[int] = []
# So many of them do not wait.
_URGENT = 2


@contextmanager
def interrupts_held() -> Generator[None]:
    """Raise the KeyboardInterrupt of a Ctrl-C afterwards, whatever else was raised meanwhile.

    A second one does not wait. Those that come after either was raised change nothing: what was
    done is being undone. Where a caller has a handler of its own, that is left to it.
    """
    if not _is_main() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _held.clear()
    signal.signal(signal.SIGINT, _hold)
    try:
        yield
    except BaseException:
        _end()
        raise
    _end()


def heed_interrupt() -> None:
    """Raise the KeyboardInterrupt that waits, where what was done can still be undone."""
    if _held and _is_main():
        _held.extend([signal.SIGINT] * _URGENT)
        raise KeyboardInterrupt


def _hold(number: int, frame: FrameType | None) -> None:
    _held.append(number)
    if len(_held) == _URGENT:
        signal.default_int_handler(number, frame)


def _end() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _held:
        _held.clear()
        raise KeyboardInterrupt from None


def _is_main() -> bool:
    return current_thread() is main_thread()
