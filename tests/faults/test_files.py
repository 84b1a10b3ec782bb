"""How files are written: stopped at any touch of a file, they are the old or the new, whole."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from graphtool.diagnostics import GraphtoolError
from graphtool.files import atomic_replace, write_text
from tests.faults.children import ended, run_child, start
from tests.faults.folders import Contents, contents, make_old, strays
from tests.faults.steps import signals_at

pytestmark = pytest.mark.nightly

Place = Callable[[], Path]
NAMES = ("a", "b", "sub/inner", "seal")


@dataclass(frozen=True)
class Writing:
    """A piece of writing into a folder, and what is there before it."""

    write: Callable[[Path], None]
    prepare: Callable[[Path], None] = lambda _: None


def write_file(folder: Path) -> None:
    write_text(folder / "file", "new" * 1000)


def write_files(home: Path, text: str, *names: str) -> None:
    with atomic_replace(home, home, NAMES) as made:
        for name in names:
            (made / name).write_text(text)
        (made / "sub").mkdir()
        (made / "sub" / "inner").write_text(text)


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
    "an empty folder": Writing(save, lambda folder: (folder / "home").mkdir()),
    "a folder over another": Writing(save, earlier),
}


def before_and_after(writing: Writing, place: Place) -> tuple[Contents, Contents]:
    folder = place()
    writing.prepare(folder)
    before = contents(folder)
    writing.write(folder)
    assert strays(folder) == []
    return before, contents(folder)


def files(held: Contents) -> Contents:
    return {name: data for name, data in held.items() if data is not None}


def signalled_at(step: int, sent: int, writing: Writing, folder: Path) -> int:
    def work() -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signals_at(step, sent)
        try:
            writing.write(folder)
        except KeyboardInterrupt:
            return 130
        return 0

    return run_child(work, Path(os.devnull))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("name", WRITINGS)
def test_a_signal_at_any_touch_leaves_the_old_or_the_new_whole(
    name: str, sent: signal.Signals, place: Place
) -> None:
    writing = WRITINGS[name]
    before, after = before_and_after(writing, place)
    found: list[bool] = []
    for step in count():
        folder = place()
        writing.prepare(folder)
        if signalled_at(step, sent, writing, folder) == 0:
            break
        left = contents(folder)
        if sent == signal.SIGINT:
            assert left in (before, after), step
            assert strays(folder) == [], step
        # A kill may leave a folder for files to come.
        assert files(left) in (files(before), files(after)), step
        found.append(left == after)
        # The next writer of the same is not kept from its work, and removes what was left.
        make_old(folder)
        writing.write(folder)
        assert contents(folder) == after, step
        assert strays(folder) == [], step

    assert len(found) >= 4
    assert found == sorted(found)
    assert set(found) == {False, True}


@pytest.mark.parametrize("touch", ["symlink_to", "replace", "mkdir", "unlink"])
def test_an_error_at_any_step_leaves_the_old_and_nothing_else(
    touch: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in count():
        folder, left = place(), [step]
        earlier(folder)
        before, work = contents(folder), getattr(Path, touch)

        def failing(
            *given: Any, left: list[int] = left, work: Callable[..., Any] = work, **options: Any
        ) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.EIO, "Input/output error")
            return work(*given, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, touch, failing)
            try:
                save(folder)
            except GraphtoolError:
                is_failed = True
            else:
                is_failed = False
        if not is_failed or contents(folder) != before:
            break
        assert strays(folder) == []
    # Once the new files are in place, they stay.
    assert contents(folder)["home/a"] == b"new"
    assert contents(folder)["home/seal"] == b"new"


@pytest.mark.parametrize("missing", ["os.link", "os.symlink"])
def test_a_file_system_without_links_gets_the_files_one_after_another(
    missing: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    before, after = before_and_after(WRITINGS["a folder over another"], place)
    folder = place()
    earlier(folder)
    assert contents(folder) == before
    monkeypatch.setattr(missing, refused)
    save(folder)

    assert contents(folder) == after
    assert strays(folder) == []


def test_names_that_a_killed_writer_left_are_the_next_writers_to_replace(place: Place) -> None:
    """Also those that neither the old nor the new version of the next writer has."""
    writing = Writing(partial(write_three, text="killed", names=("c", "seal")), earlier)
    for step in count():
        folder = place()
        earlier(folder)
        status = signalled_at(step, signal.SIGKILL, writing, folder)
        if status == 0:
            break
        save(folder)
        assert contents(folder)["home/seal"] == b"new", step
        make_old(folder)
        save(folder)
        names = {path.name for path in (folder / "home").iterdir()}
        # That `c` is no file of the next writer's if it found the killed one's version whole.
        assert names - {"c"} == {"a", "seal", "sub", "others"}
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        assert strays(folder) == []


def write_three(folder: Path, text: str, names: tuple[str, ...]) -> None:
    write_files(folder / "home", text, *names)


def test_what_a_living_writer_or_that_of_another_target_has_stays(place: Place) -> None:
    folder = place()

    def work(name: str) -> int:
        with atomic_replace(folder / name, folder, ["file"]):
            signal.pause()
        return 0

    children = [start(partial(work, name), Path(os.devnull)) for name in ("one", "two")]
    while len(strays(folder)) < len(children):
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        assert ended(child) == 137
    left = strays(folder)

    def write() -> None:
        with atomic_replace(folder / "one", folder, ["file"]) as made:
            (made / "file").write_text("new")

    write()
    assert strays(folder) == left
    make_old(folder)
    write()
    assert len(strays(folder)) == 1
    assert contents(folder) == {"file": b"new"}


def test_a_file_of_the_same_name_leaves_what_names_lead_to(place: Place) -> None:
    """A killed writer's files stay readable until they are written again."""
    folder = place()
    one = Writing(partial(write_set, text="new"), partial(write_set, text="old"))
    for step in count():
        one.prepare(folder)
        assert signalled_at(step, signal.SIGKILL, one, folder) == 137
        if (folder / "set.a").is_symlink():
            break
    make_old(folder)
    write_text(folder / "set", "another")
    assert {(folder / f"set.{ending}").read_text() for ending in "ab"} <= {"old", "new"}


def write_set(folder: Path, text: str) -> None:
    with atomic_replace(folder / "set", folder, ["set.a", "set.b"]) as made:
        for ending in "ab":
            (made / f"set.{ending}").write_text(text)


def test_two_processes_that_write_the_same_leave_one_of_both_whole(place: Place) -> None:
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
