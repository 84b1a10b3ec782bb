"""What a folder holds, by its bytes, and what writers have left in it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

__all__ = ["Contents", "are_old_or_new", "contents", "make_old", "strays"]

# What lies in a folder, and below it, by path: bytes of files, None for folders.
Contents: TypeAlias = Mapping[str, bytes | None]

_PREFIX = ".graphtool-"


def contents(folder: Path) -> Contents:
    """Return what a reader finds in a folder under each name; links that lead nowhere are none."""
    return {
        str(path.relative_to(folder)): _read(path) if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.exists()
        and not any(part.startswith(_PREFIX) for part in path.relative_to(folder).parts)
    }


def _read(path: Path) -> bytes:
    """Return a file's bytes, without the end of a whole PDF, which says when it was drawn."""
    data = path.read_bytes()
    is_whole = data.startswith(b"%PDF") and data.endswith(b"%%EOF\n")
    return data.rpartition(b"/ObjStm")[0] + b"%%EOF" if is_whole else data


def strays(folder: Path) -> list[str]:
    """List what writers have left, below folders too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(f"{_PREFIX}*"))


def make_old(folder: Path) -> None:
    """Let what writers have left be of yesterday."""
    yesterday = time.time() - 86_400
    for stray in strays(folder):
        for path in (folder / stray, *(folder / stray).rglob("*")):
            os.utime(path, (yesterday, yesterday), follow_symlinks=False)


def are_old_or_new(found: Contents, before: Contents, after: Contents) -> bool:
    """Return whether each target is as before or as after: a folder, or files of one name."""
    return all(
        _of_target(found, name) in (_of_target(before, name), _of_target(after, name))
        for name in set(map(_target, (*found, *before, *after)))
    )


def _target(path: str) -> str:
    return path.partition("/")[0].partition(".")[0]


def _of_target(held: Contents, name: str) -> Contents:
    return {path: data for path, data in held.items() if _target(path) == name}
