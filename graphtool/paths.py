"""Which file a path means, and what to type for one that could not be used."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path, PurePath

from graphtool.text import as_path, command

__all__ = [
    "free_beside",
    "is_empty_folder",
    "is_there",
    "look_at",
    "look_into",
    "make_room",
    "saved_model",
]

_FULL = {os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)}

# In the order in which Paddle looks for them.
_MODELS = (".json", ".pdmodel")


def is_there(path: str) -> bool:
    """Tell whether there is a file or folder; what can be no path is none."""
    # Unlike that of Path, this is False for a name that is too long.
    return os.path.exists(path)  # noqa: PTH110


def saved_model(path: str) -> str:
    """Return the file of a saved model that goes by Paddle's prefix, any other path as it is.

    `out/net` means `out/net.json` or `out/net.pdmodel`, as `paddle.static.load_inference_model` has
    it; something that is called `out/net` itself comes first, unless it is an empty folder.
    """
    if os.path.lexists(path) and not is_empty_folder(path):
        return path
    files = (path + ending for ending in _MODELS)
    return next((file for file in files if os.path.isfile(file)), path)  # noqa: PTH113  # no errors


def is_empty_folder(path: str) -> bool:
    """Tell a folder that holds nothing; one that can't be looked into is none."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except (OSError, ValueError):
        return False


def free_beside(path: str | PurePath) -> str:
    """Return the path with the first number behind its name that nothing has: `pairs-2.toml`."""
    # A number has no place behind `.` or `..`.
    wanted = PurePath(path if PurePath(path).name not in ("", "..") else os.path.abspath(path))  # noqa: PTH100
    names = (wanted.parent / f"{wanted.stem}-{number}{wanted.suffix}" for number in count(2))
    return str(next(name for name in names if not os.path.lexists(name)))


def look_at(path: str | PurePath) -> str:
    """Return the command that shows whose a path is, or what is in its folder where it isn't there.

    Where that isn't there either, it shows the nearest one above.
    """
    place = Path(path)
    # Unlike that of Path, this is False for what can be no path.
    if not os.path.lexists(place) and os.path.isdir(place.parent):  # noqa: PTH112
        return look_into(place.parent)
    return command("ls", "-ld", as_path(_there(place)))


def look_into(folder: str | PurePath) -> str:
    """Return the command that lists a folder; or the one nearest above that is there."""
    return command("ls", as_path(_there(Path(folder))))


def make_room(path: str | PurePath, reason: str) -> str:
    """Return what to type for a file that could not be written, for the system's `reason`.

    That makes its folder, where it isn't there, or shows how full the disk is; else as `look_at`.
    """
    folder = Path(path).parent
    if reason in _FULL:
        return command("df", "-h", as_path(_there(folder)))
    if reason == os.strerror(errno.ENOENT) and not os.path.lexists(folder):
        return command("mkdir", "-p", as_path(str(folder)))
    return look_at(folder)


def _there(path: Path) -> str:
    # Unlike those of Path, this is False for what can be no path.
    return str(next((place for place in (path, *path.parents) if os.path.lexists(place)), Path()))
