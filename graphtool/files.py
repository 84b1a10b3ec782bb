"""Write files atomically: whoever reads finds the old version or the new one, whole.

A file is written under a temporary name beside its target, and renamed over it. Files that belong
together, such as a program and its parameters, are switched at one instant: see `_switch`.
Whatever ends a writer, readers find whole versions and repair nothing. A writer that is killed may
leave `.graphtool-*.tmp` beside the target, which a later writer of the same target removes; if it
was killed in the middle of a switch, the names are links into it until then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from graphtool.diagnostics import Diagnostic, GraphtoolError, Severity, rule
from graphtool.interrupts import signals_deferred
from graphtool.paths import unwritable_help

__all__ = [
    "atomic_replace",
    "atomic_write",
    "check_writable",
    "exists_already",
    "is_temporary",
    "os_errors_reported",
    "remove_temporaries",
    "resolve_links",
    "unwritable_output",
    "write_text",
]

_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_DESCRIPTOR = re.compile(
    r"/dev/(?P<name>std(?:in|out|err))|(?:/dev|/proc/self)/fd/(?P<number>\d+)", re.ASCII
)
# The folder of earlier files: a name that no user gives to one.
_OLD = ".graphtool-old"
_TEMPORARY = re.compile(r"\.graphtool-[0-9a-f]{8}-.*\.tmp")
# In seconds: what has not changed for so long was left by a writer that was killed.
_LEFT_BEHIND = 3600
# How file systems refuse links.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The temporary files and folders of this process.
_temporaries: set[Path] = set()


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
    known by the checksums in `student.graphtool`, is replaced.
    """
    return Diagnostic(message=message, help=help, severity=severity)


def check_writable(path: str | PathLike[str]) -> None:
    """Check that a file can be written, before its content is computed.

    Raises GraphtoolError: GT601.
    """
    given, target = Path(path), resolve_links(path)
    with os_errors_reported(given):
        if target.is_dir():
            raise _os_error(errno.EISDIR)
        if target.exists() and (not target.is_file() or _descriptor(given) is not None):
            return
        os.stat(f"{target.parent}/.")  # noqa: PTH116  # a Path has no such part
        read_only = target.exists() and not os.access(target, os.W_OK)
        if read_only or not os.access(target.parent, os.W_OK | os.X_OK):
            raise _os_error(errno.EACCES)


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
def os_errors_reported(path: Path, folder: Path | None = None) -> Generator[None]:
    """Turn an OSError of the body into GT601 for a path.

    If a `folder` is given, an error about a file outside of it propagates: it is about an input.

    Raises GraphtoolError: GT601.
    """
    try:
        yield
    except OSError as error:
        # An error about a full disk names no file.
        if folder is not None and isinstance(error.filename, str | bytes):
            file = Path(os.path.realpath(os.fsdecode(error.filename)))
            if not file.is_relative_to(folder):
                raise
        reason = error.strerror or str(error)
        raise GraphtoolError(unwritable_output(str(path), reason)) from None


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def resolve_links(path: str | PathLike[str]) -> Path:
    """Return a path with all symbolic links resolved.

    Raises GraphtoolError: GT601 if the links form a circle or the path is invalid.
    """
    try:
        target = Path(path).resolve()
        if target.is_symlink():
            raise _os_error(errno.ELOOP)
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
def atomic_write(path: str | PathLike[str]) -> Generator[Path]:
    """Yield a temporary file that replaces `path` when the body returns, and keeps its mode.

    If the body raises, the old file stays. Pipes and devices are yielded themselves. Where
    `/dev/stdout` and the like are files, the temporary file is copied to them.

    Raises GraphtoolError: GT601 if `path` can't be written; nothing has changed then. Errors of the
    body about other files propagate.
    """
    given, target = Path(path), resolve_links(path)
    with os_errors_reported(given):
        is_there, is_file = given.exists(), given.is_file()
    descriptor = _descriptor(given) if is_there else None
    if is_there and not is_file:
        with os_errors_reported(given, target.parent):
            yield given
    elif descriptor is not None:
        from tempfile import TemporaryDirectory

        # Others have it open: it must not be moved.
        with TemporaryDirectory() as folder, os_errors_reported(given, Path(folder)):
            yield (file := Path(folder, "file"))
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                stream.write(file.read_bytes())
    else:
        with os_errors_reported(given, target.parent):
            if is_there:
                target.open("ab").close()
            with _temporary(target.parent, target.name, Path.touch) as temporary:
                yield temporary
                if target.exists():
                    shutil.copymode(target, temporary)
                _reach_disk(temporary)
                temporary.replace(target)


@contextmanager
def atomic_replace(path: Path, folder: Path, names: Iterable[str] = ()) -> Generator[Path]:
    """Yield a temporary folder whose files replace those of `folder` at one instant, all or none.

    `names` are files of `folder` that belong to them: those that get no new file are removed. The
    folder is made if missing. Nothing has changed if the body raises or a file cannot be replaced.
    Files keep the modes of those that they replace; where one is a link, the file it points to is
    replaced. On a file system without links the files are replaced one after another.

    Raises GraphtoolError: GT601 for `path`, the path that the caller was asked to write. Errors of
    the body about other files propagate.
    """
    home = resolve_links(folder)
    with os_errors_reported(path):
        above = next(parent for parent in (home, *home.parents) if parent.exists())
    # The first folder that is missing, if one is.
    top = Path(above, *home.relative_to(above).parts[:1])
    target = f"{path.name}.*" if above == home else f"{top.name}/"
    with os_errors_reported(path, above), _temporary(above, target, Path.mkdir) as stage:
        files = stage / "new" if above == home else stage / home.relative_to(top)
        files.mkdir(parents=True, exist_ok=True)
        yield files
        with os_errors_reported(path):
            _reach_disk(files)
            if above == home:
                with _locked(home), signals_deferred(*_SIGNALS):
                    _switch(stage, home, names)
                return
            try:
                stage.rename(top)
            except OSError as error:
                # Another process may have made `top` meanwhile.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                with atomic_replace(path, folder, names) as other:
                    shutil.copytree(files, other, dirs_exist_ok=True)


