"""Resolve model paths, and suggest shell commands for paths that could not be used."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path, PurePath

from graphtool.text import path_argument, shell_command

__all__ = [
    "is_empty_folder",
    "list_command",
    "ls_command",
    "numbered_path",
    "path_exists",
    "resolve_model_prefix",
    "unwritable_help",
]

_DISK_FULL = {os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)}

# In the order in which Paddle looks for them.
_MODEL_SUFFIXES = (".json", ".pdmodel")


def path_exists(path: str) -> bool:
    """Return whether a file or folder exists; False for an invalid path."""
    # Unlike `Path.exists`, this is False for a name that is too long.
    return os.path.exists(path)  # noqa: PTH110


def resolve_model_prefix(path: str) -> str:
    """Return the file of a saved model named by Paddle's prefix; any other path unchanged.

    `out/net` means `out/net.json` or `out/net.pdmodel`, as in `paddle.static.load_inference_model`.
    An existing `out/net` takes precedence, unless it is an empty folder.
    """
    if os.path.lexists(path) and not is_empty_folder(path):
        return path
    files = (path + suffix for suffix in _MODEL_SUFFIXES)
    return next((file for file in files if os.path.isfile(file)), path)  # noqa: PTH113  # no errors


def is_empty_folder(path: str) -> bool:
    """Return whether a path is an empty folder; False if it cannot be listed."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except (OSError, ValueError):
        return False


def numbered_path(path: str | PurePath) -> str:
    """Return the first unused numbered variant of a path: `pairs-2.toml`."""
    # `.` and `..` cannot be numbered.
    base = PurePath(path if PurePath(path).name not in ("", "..") else os.path.abspath(path))  # noqa: PTH100
    variants = (base.parent / f"{base.stem}-{number}{base.suffix}" for number in count(2))
    return str(next(variant for variant in variants if not os.path.lexists(variant)))


def ls_command(path: str | PurePath) -> str:
    """Return the command that shows the owner and mode of a path.

    For a missing path it lists the folder, or shows the nearest existing one above.
    """
    file = Path(path)
    # Unlike the methods of Path, these are False for an invalid path.
    if not os.path.lexists(file) and os.path.isdir(file.parent):  # noqa: PTH112
        return list_command(file.parent)
    return shell_command("ls", "-ld", path_argument(_nearest_existing(file)))


def list_command(folder: str | PurePath) -> str:
    """Return the command that lists a folder, or the nearest existing one above."""
    return shell_command("ls", path_argument(_nearest_existing(Path(folder))))


def unwritable_help(path: str | PurePath, reason: str) -> str:
    """Return a command for a file that could not be written, by the system's `reason`.

    It shows how full the disk is, or makes the missing folder; else it shows the owner and mode of
    the file, if there is one, and of the folder.
    """
    folder = Path(path).parent
    if reason in _DISK_FULL:
        return shell_command("df", "-h", path_argument(_nearest_existing(folder)))
    if reason == os.strerror(errno.ENOENT) and not os.path.lexists(folder):
        return shell_command("mkdir", "-p", path_argument(str(folder)))
    places = [path, folder] if os.path.lexists(path) else [_nearest_existing(folder)]
    return shell_command("ls", "-ld", *(path_argument(str(place)) for place in places))


def _nearest_existing(path: Path) -> str:
    # Unlike the methods of Path, this is False for an invalid path.
    return str(next((one for one in (path, *path.parents) if os.path.lexists(one)), Path()))
