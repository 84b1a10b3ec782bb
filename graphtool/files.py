"""Write files whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from pathlib import Path

from graphtool.diagnostics import Diagnostic, GraphtoolError, rule
from graphtool.paths import make_room
from graphtool.staging import exchange, reach_disk, staged

__all__ = [
    "check_writable",
    "placed",
    "replacing",
    "reported",
    "resolved",
    "unwritable_output",
    "write_text",
]

_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_DESCRIPTOR = re.compile(
    r"/dev/(?P<name>std(?:in|out|err))|(?:/dev|/proc/self)/fd/(?P<number>\d+)", re.ASCII
)


@rule("GT601")
def unwritable_output(path: str, reason: str) -> Diagnostic:
    """The operating system does not let graphtool write the output file.

    The folder must exist and be writable, and the path must not be a folder itself. Nothing was
    written: a file that was there before is as it was.
    """
    return Diagnostic(
        message=f"`{path}` cannot be written: {reason}",
        help=make_room(path, reason),
    )


def check_writable(path: str | PathLike[str]) -> None:
    """Refuse a file that can't be written before work is put into what goes there.

    Raises GraphtoolError: GT601.
    """
    target, home = Path(path), resolved(path)
    with reported(target):
        if home.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if home.exists() and (not home.is_file() or _descriptor(target) is not None):
            return
        home.parent.stat()
        if not home.parent.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        kept = home.exists() and not os.access(home, os.W_OK)
        if kept or not os.access(home.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


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

    The file that was there stays where the body raises. Pipes and devices are handed out as such;
    to `/dev/stdout` and its like, where they are files, is written what the body has written.

    Raises GraphtoolError: GT601 where it can't be written, with nothing changed. What the body
    raises about other files is handed on.
    """
    target, home = Path(path), resolved(path)
    others: list[OSError] = []
    with reported(target, but=others):
        if target.exists() and not target.is_file():
            with _noted(others, home.parent):
                yield target
            return
        number = _descriptor(target) if target.exists() else None
        with (
            _beside(home) if number is None else _through(number) as temporary,
            _noted(others, home.parent, temporary.parent),
        ):
            yield temporary


@contextmanager
def reported(path: Path, *, but: Sequence[OSError] = ()) -> Generator[None]:
    """Say of a path that it can't be written where the operating system refuses that.

    Raises GraphtoolError: GT601. Raises the errors of `but` as they are.
    """
    try:
        yield
    except OSError as error:
        if error in but:
            raise
        reason = error.strerror or str(error)
        raise GraphtoolError(unwritable_output(str(path), reason)) from None


@contextmanager
def _noted(others: list[OSError], *folders: Path) -> Generator[None]:
    """Note an error about a file that lies in none of the folders, such as a missing input."""
    try:
        yield
    except OSError as error:
        # Where a disk is full, no file is named.
        if isinstance(error.filename, str | bytes):
            file = Path(os.path.realpath(os.fsdecode(error.filename)))
            if not any(map(file.is_relative_to, folders)):
                others.append(error)
        raise


def resolved(path: str | PathLike[str]) -> Path:
    """Return the path that links lead to.

    Raises GraphtoolError: GT601 where they lead nowhere, or for what can be no path.
    """
    try:
        home = Path(path).resolve()
        if home.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return home
    # Until Python 3.13, links in a circle are a RuntimeError.
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GraphtoolError(unwritable_output(os.fspath(path), reason)) from None


def _descriptor(path: Path) -> int | None:
    """Return which open file of this process a path means, as `/dev/stdout` does."""
    found = _DESCRIPTOR.fullmatch(str(path))
    return None if found is None else int(found["number"] or _STREAMS[found["name"]])


@contextmanager
def _through(descriptor: int) -> Generator[Path]:
    """Hand out a file that goes where a descriptor stands: a move would cut off what follows."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder, "file")
        yield file
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(file.read_bytes())


@contextmanager
def _beside(path: Path) -> Generator[Path]:
    """Hand out a new file in the folder of `path`, which takes its place unless the body raises."""
    if path.exists():
        path.open("ab").close()
    with staged(path.parent, _touch) as temporary:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
        reach_disk(temporary)
        temporary.replace(path)


def _touch(path: Path) -> None:
    path.touch(exist_ok=False)


@contextmanager
def replacing(path: Path, targets: Sequence[Path]) -> Generator[Path]:
    """Hand out a new folder; files in it take the places of `targets` of their names, all or none.

    The targets lie in one folder, which is made where it isn't there. The last of them is the last
    to get its place and the first to lose it. One that is there and gets no new file is taken away.
    Nothing has changed where the body raises, or where a file cannot be moved. Files keep the modes
    of those that they replace; where a target is a link, what it leads to is replaced.

    A process that is killed while files are moved leaves them beside their places, for the next one
    that writes there to move them on, or back; there is never an old file beside a new one.

    Raises GraphtoolError: GT601 for `path`, which is what the caller was asked to write. What the
    body raises about other files is handed on.
    """
    home = resolved(targets[0].parent)
    folders = {resolved(target).parent for target in targets}
    names = [target.name for target in targets]
    others: list[OSError] = []
    with (
        reported(path, but=others),
        _replacing(home, names) as folder,
        _noted(others, folder.parent, *folders),
    ):
        yield folder


def _replacing(home: Path, names: Sequence[str]) -> AbstractContextManager[Path]:
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    return _anew(missing[-1], home, names) if missing else _within(home, names)


@contextmanager
def _within(home: Path, names: Sequence[str]) -> Generator[Path]:
    with staged(home, Path.mkdir) as folder:
        yield folder
        _keep_modes(folder, home)
        reach_disk(folder)
        exchange(folder, home, names)


def _keep_modes(folder: Path, home: Path) -> None:
    """Give files of a folder the modes of those that they replace."""
    for file in folder.rglob("*"):
        earlier = home / file.relative_to(folder)
        if file.is_file() and earlier.is_file():
            shutil.copymode(earlier, file)


@contextmanager
def _anew(top: Path, home: Path, names: Sequence[str]) -> Generator[Path]:
    """Hand out a folder that becomes `home`, with those above it up to `top`, in one move."""
    with staged(top.parent, Path.mkdir) as stage:
        folder = stage / home.relative_to(top)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        reach_disk(folder)
        try:
            stage.rename(top)
        except OSError as error:
            # Another process may have made it meanwhile.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            with _replacing(home, names) as inner:
                _move_entries(folder, inner)


def _move_entries(folder: Path, other: Path) -> None:
    for entry in folder.iterdir():
        entry.rename(other / entry.name)
