"""Write a picture, and print its path and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphtool.cli._arguments import wrong_usage
from graphtool.cli._console import errors, progress, show_report
from graphtool.diagnostics import GraphtoolError, UsageError
from graphtool.files import check_writable
from graphtool.text import printable

if TYPE_CHECKING:
    from graphtool.rendering import Picture
    from graphtool.rendering.scenes import Drawable

__all__ = [
    "check_picture",
    "draw",
    "has_content",
    "print_written",
    "verb_for",
    "write_picture",
]

_STDOUT = "-"


def draw(x: Drawable, path: str | None, **options: Any) -> Picture:
    """Call `gt.render`, and show that it works."""
    from graphtool.rendering import render

    with progress("laying out the picture"):
        return render(x, path, **options)


def check_picture(path: str | None, *, folder: str | None = None) -> None:
    """Check that a picture can be drawn and written, before the networks are read.

    It may be inside `folder`, which need not exist yet. Raises UsageError: GT402, GT600. Raises
    GraphtoolError: GT401 if no engine draws it, GT601 if it can't be written.
    """
    if path is None:
        return
    if path == _STDOUT:
        message = "argument --render: a picture goes to a file, not to stdout"
        raise UsageError(wrong_usage(message, help="--render picture.svg"))
    from graphtool.rendering.engine import check_engine
    from graphtool.rendering.picture import extension_of

    check_engine(extension_of(path))
    if folder is None or Path(path).absolute().parent != Path(folder).absolute():
        check_writable(path)


def write_picture(x: Drawable, path: str) -> bool:
    """Draw the result of a command; return whether that succeeded."""
    verb = verb_for(path)
    try:
        picture = draw(x, path)
    except GraphtoolError as error:
        show_report(error.report)
        return False
    show_report(picture.report)
    print_written(picture, path, verb)
    return True


def verb_for(path: str) -> str:
    """Return the verb for writing a file: `replaced` if it exists, else `wrote`."""
    return "replaced" if Path(path).is_file() else "wrote"


def has_content(path: str) -> bool:
    """Return whether a path is a file that is not empty."""
    file = Path(path)
    return file.is_file() and file.stat().st_size > 0


def print_written(picture: Picture, path: str, verb: str) -> None:
    """Print the path and level of a picture on stderr."""
    errors().print(f"{verb} {printable(path)}: level {picture.level.value}", soft_wrap=True)
