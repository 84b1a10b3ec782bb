"""Work done in a forked child, whose output goes to a file."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

__all__ = ["ended", "run_child", "start"]

_FAILED = 70


def run_child(work: Callable[[], int], said: Path) -> int:
    """Do the work in a child; return how it ended, as a shell says it."""
    return ended(start(work, said))


def start(work: Callable[[], int], said: Path) -> int:
    """Start a child whose output goes to a file, and return its number once it is ready to work."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # As in a process that a shell has just started.
            signal.signal(number, signal.SIG_DFL)
        _redirect(said)
        os.write(writing, b"ready")
        os._exit(_status_of(work))
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return child


def _status_of(work: Callable[[], int]) -> int:
    try:
        status = work()
        sys.stdout.flush()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else _FAILED
    except BaseException:  # noqa: BLE001  # The child must not go on as its parent.
        traceback.print_exc()
        return _FAILED
    return status


def ended(child: int) -> int:
    """Wait for a child, and return how it ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 128 - status if status < 0 else status


def _redirect(said: Path) -> None:
    sink = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
