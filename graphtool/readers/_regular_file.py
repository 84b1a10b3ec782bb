"""Reject FIFOs, devices and sockets; reading one could block."""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from pathlib import Path

from graphtool.diagnostics import ReadError
from graphtool.readers import problems

__all__ = ["check_mode_not_special", "check_not_special"]

# Reading these may block, except for the pipes of the shell's `<(command)` and `|`.
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_SHELL_PIPE = re.compile(r"/dev/stdin|(/dev|/proc/(self|\d+))/fd/\d+")


def check_not_special(path: Path) -> None:
    """Reject a path that could block reading or never end; a missing path passes.

    Raises ReadError: GT010. Raises OSError if the path cannot be examined.
    """
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        check_mode_not_special(path, path.stat().st_mode)


def check_mode_not_special(path: Path, mode: int) -> None:
    """Reject a path by its mode, as `check_not_special` does.

    Raises ReadError: GT010.
    """
    kind = _SPECIAL.get(stat.S_IFMT(mode))
    if kind is not None and not (stat.S_ISFIFO(mode) and _SHELL_PIPE.match(str(path))):
        raise ReadError(problems.unreadable(str(path), f"it is {kind}, not a file"))
