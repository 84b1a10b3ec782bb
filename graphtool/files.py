"""Write files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from secrets import token_hex

from graphtool.diagnostics import Diagnostic, GraphtoolError, rule

__all__ = ["unwritable_output", "write_text"]


@rule("GT601")
def unwritable_output(path: str, reason: str) -> Diagnostic:
    """The operating system does not let graphtool write the output file.

    The folder must exist and be writable, and the path must not be a folder itself. Nothing was
    written: a file that was there before is as it was.
    """
    return Diagnostic(
        message=f"`{path}` cannot be written: {reason}",
        help=f"ls -ld '{Path(path).parent}'",
    )


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file as UTF-8, its line ends as they stand in the text.

    It is written beside its place and then moved there, so that no reader sees half of it; pipes
    and devices are written to directly.

    Raises GraphtoolError: GT601 where it can't be written, with nothing changed.
    """
    # Names in a model's JSON may hold lone surrogates, which strict UTF-8 refuses.
    data = text.encode("utf-8", "surrogatepass")
    try:
        _write(Path(path), data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GraphtoolError(unwritable_output(os.fspath(path), reason)) from None


def _write(path: Path, data: bytes) -> None:
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with _beside(path.resolve()) as temporary:
        temporary.write_bytes(data)


@contextmanager
def _beside(path: Path) -> Generator[Path]:
    """Hand out a new file in the folder of `path`, which takes its place unless the body raises."""
    if path.exists():
        path.open("ab").close()
    temporary = path.with_name(f".graphtool-{token_hex(8)}.tmp")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
