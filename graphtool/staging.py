"""Where files are written before they take their places, and what killed writers left there.

A writer makes a file or a folder `.graphtool-HOST-BOOT-TOKEN.tmp` beside its target. The next
writer in that folder takes away what nobody writes to any more, and whoever reads there ends what
was begun:

- A writer holds a lock on it, which the system lifts where its process ends, however that ends. So
  what can be locked is abandoned, and what cannot is left alone.
- Locks may not reach other machines. HOST and BOOT are those of the writer: what was written under
  another name and another boot is abandoned when, besides, it has not changed for a day. So is what
  stands on a file system without locks.
- What belongs to another user is left alone, and so is all that is neither file nor folder.
- Files whose names were taken by newer ones meanwhile are dropped, with all that belong to them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

__all__ = [
    "exchange",
    "finish_exchanges",
    "is_stage",
    "reach_disk",
    "settle_own",
    "staged",
    "tidy",
]

# The endings tell how far an exchange is: to be written; the earlier ones; ready to be moved in.
_UNFINISHED, _EARLIER, _READY = ".tmp", ".earlier", ".ready"
_NAME = re.compile(
    r"\.graphtool-(?P<host>[0-9a-f]{8})-(?P<boot>[0-9a-f]{12})-[0-9a-f]{16}\.(?:tmp|earlier|ready)"
)
_KINDS = frozenset({stat.S_IFREG, stat.S_IFDIR})
_A_DAY = 86_400
# Seconds: an exchange takes milliseconds.
_PATIENCE, _PAUSE = 10.0, 0.01
# What this process writes to.
_own: set[Path] = set()


@contextmanager
def staged(folder: Path, make: Callable[[Path], None]) -> Generator[Path]:
    """Hand out what `make` makes in a folder; if it is still there afterwards, it is removed.

    Raises OSError.
    """
    tidy(folder)
    name = "-".join((".graphtool", *_machine(), os.urandom(8).hex()))
    path = folder / f"{name}{_UNFINISHED}"
    _own.add(path)
    lock = None
    try:
        # Twice: an interrupt may end the first.
        try:
            while lock is None:
                make(path)
                lock = _lock_of(path)
            yield path
        finally:
            _settle(path)
    finally:
        _settle(path)
        _own.discard(path)
        if lock is not None:
            os.close(lock)


def settle_own() -> None:
    """Take away what this process has staged, or end what it had begun: it is about to end."""
    for path in _own:
        _settle(path)


def _lock_of(path: Path) -> int | None:
    """Lock a path for as long as this process lives; None where it was tidied away meanwhile."""
    try:
        lock = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    # Some file systems have no locks.
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    if path.exists():
        return lock
    os.close(lock)
    return None


def exchange(new: Path, home: Path, names: Sequence[str]) -> None:
    """Put files of a staged folder of `home` in the place of those of `names`, all or none.

    The last of `names` is the last to get its place and the first to lose it. One that is there and
    gets no new file is taken away. At any time, there are none but old files, or none but new ones.
    Where a name is a link, it stays one, and what it leads to is replaced.

    Raises OSError with nothing changed, as where a link leads to another file system.
    """
    earlier, ready = new.with_suffix(_EARLIER), new.with_suffix(_READY)
    with _alone(home):
        # A writer that was killed since this one began must not move its files in afterwards.
        for stage in _stages(home) - {new}:
            _settle_abandoned(stage, _settle)
        places = [(name, _led_to(home / name)) for name in names]
        moves = [
            *((place, earlier / name) for name, place in reversed(places) if _is_there(place)),
            (new, ready),
            *((ready / name, place) for name, place in places if _is_there(new / name)),
        ]
        earlier.mkdir()
        _move_all(moves)


def _move_all(moves: Sequence[tuple[Path, Path]]) -> None:
    started: list[tuple[Path, Path]] = []
    try:
        for source, destination in moves:
            # Noted before: an interrupt between the two would lose the file.
            started.append((source, destination))
            source.rename(destination)
    except BaseException:
        for source, destination in reversed(started):
            if _is_there(destination) and not _is_there(source):
                destination.rename(source)
        raise


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Keep other processes from moving files of a folder, where its file system has locks.

    Raises BlockingIOError where another one does not come to its end.
    """
    descriptor, end = os.open(folder, os.O_RDONLY), time.monotonic() + _PATIENCE
    try:
        while not _is_locked(descriptor):
            if time.monotonic() > end:
                raise BlockingIOError(0, "another process is writing there")
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Lock a file; False where another process has, True where that cannot be had at all."""
    with suppress(OSError):
        return _try_lock(descriptor)
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_stage(name: str) -> bool:
    """Tell by its name what is no file of anyone's yet."""
    return _NAME.fullmatch(name) is not None


