"""What the next writer takes away of others, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from graphtool import read
from graphtool.files import atomic_replace, write_text
from graphtool.readers.weights import persistable_values, read_weights
from graphtool.staging import finish_exchanges, staged, tidy
from tests.faults.children import ended, start
from tests.faults.commands import CNN
from tests.faults.folders import contents, strays

pytestmark = pytest.mark.nightly

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


def make_old(path: Path, seconds: int = TWO_DAYS) -> None:
    changed = time.time() - seconds
    os.utime(path, (changed, changed))


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
    theirs = left.with_name(".graphtool-01234567-0123456789ab-0123456789abcdef.tmp")
    left.rename(theirs)
    tidy(folder)
    assert theirs.is_dir()

    make_old(theirs)
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
    os.mkfifo(folder / name.replace(name[-5:], "0.tmp" if name[-5] != "0" else "1.tmp"))
    tidy(folder)

    assert len(strays(folder)) == 2
    assert (outside / "file").read_text() == "outside"


@pytest.mark.parametrize("ending", [".ready", ".earlier"])
def test_files_whose_place_a_newer_one_took_are_dropped_with_all_of_their_set(
    place: Place, ending: str
) -> None:
    folder = place()
    left_in_an_exchange(folder, ending, "a", "b")
    (folder / "a").write_text("new")
    tidy(folder)

    assert contents(folder) == {"a": b"new"}
    assert strays(folder) == []


def left_in_an_exchange(folder: Path, ending: str, *names: str) -> Path:
    """Kill a writer whose files wait to be moved, on or back, and return where they wait."""
    left = left_by_a_killed_writer(folder)
    waiting = left.with_suffix(ending)
    if ending == ".ready":
        left.rename(waiting)
    else:
        waiting.mkdir()
    for name in names:
        (waiting / name).write_text("waiting")
    return waiting


@pytest.mark.parametrize("age", [0, TWO_DAYS])
def test_files_of_two_writers_never_stand_side_by_side(place: Place, age: int) -> None:
    """Another machine's writer ended within its exchange; for a day, it may still live."""
    folder, names = place(), ("model", "pairs", "seal")
    ready = left_in_an_exchange(folder, ".ready", "pairs", "seal")
    theirs = ready.with_name(".graphtool-01234567-0123456789ab-0123456789abcdef.ready")
    ready.rename(theirs)
    (folder / "model").write_text("waiting")
    with atomic_replace(folder, [folder / name for name in names]) as made:
        (made / "model").write_text("new")
        (made / "seal").write_text("new")
        make_old(theirs, age)
    assert contents(folder) == {"model": b"new", "seal": b"new"}

    if theirs.exists():
        make_old(theirs)
    tidy(folder)
    assert contents(folder) == {"model": b"new", "seal": b"new"}
    assert strays(folder) == []


@pytest.mark.parametrize("part", ["host", "boot"])
def test_what_this_machine_left_before_it_booted_again_goes_at_once(
    place: Place, part: str
) -> None:
    """Containers on one kernel have different names, a machine has another kernel once it boots."""
    folder = place()
    left = left_by_a_killed_writer(folder)
    _, host, boot, token = left.stem.split("-")
    other = f"01234567-{boot}" if part == "host" else f"{host}-0123456789ab"
    left.rename(left.with_name(f".graphtool-{other}-{token}.tmp"))
    tidy(folder)

    assert strays(folder) == []


@pytest.mark.parametrize("ending", [".ready", ".earlier"])
def test_a_folder_that_a_link_leads_to_is_left_alone(place: Place, ending: str) -> None:
    folder, outside = place(), place()
    (outside / "thesis").write_text("mine")
    left = left_by_a_killed_writer(folder)
    left.with_suffix(ending).symlink_to(outside)
    tidy(folder)
    with staged(folder, Path.mkdir) as own:
        own.with_suffix(ending).symlink_to(outside)

    assert contents(outside) == {"thesis": b"mine"}
    assert contents(folder) == {}
    assert strays(folder) == sorted([left.name, left.with_suffix(ending).name])


@pytest.mark.parametrize("ending", [".ready", ".earlier"])
def test_a_reader_ends_an_exchange_and_takes_nothing_away(place: Place, ending: str) -> None:
    folder = place()
    unfinished = left_by_a_killed_writer(folder)
    waiting = left_in_an_exchange(other := place(), ending, "a", "b")
    for left in other.iterdir():
        left.rename(folder / left.name)
    before = {*strays(folder)} - {f"{waiting.name}/a", f"{waiting.name}/b"}
    finish_exchanges(folder)

    assert unfinished.is_dir()
    assert contents(folder) == {"a": b"waiting", "b": b"waiting"}
    assert {*strays(folder)} == before
    tidy(folder)
    assert contents(folder) == {"a": b"waiting", "b": b"waiting"}
    assert strays(folder) == []


def test_a_model_whose_export_was_killed_is_read(place: Place) -> None:
    folder = place()
    waiting = left_in_an_exchange(folder, ".ready")
    shutil.copy(CNN, waiting / "net.json")

    assert read(str(folder / "net.json")).source == str(folder / "net.json")


@pytest.mark.parametrize("named", ["", "net", "net.json", "net.pdiparams"])
def test_parameters_whose_export_was_killed_are_read(place: Place, named: str) -> None:
    folder = place()
    waiting = left_in_an_exchange(folder, ".ready")
    model = Path(CNN).with_name("control.json")
    for ending in (".json", ".pdiparams"):
        shutil.copy(model.with_suffix(ending), waiting / f"net{ending}")

    found = read_weights(folder / named, read(model))
    assert found.tensors.keys() == persistable_values(read(model)).keys()


def test_files_of_others_with_such_names_are_left_alone(place: Place) -> None:
    folder = place()
    names = [".graphtool-final.ready", ".graphtool-notes.tmp", ".graphtool-ab-cd.earlier"]
    for name in names:
        (folder / name).mkdir()
        (folder / name / "mine").write_text("mine")
        make_old(folder / name)
    tidy(folder)
    finish_exchanges(folder)

    assert contents(folder) == {}
    assert all((folder / name / "mine").read_text() == "mine" for name in names)
