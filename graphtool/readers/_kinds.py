"""Refuse what is no file where one is to be read: reading it may wait for ever."""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from pathlib import Path

from graphtool.diagnostics import ReadError
from graphtool.readers import problems

__all__ = ["check_kind", "check_mode"]

# Reading these may wait for ever, unless it is what the shell's `<(command)` or `|` hands over.
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_PIPED = re.compile(r"/dev/stdin|(/dev|/proc/(self|\d+))/fd/\d+")


def check_kind(path: Path) -> None:
    """Refuse what reading may wait for, or never come to the end of; a path to nothing passes.

    Raises ReadError: GT017. Raises OSError where the system does not let one look.
    """
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        check_mode(path, path.stat().st_mode)


def check_mode(path: Path, mode: int) -> None:
    """Refuse a path whose mode is known already.

    Raises ReadError: GT017.
    """
    kind = _SPECIAL.get(stat.S_IFMT(mode))
    if kind is not None and not (stat.S_ISFIFO(mode) and _PIPED.match(str(path))):
        raise ReadError(problems.not_a_file(str(path), kind))
