"""What to type for a look at a path that could not be used."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from graphtool.text import as_path, command

__all__ = ["look_at", "look_into"]


def look_at(path: str | PurePath) -> str:
    """Return the command that shows whose a path is; or the folder nearest above that is there."""
    return command("ls", "-ld", as_path(_there(Path(path))))


def look_into(folder: str | PurePath) -> str:
    """Return the command that lists a folder; or the one nearest above that is there."""
    return command("ls", as_path(_there(Path(folder))))


def _there(path: Path) -> str:
    # Unlike those of Path, this is False for what can be no path.
    return str(next((place for place in (path, *path.parents) if os.path.lexists(place)), Path()))
