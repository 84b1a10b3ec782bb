"""Write files whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from secrets import token_hex

from graphtool.diagnostics import Diagnostic, GraphtoolError, rule

__all__ = ["placed", "replacing", "unwritable_output", "write_text"]


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
    with placed(path) as file:
        file.write_bytes(data)


@contextmanager
def placed(path: str | PathLike[str]) -> Generator[Path]:
    """Hand out the file to write in the place of `path`: a new one, moved there afterwards.

    The file that was there stays where the body raises. Pipes and devices are handed out as such.

    Raises GraphtoolError: GT601 where it can't be written, with nothing changed.
    """
    target, home = Path(path), _resolved(path)
    try:
        if target.exists() and not target.is_file():
            yield target
            return
        with _beside(home) as temporary:
            yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        raise GraphtoolError(unwritable_output(os.fspath(path), reason)) from None


def _resolved(path: str | PathLike[str]) -> Path:
    try:
        return Path(path).resolve()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GraphtoolError(unwritable_output(os.fspath(path), reason)) from None


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


@contextmanager
def replacing(path: Path, targets: Sequence[Path]) -> Generator[Path]:
    """Hand out a new folder; files in it take the places of `targets` of their names, all or none.

    The targets lie in one folder, which is made where it isn't there. The last of them is the last
    to get its place and the first to lose it. One that is there and gets no new file is taken away.
    Nothing has changed where the body raises, or where a file cannot be moved.

    Raises GraphtoolError: GT601 for `path`, which is what the caller was asked to write.
    """
    try:
        with _exchanged(targets) as folder:
            yield folder
    except OSError as error:
        reason = error.strerror or str(error)
        raise GraphtoolError(unwritable_output(str(path), reason)) from None


@contextmanager
def _exchanged(targets: Sequence[Path]) -> Generator[Path]:
    home = targets[0].parent.resolve()
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    token = token_hex(8)
    new, old = home / f".graphtool-{token}.tmp", home / f".graphtool-{token}.earlier"
    try:
        home.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        yield new
        _exchange(new, old, home, [target.name for target in targets])
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(new: Path, old: Path, home: Path, names: Sequence[str]) -> None:
    """Put new files in the place of those of the same names, which are moved to `old`."""
    moves = [(home / name, old / name) for name in reversed(names) if (home / name).exists()]
    moves += [(new / name, home / name) for name in names if (new / name).exists()]
    started: list[tuple[Path, Path]] = []
    try:
        old.mkdir()
        for source, destination in moves:
            # Noted before: an interrupt between the two would lose the file.
            started.append((source, destination))
            source.rename(destination)
    except BaseException:
        for source, destination in reversed(started):
            if destination.exists() and not source.exists():
                destination.rename(source)
        with suppress(OSError):
            old.rmdir()
        raise
