"""Write files atomically: whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from pathlib import Path

from graphtool.diagnostics import Diagnostic, GraphtoolError, Severity, rule
from graphtool.paths import unwritable_help
from graphtool.staging import exchange, reach_disk, staged

__all__ = [
    "atomic_replace",
    "atomic_write",
    "check_writable",
    "exists_already",
    "os_errors_reported",
    "resolve_links",
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
        help=unwritable_help(path, reason),
    )


@rule("GT604", replaces=("GT605", "GT606", "GT610", "GT616", "GT630", "GT636"))
def exists_already(message: str, help: str, severity: Severity = Severity.ERROR) -> Diagnostic:
    """Something else is in the way of a file or folder to write; it is left as it is.

    `--force` (`force=True`) replaces what graphtool wrote earlier: a recipe, which may have been
    edited, or a merged program. It leaves all other files alone, except for
    `gt.export_student(force=True)`. An export concludes a training, which an error would lose, so
    it is written beside the files in its way, or into a folder of its name; an earlier export,
    known by the checksums in `student.graphtool`, is replaced. `graphtool inspect` replaces what it
    wrote itself.
    """
    return Diagnostic(message=message, help=help, severity=severity)


def check_writable(path: str | PathLike[str]) -> None:
    """Check that a file can be written, before its content is computed.

    Raises GraphtoolError: GT601.
    """
    given, target = Path(path), resolve_links(path)
    with os_errors_reported(given):
        if target.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and (not target.is_file() or _descriptor(given) is not None):
            return
        target.parent.stat()
        if not target.parent.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        read_only = target.exists() and not os.access(target, os.W_OK)
        if read_only or not os.access(target.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file as UTF-8, atomically; line ends are not translated.

    Pipes and devices are written to directly.

    Raises GraphtoolError: GT601 if it can't be written; nothing has changed then.
    """
    # Names in a model's JSON may hold lone surrogates, which strict UTF-8 refuses.
    data = text.encode("utf-8", "surrogatepass")
    with atomic_write(path) as file:
        file.write_bytes(data)


@contextmanager
def atomic_write(path: str | PathLike[str]) -> Generator[Path]:
    """Yield a temporary file that replaces `path` when the body returns.

    If the body raises, the old file stays. Pipes and devices are yielded themselves. Where
    `/dev/stdout` and the like are files, the temporary file is copied to them.

    Raises GraphtoolError: GT601 if `path` can't be written; nothing has changed then. Errors of the
    body about other files propagate.
    """
    given, target = Path(path), resolve_links(path)
    unrelated: list[OSError] = []
    with os_errors_reported(given, but=unrelated):
        if given.exists() and not given.is_file():
            with _collect_unrelated(unrelated, target.parent):
                yield given
            return
        descriptor = _descriptor(given) if given.exists() else None
        with (
            _replacement(target) if descriptor is None else _copied_to(descriptor) as temporary,
            _collect_unrelated(unrelated, target.parent, temporary.parent),
        ):
            yield temporary


@contextmanager
def os_errors_reported(path: Path, *, but: Sequence[OSError] = ()) -> Generator[None]:
    """Turn an OSError of the body into GT601 for a path.

    Raises GraphtoolError: GT601. Errors in `but` propagate.
    """
    try:
        yield
    except OSError as error:
        if error in but:
            raise
        reason = error.strerror or str(error)
        raise GraphtoolError(unwritable_output(str(path), reason)) from None


@contextmanager
def _collect_unrelated(unrelated: list[OSError], *folders: Path) -> Generator[None]:
    """Collect an error about a file outside of the folders, such as a missing input."""
    try:
        yield
    except OSError as error:
        # An error about a full disk names no file.
        if isinstance(error.filename, str | bytes):
            file = Path(os.path.realpath(os.fsdecode(error.filename)))
            if not any(map(file.is_relative_to, folders)):
                unrelated.append(error)
        raise


def resolve_links(path: str | PathLike[str]) -> Path:
    """Return a path with all symbolic links resolved.

    Raises GraphtoolError: GT601 if the links form a circle or the path is invalid.
    """
    try:
        target = Path(path).resolve()
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return target
    # Until Python 3.13, links in a circle are a RuntimeError.
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GraphtoolError(unwritable_output(os.fspath(path), reason)) from None


def _descriptor(path: Path) -> int | None:
    """Return the file descriptor that a path such as `/dev/stdout` names."""
    match = _DESCRIPTOR.fullmatch(str(path))
    return None if match is None else int(match["number"] or _STREAMS[match["name"]])


@contextmanager
def _copied_to(descriptor: int) -> Generator[Path]:
    """Yield a temporary file that is copied to an open descriptor, whose file must not be moved."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder, "file")
        yield file
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(file.read_bytes())


@contextmanager
def _replacement(path: Path) -> Generator[Path]:
    """Yield a temporary file in the folder of `path` that replaces it unless the body raises."""
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
def atomic_replace(path: Path, targets: Sequence[Path]) -> Generator[Path]:
    """Yield a temporary folder whose files replace the `targets` of the same names, all or none.

    The targets share one folder, which is made if missing. The last target is the last to be moved
    in and the first to be moved out. A target without a new file is removed. Nothing has changed if
    the body raises or a file cannot be moved. Files keep the modes of those that they replace;
    where a target is a link, the file it points to is replaced.

    A process that is killed during the moves leaves its files beside the targets; the next writer
    completes the exchange or rolls it back. Old and new files are never mixed.

    Raises GraphtoolError: GT601 for `path`, the path that the caller was asked to write. Errors of
    the body about other files propagate.
    """
    home = resolve_links(targets[0].parent)
    folders = {resolve_links(target).parent for target in targets}
    names = [target.name for target in targets]
    unrelated: list[OSError] = []
    with (
        os_errors_reported(path, but=unrelated),
        _staging_folder(home, names) as folder,
        _collect_unrelated(unrelated, folder.parent, *folders),
    ):
        yield folder


def _staging_folder(home: Path, names: Sequence[str]) -> AbstractContextManager[Path]:
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    return _new_folder(missing[-1], home, names) if missing else _exchanged(home, names)


@contextmanager
def _exchanged(home: Path, names: Sequence[str]) -> Generator[Path]:
    """Yield a folder whose files replace those in `home`, which exists."""
    with staged(home, Path.mkdir) as folder:
        yield folder
        _keep_modes(folder, home)
        reach_disk(folder)
        exchange(folder, home, names)


def _keep_modes(folder: Path, home: Path) -> None:
    """Give the files of a folder the modes of those that they replace."""
    for file in folder.rglob("*"):
        replaced = home / file.relative_to(folder)
        if file.is_file() and replaced.is_file():
            shutil.copymode(replaced, file)


@contextmanager
def _new_folder(top: Path, home: Path, names: Sequence[str]) -> Generator[Path]:
    """Yield a folder that becomes `home` in one move, with its missing parents up to `top`."""
    with staged(top.parent, Path.mkdir) as stage:
        folder = stage / home.relative_to(top)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        reach_disk(folder)
        try:
            stage.rename(top)
        except OSError as error:
            # Another process may have made `top` meanwhile.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            with _staging_folder(home, names) as staging:
                for entry in folder.iterdir():
                    entry.rename(staging / entry.name)
