"""What the next writer takes away of others, and what it leaves alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from graphtool.files import write_text
from graphtool.staging import staged, tidy
from tests.faults.children import ended, start
from tests.faults.folders import contents, strays

TWO_DAYS = 2 * 86_400
Place = Callable[[], Path]


def left_by_a_killed_writer(folder: Path) -> Path:
    """Kill a writer at its work, and return what it has left."""
    child = held(folder)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == 137
    return folder / strays(folder)[0]


def held(folder: Path) -> int:
    """Start a writer that does not come to an end."""

    def work() -> int:
        with staged(folder, Path.mkdir):
            signal.pause()
        return 0

    child = start(work, Path(os.devnull))
    while not strays(folder):
        time.sleep(0.01)
    # Until it is locked, it is anyone's.
    time.sleep(0.1)
    return child


def test_what_a_writer_that_lives_holds_stays_and_what_a_dead_one_left_goes(place: Place) -> None:
    folder = place()
    left_by_a_killed_writer(folder)
    child = held(folder)
    (kept,) = set(strays(folder))
    write_text(folder / "file", "text")

    assert strays(folder) == [kept]
    assert contents(folder) == {"file": b"text"}
    os.kill(child, signal.SIGKILL)
    ended(child)
    write_text(folder / "file", "text")
    assert strays(folder) == []


def test_what_is_made_but_not_yet_locked_is_made_again(place: Place) -> None:
    folder, made = place(), list[Path]()

    def make(path: Path) -> None:
        path.mkdir()
        made.append(path)
        if len(made) == 1:
            tidy(folder)

    with staged(folder, make) as path:
        assert path.is_dir()
        tidy(folder)
        assert path.is_dir()
    assert made == [path, path]
    assert strays(folder) == []


def test_what_another_machine_left_stays_for_a_day(place: Place) -> None:
    folder = place()
    left = left_by_a_killed_writer(folder)
    theirs = left.with_name(".graphtool-0123456789ab-0123456789abcdef.tmp")
    left.rename(theirs)
    tidy(folder)
    assert theirs.is_dir()

    long_ago = time.time() - TWO_DAYS
    os.utime(theirs, (long_ago, long_ago))
    tidy(folder)
    assert not theirs.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_left_stays(place: Place) -> None:
    left = left_by_a_killed_writer(folder := place())
    os.chown(left, 65534, 65534)
    tidy(folder)
    assert left.is_dir()


def test_what_is_neither_file_nor_folder_stays_and_nobody_waits_for_it(place: Place) -> None:
    folder, outside = place(), place()
    (outside / "file").write_text("outside")
    name = left_by_a_killed_writer(folder).name
    tidy(folder)
    (folder / name).symlink_to(outside)
    os.mkfifo(folder / f"{name[:-5]}.tmp")
    tidy(folder)

    assert len(strays(folder)) == 2
    assert (outside / "file").read_text() == "outside"


@pytest.mark.parametrize("ending", [".ready", ".earlier"])
def test_an_exchange_that_is_ended_later_overwrites_nothing(place: Place, ending: str) -> None:
    """Files that have come meanwhile are newer than those that wait to be moved."""
    folder = place()
    left = left_by_a_killed_writer(folder)
    waiting = left.with_suffix(ending)
    if ending == ".ready":
        left.rename(waiting)
    else:
        waiting.mkdir()
    (waiting / "a").write_text("waiting")
    (waiting / "b").write_text("waiting")
    (folder / "a").write_text("new")
    tidy(folder)

    assert contents(folder) == {"a": b"new", "b": b"waiting"}
    assert strays(folder) == []


def test_files_of_others_with_such_names_are_left_alone(place: Place) -> None:
    folder = place()
    (folder / ".graphtool-notes").write_text("mine")
    (folder / ".graphtool-notes.txt").write_text("mine")
    tidy(folder)
    assert strays(folder) == [".graphtool-notes", ".graphtool-notes.txt"]
