"""Write a picture, and say where it is and what it leaves out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphtool.cli._console import errors, progress, show_report
from graphtool.cli.problems import wrong_usage
from graphtool.diagnostics import GraphtoolError, Report, UsageError
from graphtool.files import check_writable
from graphtool.text import visible

if TYPE_CHECKING:
    from graphtool.rendering import Picture
    from graphtool.rendering.scenes import Drawable

__all__ = [
    "check_picture",
    "drawn",
    "holds_something",
    "say_written",
    "verb_for",
    "write_picture",
]

_STDOUT = "-"
# What to type, where a rule's help is an argument of a call.
_HELPS = {"GT404": "--focus NAME", "GT405": "--focus NAME"}


def drawn(x: Drawable, path: str | None, **options: Any) -> Picture:
    """Draw with the options of `gt.render`; what it says is in words of the command line."""
    from graphtool.rendering import render

    try:
        with progress("laying out the picture"):
            picture = render(x, path, **options)
    except GraphtoolError as error:
        raise type(error)(*_typed(error.report)) from None
    return replace(picture, report=_typed(picture.report))


def _typed(report: Report) -> Report:
    return Report.of(replace(found, help=_HELPS.get(found.code, found.help)) for found in report)


def check_picture(path: str | None, *, folder: str | None = None) -> None:
    """Refuse a file that can't become a picture before work is put into what it shows.

    It may lie in `folder`, which is still to be made. Raises UsageError: GT402, GT600. Raises
    GraphtoolError: GT401, GT406 where no engine draws it, GT601 where it can't be written.
    """
    if path is None:
        return
    if path == _STDOUT:
        message = "argument --render: a picture goes to a file, not to stdout"
        raise UsageError(wrong_usage(message, help="--render picture.svg"))
    from graphtool.rendering.engine import check_engine
    from graphtool.rendering.picture import ending_of

    check_engine(ending_of(path))
    if folder is None or Path(path).absolute().parent != Path(folder).absolute():
        check_writable(path)


def write_picture(x: Drawable, path: str) -> bool:
    """Draw what a command has printed; False where that failed, and its results stand."""
    verb = verb_for(path)
    try:
        picture = drawn(x, path)
    except GraphtoolError as error:
        show_report(error.report)
        return False
    show_report(picture.report)
    say_written(picture, path, verb)
    return True


def verb_for(path: str) -> str:
    """Return what writing does to a file: one that is there before is replaced."""
    return "replaced" if Path(path).is_file() else "wrote"


def holds_something(path: str) -> bool:
    """Tell a file that is there, with something in it, from what can be written to at will."""
    file = Path(path)
    return file.is_file() and file.stat().st_size > 0


def say_written(picture: Picture, path: str, verb: str) -> None:
    """Say on stderr where a picture is."""
    errors().print(f"{verb} {visible(path)}: level {picture.level.value}", soft_wrap=True)
