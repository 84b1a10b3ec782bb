"""How files are written: interrupted or killed at each step, they are the old or the new, whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from graphtool.files import atomic_replace, write_text
from graphtool.staging import tidy
from tests.faults.children import ended, run_child, start
from tests.faults.folders import Contents, contents, is_part, strays
from tests.faults.steps import interrupted_at, signals_at

pytestmark = pytest.mark.nightly

NAMES = ("a", "b", "sub", "seal")
# As many steps as no writing has.
MANY = 10_000


@dataclass(frozen=True)
class Writing:
    """A piece of writing into a folder, what is there before it, and which folder is tidied."""

    write: Callable[[Path], None]
    prepare: Callable[[Path], None] = lambda _: None
    tidied: str = "."


def write_file(folder: Path) -> None:
    write_text(folder / "file", "new" * 1000)


def write_files(home: Path, text: str, *names: str) -> None:
    with atomic_replace(home, [home / name for name in NAMES]) as staged:
        for name in names:
            (staged / name).write_text(text)
        (staged / "sub").mkdir()
        (staged / "sub" / "inner").write_text(text)


def save(folder: Path) -> None:
    write_files(folder / "home", "new", "a", "seal")


def save_deep(folder: Path) -> None:
    write_files(folder / "one" / "two" / "home", "new", "a", "seal")


def earlier(folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "home" / "others").write_text("others")
    write_files(folder / "home", "old", "b", "seal")


def earlier_file(folder: Path) -> None:
    (folder / "file").write_text("old")


WRITINGS = {
    "a file": Writing(write_file),
    "a file over another": Writing(write_file, earlier_file),
    "a new folder": Writing(save),
    "a new folder in new folders": Writing(save_deep),
    "an empty folder": Writing(save, lambda folder: (folder / "home").mkdir(), "home"),
    "a folder over another": Writing(save, earlier, "home"),
}


def before_and_after(writing: Writing, place: Callable[[], Path]) -> tuple[Contents, Contents]:
    folder = place()
    writing.prepare(folder)
    before = contents(folder)
    writing.write(folder)
    assert strays(folder) == []
    return before, contents(folder)


@pytest.mark.parametrize("name", WRITINGS)
def test_an_interrupt_at_any_line_leaves_the_old_or_the_new_and_nothing_else(
    name: str, place: Callable[[], Path]
) -> None:
    writing = WRITINGS[name]
    before, after = before_and_after(writing, place)
    found: list[bool] = []
    for step in range(MANY):
        folder = place()
        writing.prepare(folder)
        if not interrupted_at(step, partial(writing.write, folder)):
            break
        assert strays(folder) == [], step
        assert contents(folder) in (before, after), step
        found.append(contents(folder) == after)

    assert len(found) > 200
    assert found == sorted(found)
    assert set(found) == {False, True}


@pytest.mark.parametrize("name", WRITINGS)
def test_a_kill_at_any_touch_leaves_what_the_next_writer_makes_the_old_or_the_new(
    name: str, place: Callable[[], Path]
) -> None:
    writing = WRITINGS[name]
    before, after = before_and_after(writing, place)
    found: list[bool] = []
    for step in range(MANY):
        folder = place()
        writing.prepare(folder)
        if killed_at(step, writing, folder) == 0:
            break
        left = contents(folder)
        assert is_part(left, before) or is_part(left, after), step
        tidy(folder)
        tidy(folder / writing.tidied)
        assert strays(folder) == [], step
        assert contents(folder) in (before, after), step
        found.append(contents(folder) == after)

    assert len(found) >= 5
    assert found == sorted(found)
    assert set(found) == {False, True}


def killed_at(step: int, writing: Writing, folder: Path) -> int:
    def work() -> int:
        signals_at(step, signal.SIGKILL)
        writing.write(folder)
        return 0

    return run_child(work, Path(os.devnull))


def test_two_processes_that_write_the_same_leave_one_of_both_whole(
    place: Callable[[], Path],
) -> None:
    folder = place()
    texts = ("one", "two")
    named: dict[str, str] = dict(zip(texts, "ab", strict=True))

    def work(text: str) -> int:
        for _ in range(10):
            write_files(folder / "new" / "home", text, named[text], "seal")
            write_text(folder / "file", text * 10_000)
        return 0

    children = [start(partial(work, text), Path(os.devnull)) for text in texts]

    assert [ended(child) for child in children] == [0, 0]
    assert strays(folder) == []
    assert (folder / "file").read_text() in [text * 10_000 for text in texts]
    assert contents(folder / "new" / "home") in [
        {named[text]: held, "seal": held, "sub": None, "sub/inner": held}
        for text, held in ((text, text.encode()) for text in texts)
    ]