@contextmanager
def _temporary(folder: Path, target: str, make: Callable[[Path], object]) -> Generator[Path]:
    """Make a temporary file or folder for a target, and remove it afterwards if it is there.

    If all went well, those that killed writers of the same target have left go as well. `target`
    is the name of a file, `NAME/` for a folder, `NAME.*` for files in one.
    """
    # A name may be as long as names can be.
    prefix = f".graphtool-{zlib.crc32(os.fsencode(target)):08x}-"
    path = folder / f"{prefix}{os.urandom(8).hex()}.tmp"
    _temporaries.add(path)
    try:
        make(path)
        yield path
    finally:
        with signals_deferred(*_SIGNALS):
            _remove(path)
            _temporaries.discard(path)
    for other in folder.glob(f"{prefix}*.tmp"):
        with suppress(OSError):
            changed = max(entry.lstat().st_mtime for entry in (other, *other.rglob("*")))
            if time.time() - changed > _LEFT_BEHIND:
                # No file name leads there any more: this writer has made files of them all.
                shutil.rmtree(other) if other.is_dir() else other.unlink()


def remove_temporaries() -> None:
    """Remove the temporary files of this process, which is about to end."""
    for path in list(_temporaries):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if not path.is_dir():
            path.unlink(missing_ok=True)
        # In the middle of a switch, names lead there.
        elif not (path / _OLD).exists():
            shutil.rmtree(path)


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that a killed writer may have left."""
    return _TEMPORARY.fullmatch(name) is not None


def _switch(stage: Path, home: Path, names: Iterable[str]) -> None:
    """Put the files of `stage/new` in the place of the files `names` of a folder, at one instant.

    Each name becomes a symbolic link to `stage/current/NAME`. There `current` is a link to `old`,
    which holds the earlier files, until a rename makes it one to `new`. Then the names become files
    again. At any time, all of them lead to old files, or all to new ones.
    """
    new, old, current, turned = (stage / part for part in ("new", _OLD, "current", "turned"))
    _settle(_left_places(stage, home), stage)
    places = {name: _followed(home / name) for name in (*names, *_files_in(new))}
    try:
        for name, place in places.items():
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.parent.stat().st_dev != stage.stat().st_dev:
                raise _os_error(errno.EXDEV)
            if place.is_file():
                _link_or_copy(place, old / name)
            with suppress(FileNotFoundError):
                shutil.copymode(place, new / name)
        try:
            current.symlink_to(old.name)
            turned.symlink_to(new.name)
            for name, place in places.items():
                (stage / "link").symlink_to(os.path.relpath(current / name, place.parent))
                (stage / "link").replace(place)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _replace_each(new, places)
        else:
            turned.replace(current)
    finally:
        _settle(places, stage)
        shutil.rmtree(old, ignore_errors=True)


def _replace_each(new: Path, places: Mapping[str, Path]) -> None:
    """Replace files one after another: this file system has no links."""
    for name, place in places.items():
        if (new / name).exists():
            (new / name).replace(place)
        elif place.is_file():
            place.unlink()


def _left_places(stage: Path, home: Path) -> dict[str, Path]:
    """Return the places that killed writers of the same target may have left as links."""
    left = home.glob(f"{stage.name[:20]}*.tmp")
    names = {name for one in left for part in (_OLD, "new") for name in _files_in(one / part)}
    return {name: _followed(home / name) for name in names}


def _settle(places: Mapping[str, Path], stage: Path) -> None:
    """Make files of names that are links into the folder of a switch."""
    for name, place in places.items():
        if place.is_symlink():
            file, settled = Path(os.path.realpath(place)), stage / "settled"
            if file.is_file():
                # A reader may just have read where the link leads: the file stays there as well.
                _link_or_copy(file, settled)
                settled.replace(place)
            else:
                place.unlink()
        if "/" in name and not place.exists():
            # A folder for files of this version alone.
            with suppress(OSError):
                place.parent.rmdir()


def _link_or_copy(file: Path, other: Path) -> None:
    try:
        os.link(file, other)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(file, other)


def _followed(path: Path) -> Path:
    """Follow links of the user's, not those of a switch."""
    while path.is_symlink() and not any(map(is_temporary, path.readlink().parts)):
        path = path.parent / path.readlink()
    return path


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Let another writer of a folder finish first. Some file systems have no locks."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _files_in(folder: Path) -> list[str]:
    # `os.walk` passes over what another writer removes meanwhile.
    found = (Path(above, name) for above, _, names in os.walk(folder) for name in names)
    return [str(file.relative_to(folder)) for file in found if file.is_file()]


def _reach_disk(path: Path) -> None:
    """Wait until a file, or all files of a folder, are on the disk: 6 ms for a small one on ext4.

    A name that is moved onto an earlier file may reach the disk before its bytes do: both would be
    lost where the power fails, and a checkpoint is what hours of training are.
    """
    for file in [path] if path.is_file() else [path / name for name in _files_in(path)]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
