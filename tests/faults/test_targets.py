"""Targets that are links, folders, devices or streams, and folders that cannot be written to."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from graphtool.diagnostics import GraphtoolError
from graphtool.files import atomic_replace, atomic_write, check_writable, write_text
from tests.faults.children import run_child
from tests.faults.commands import CNN
from tests.faults.folders import contents, strays
from tests.faults.test_files import write_files

pytestmark = pytest.mark.nightly

Place = Callable[[], Path]
NOBODY = 65534


def refusal(write: Callable[[], object]) -> str:
    with pytest.raises(GraphtoolError) as raised:
        write()
    (found,) = raised.value.report
    assert found.code == "GT601"
    return found.message


def test_a_link_stays_a_link_and_the_file_keeps_its_mode(place: Place) -> None:
    folder = place()
    (folder / "file").write_text("old")
    (folder / "file").chmod(0o600)
    (folder / "link").symlink_to("file")
    write_text(folder / "link", "new")

    assert (folder / "link").is_symlink()
    assert (folder / "file").read_text() == "new"
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o600


def test_files_that_are_replaced_together_keep_their_links_and_modes(place: Place) -> None:
    folder, disk = place(), place()
    write_files(folder, "old", "a", "b", "seal")
    (folder / "a").rename(disk / "real")
    (folder / "a").symlink_to(disk / "real")
    for file in (disk / "real", folder / "seal", folder / "sub" / "inner"):
        file.chmod(0o640)
    write_files(folder, "new", "a", "seal")

    assert (folder / "a").is_symlink()
    assert contents(disk) == {"real": b"new"}
    assert contents(folder) == {"a": b"new", "seal": b"new", "sub": None, "sub/inner": b"new"}
    for file in (disk / "real", folder / "seal", folder / "sub" / "inner"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_to_another_disk_is_not_replaced_together_with_files(
    place: Place, tmp_path: Path
) -> None:
    folder = place()
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system")
    write_files(folder, "old", "a", "seal")
    (folder / "a").unlink()
    (folder / "a").symlink_to(tmp_path / "real")
    (tmp_path / "real").write_text("old")
    before = contents(folder)

    assert refusal(partial(write_files, folder, "new", "a", "seal")).endswith("cross-device link")
    assert (folder / "a").is_symlink()
    assert contents(folder) == before
    assert strays(folder) == []


def test_a_thread_writes_as_the_main_one_does(place: Place) -> None:
    folder = place()
    (folder / "home").mkdir()
    with ThreadPoolExecutor() as threads:
        threads.submit(write_text, folder / "file", "new").result()
        threads.submit(write_files, folder / "home", "new", "a").result()

    assert contents(folder)["file"] == contents(folder)["home/a"] == b"new"
    assert strays(folder) == []


def test_a_link_to_a_file_that_is_yet_to_be_makes_it(place: Place) -> None:
    folder = place()
    (folder / "link").symlink_to("file")
    write_text(folder / "link", "new")
    assert (folder / "file").read_text() == "new"


def test_links_in_a_circle_are_a_diagnostic(place: Place) -> None:
    folder = place()
    (folder / "loop").symlink_to("loop")

    assert str(folder / "loop") in refusal(lambda: write_text(folder / "loop", "new"))
    refusal(lambda: write_files(folder / "loop", "new", "a"))
    assert strays(folder) == []


def test_a_folder_or_a_file_in_the_way_is_a_diagnostic(place: Place) -> None:
    folder = place()
    (folder / "folder").mkdir()
    (folder / "file").write_text("old")
    before = contents(folder)

    assert refusal(lambda: write_text(folder / "folder", "new")).endswith(": Is a directory")
    for path in (folder / "file", folder / "file" / "deep"):
        assert refusal(partial(write_files, path, "new", "a")).endswith(": Not a directory")
    assert contents(folder) == before
    assert strays(folder) == []


def test_a_device_is_written_to_as_such() -> None:
    write_text("/dev/null", "new")
    assert refusal(lambda: write_text("/dev/full", "new")).endswith(": No space left on device")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_stream_that_is_a_file_gets_the_text_where_it_stands(place: Place) -> None:
    said = place() / "said"

    def work() -> int:
        print("before", flush=True)
        write_text("/dev/stdout", "the text\n")
        write_text("/dev/fd/2", "once more\n")
        print("after")
        return 0

    assert run_child(work, said) == 0
    assert said.read_text() == "before\nthe text\nonce more\nafter\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_without_permission_is_a_diagnostic_and_stays_as_it_is(
    place: Place, mode: int
) -> None:
    folder = place()
    folder.parent.chmod(0o755)
    write_files(folder, "old", "b", "seal")
    (folder / "file").write_text("old")
    before = contents(folder)
    folder.chmod(mode)

    def work() -> int:
        os.setuid(NOBODY)
        home = folder / "new" / "home"
        for write in (
            lambda: write_text(folder / "file", "new"),
            lambda: check_writable(folder / "file"),
            lambda: check_writable(folder / "another"),
            lambda: write_files(folder, "new", "a", "seal"),
            lambda: write_files(home, "new", "a", "seal"),
        ):
            assert refusal(write).endswith(": Permission denied")
        return 0

    assert run_child(work, folder.parent / "said") == 0, (folder.parent / "said").read_text()
    assert contents(folder) == before
    assert strays(folder) == []


@pytest.mark.parametrize("most", [0, 3, 10])
def test_a_full_disk_is_a_diagnostic_and_the_earlier_files_stay(place: Place, most: int) -> None:
    """A limit on the size of files stands in for the disk."""
    folder = place()
    write_files(folder, "old", "b", "seal")
    (folder / "file").write_text("old")
    before = contents(folder)

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        for write in (
            lambda: write_text(folder / "file", "new" * 10),
            lambda: write_files(folder, "new" * 10, "a", "seal"),
            lambda: write_files(folder / "deep" / "home", "new" * 10, "a", "seal"),
        ):
            assert refusal(write).endswith(": File too large")
        return 0

    assert run_child(work, Path(os.devnull)) == 0
    assert contents(folder) == before
    assert strays(folder) == []


def test_a_failure_in_the_body_is_handed_on_and_leaves_nothing(place: Place) -> None:
    folder = place()
    home = folder / "one" / "two"

    def write() -> None:
        with atomic_replace(home, home, ["a"]) as made:
            (made / "a").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert list(folder.iterdir()) == []


def replaced(path: Path) -> AbstractContextManager[Path]:
    return atomic_replace(path, path.parent, [path.name])


@pytest.mark.parametrize("writer", [atomic_write, replaced])
def test_a_missing_input_is_not_blamed_on_the_output(
    writer: Callable[[Path], AbstractContextManager[Path]], place: Place
) -> None:
    folder = place()
    missing = place() / "input"

    def write(file: Path) -> None:
        with writer(folder / "file"):
            file.read_bytes()

    with pytest.raises(FileNotFoundError, match=str(missing)):
        write(missing)
    assert refusal(partial(write, folder / "no")).endswith(": No such file or directory")
    assert list(folder.iterdir()) == []


def test_what_is_printed_after_a_recipe_on_stdout_comes_after_it(place: Place) -> None:
    out = place() / "out"
    with out.open("wb") as sink:
        argv = ["suggest-pairs", CNN, CNN, "-o", "/dev/stdout"]
        done = subprocess.run([sys.executable, "-m", "graphtool", *argv], stdout=sink, check=False)

    text = out.read_text()
    assert done.returncode == 0
    assert text.startswith("# A recipe of graphtool")
    assert text.rindex("rank  kind") > text.rindex("[[pairs]]")