def tidy(folder: Path) -> None:
    """Take away what writers that were killed left in a folder, and end what they had begun.

    What cannot be taken away stays.
    """
    # A path to be read may hold a NUL.
    with suppress(OSError, ValueError):
        _settle_all(folder, _stages(folder), _settle)


def finish_exchanges(folder: Path) -> None:
    """End, for a reader, the exchanges that killed writers had begun in a folder.

    Nothing is taken away, and what cannot be moved stays.
    """
    with suppress(OSError, ValueError):
        _settle_all(folder, {stage for stage in _stages(folder) if _is_begun(stage)}, _finish)


def _stages(folder: Path) -> set[Path]:
    """List what writers, living or dead, have in a folder, as it was called at first."""
    names = [entry.name for entry in os.scandir(folder) if is_stage(entry.name)]
    return {Path(folder, name).with_suffix(_UNFINISHED) for name in names}


def _settle_all(folder: Path, stages: set[Path], settle: Callable[[Path], None]) -> None:
    if stages:
        with _alone(folder):
            for stage in sorted(stages):
                _settle_abandoned(stage, settle)


def _settle_abandoned(stage: Path, settle: Callable[[Path], None]) -> None:
    with suppress(OSError):
        found = [place for place in _places(stage) if _is_there(place)]
        if not found or not all(map(_is_own, found)):
            return
        # Pipes are not waited for, and links lead nowhere.
        descriptor = os.open(found[0], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _is_abandoned(descriptor, stage.name):
                settle(stage)
        finally:
            os.close(descriptor)


def _places(stage: Path) -> tuple[Path, Path, Path]:
    """List where the parts of a stage are; the writer's lock is on the first that is there."""
    return stage.with_suffix(_READY), stage, stage.with_suffix(_EARLIER)


def _is_own(path: Path) -> bool:
    """Tell a file or folder of this user's, which a link is not."""
    found = path.lstat()
    return found.st_uid == os.geteuid() and stat.S_IFMT(found.st_mode) in _KINDS


def _is_abandoned(descriptor: int, name: str) -> bool:
    is_here = _is_of_this_machine(name)
    try:
        if not _try_lock(descriptor):
            return False
    except OSError:
        is_here = False
    return is_here or time.time() - os.fstat(descriptor).st_mtime > _A_DAY


def _is_of_this_machine(name: str) -> bool:
    """Tell what this machine wrote: under this boot in any container, or before it booted again."""
    found, (host, boot) = _NAME.fullmatch(name), _machine()
    return found is not None and (found["host"] == host or found["boot"] == boot)


def _settle(stage: Path) -> None:
    """Remove what was staged; an exchange that had begun is ended, or undone."""
    with suppress(OSError):
        _finish(stage)
        ready, _, earlier = _places(stage)
        for place in (ready, earlier, stage):
            _remove(place)


def _finish(stage: Path) -> None:
    ready, _, earlier = _places(stage)
    if _is_begun(stage):
        _move_home(ready if _is_folder(ready) else earlier)


def _is_begun(stage: Path) -> bool:
    ready, _, earlier = _places(stage)
    return _is_folder(ready) or (_is_folder(earlier) and _is_folder(stage))


def _move_home(folder: Path) -> None:
    """Move files to where their folder lies, all of them, unless newer ones took such a place."""
    moves = [(file, _led_to(folder.with_name(file.name))) for file in sorted(folder.iterdir())]
    if not any(_is_there(place) for _, place in moves):
        for file, place in moves:
            file.rename(place)


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _is_folder(path: Path) -> bool:
    """Tell a folder, which a link to one is not."""
    return path.is_dir() and not path.is_symlink()


def _led_to(path: Path) -> Path:
    return Path(os.path.realpath(path))


def reach_disk(path: Path) -> None:
    """Wait until a file, or all files of a folder, are on the disk: 6 ms for a small one on ext4.

    A name that is moved onto an earlier file may reach the disk before its bytes do: both would be
    lost where the power fails, and a checkpoint is what hours of training are.

    Raises OSError.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@cache
def _machine() -> tuple[str, str]:
    """Return what this machine is called, and what no other running kernel is.

    All containers of one kernel share its locks, and its second name.
    """
    host = zlib.crc32(os.fsencode(os.uname().nodename))
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").replace("-", "")[:12]
    except OSError:
        boot = f"{host:012x}"
    return f"{host:08x}", boot
