"""Handle closed standard streams."""

from __future__ import annotations

import os
import sys

__all__ = ["open_closed_streams", "stop_writing"]


def open_closed_streams() -> None:
    """Open the null device for streams that the caller has closed (`>&-`).

    Otherwise the next opened files would get their descriptors.
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
    """Redirect stdout to the null device: its reader is gone, the disk full, or output partial."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
