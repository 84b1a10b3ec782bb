"""Where files are written before they take their places, and what killed writers left there.

A writer makes a file or a folder `.graphtool-MACHINE-TOKEN.tmp` beside its target. The next writer
in that folder takes away what nobody writes to any more:

- A writer holds a lock on it, which the system lifts where its process ends, however that ends. So
  what can be locked is abandoned, and what cannot is left alone.
- Locks may not reach other machines. MACHINE is that of the writer, until it boots again: what
  another one wrote is abandoned when, besides, it has not changed for a day. So is what stands on a
  file system without locks.
- What belongs to another user is left alone, and so is all that is neither file nor folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

__all__ = ["exchange", "is_stage", "reach_disk", "staged", "tidy"]

_PREFIX = ".graphtool-"
# The endings tell how far an exchange is: to be written; the earlier ones; ready to be moved in.
_UNFINISHED, _EARLIER, _READY = ".tmp", ".earlier", ".ready"
_KINDS = frozenset({stat.S_IFREG, stat.S_IFDIR})
_A_DAY = 86_400
# Seconds: an exchange takes milliseconds.
_PATIENCE, _PAUSE = 10.0, 0.01


@contextmanager
def staged(folder: Path, make: Callable[[Path], None]) -> Generator[Path]:
    """Hand out what `make` makes in a folder; if it is still there afterwards, it is removed.

    Raises OSError.
    """
    tidy(folder)
    path = folder / f"{_PREFIX}{_machine()}-{os.urandom(8).hex()}{_UNFINISHED}"
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
        if lock is not None:
            os.close(lock)


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

    Raises OSError with nothing changed.
    """
    earlier, ready = new.with_suffix(_EARLIER), new.with_suffix(_READY)
    with _alone(home):
        moves = [
            *((home / name, earlier / name) for name in reversed(names) if _is_there(home / name)),
            (new, ready),
            *((ready / name, home / name) for name in names if _is_there(new / name)),
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
    return name.startswith(_PREFIX)


def tidy(folder: Path) -> None:
    """Take away what writers that were killed left in a folder, and end what they had begun.

    What cannot be taken away stays.
    """
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if is_stage(entry.name)]
        stages = {Path(folder, name).with_suffix(_UNFINISHED) for name in names}
        if not stages:
            return
        with _alone(folder):
            for stage in sorted(stages):
                _settle_abandoned(stage)


def _settle_abandoned(stage: Path) -> None:
    places = (stage.with_suffix(ending) for ending in (_READY, _UNFINISHED, _EARLIER))
    leader = next((place for place in places if _is_there(place)), None)
    if leader is None:
        return
    with suppress(OSError):
        # Pipes are not waited for, and links lead nowhere.
        descriptor = os.open(leader, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _is_abandoned(descriptor, leader.name):
                _settle(stage)
        finally:
            os.close(descriptor)


def _is_abandoned(descriptor: int, name: str) -> bool:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or stat.S_IFMT(found.st_mode) not in _KINDS:
        return False
    is_ours = name.startswith(f"{_PREFIX}{_machine()}-")
    try:
        if not _try_lock(descriptor):
            return False
    except OSError:
        is_ours = False
    return is_ours or time.time() - found.st_mtime > _A_DAY


def _settle(stage: Path) -> None:
    """Remove what was staged; an exchange that had begun is ended, or undone."""
    earlier, ready = stage.with_suffix(_EARLIER), stage.with_suffix(_READY)
    with suppress(OSError):
        if ready.is_dir():
            _move_home(ready)
        elif earlier.is_dir() and stage.is_dir():
            _move_home(earlier)
        for place in (ready, earlier, stage):
            _remove(place)


def _move_home(place: Path) -> None:
    """Move files to the folder that holds their folder, unless others took their places."""
    for file in sorted(place.iterdir()):
        home = place.with_name(file.name)
        if not _is_there(home):
            file.rename(home)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


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
def _machine() -> str:
    """Return what no other running kernel is called; all containers of one share its locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").replace("-", "")[:12]
    except OSError:
        return os.uname().nodename
