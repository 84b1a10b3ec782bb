"""Standard streams that nobody reads, from the start or no longer."""

from __future__ import annotations

import os
import sys

__all__ = ["open_closed_streams", "stop_writing"]


def open_closed_streams() -> None:
    """Give streams that the caller has closed (`>&-`) a device that takes everything.

    The next files that are opened would be taken for them.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  # is never closed


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def stop_writing() -> None:
    """Point stdout nowhere: its reader (`head`) is gone, its disk full, or half is written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
