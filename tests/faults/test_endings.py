"""How a command ends where a signal, a reader that left, or a vanished input ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphtool.diagnostics import ReadError
from graphtool.readers.tensor_files import read_tensors
from tests.faults.children import run_child
from tests.faults.commands import CNN, Command
from tests.faults.folders import contents, strays
from tests.faults.steps import signals_at

pytestmark = pytest.mark.nightly

Place = Callable[[], Path]
RECIPE = Command(("suggest-pairs", CNN, CNN, "-o", "pairs.toml"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("sent", SIGNALS)
def test_a_signal_ends_a_command_with_the_status_of_a_shell_and_without_a_word(
    sent: signal.Signals, place: Place
) -> None:
    folder, said = place(), place() / "said"

    def work() -> int:
        signals_at(0, sent)
        return RECIPE.work(folder)

    assert run_child(work, said) == 128 + sent
    assert said.read_text() == ""
    assert contents(folder) == {}
    assert strays(folder) == []


WHILE_IMPORTING = """
import os, signal, sys
from graphtool.cli import main
_, awaited, sent = sys.argv

class Sender:
    def find_spec(self, name, *_):
        if name == awaited:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(sent))

sys.meta_path.insert(0, Sender())
sys.argv = ["graphtool", "explain", "GT001"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("awaited", "sent", "status"),
    [
        ("graphtool.cli._running", signal.SIGINT, 130),
        # As the system ends a process that has no handler.
        ("graphtool.files", signal.SIGTERM, -signal.SIGTERM),
        ("graphtool.cli._arguments", signal.SIGINT, 130),
        ("graphtool.cli._explain", signal.SIGTERM, 143),
    ],
)
def test_a_signal_that_comes_while_a_command_is_imported_ends_it_without_a_word(
    awaited: str, sent: signal.Signals, status: int
) -> None:
    argv = [sys.executable, "-c", WHILE_IMPORTING, awaited, str(int(sent))]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_a_signal_that_is_ignored_stays_ignored(place: Place) -> None:
    folder = place()

    def work() -> int:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals_at(0, signal.SIGHUP)
        return RECIPE.work(folder)

    assert run_child(work, Path(os.devnull)) == 0
    assert list(contents(folder)) == ["pairs.toml"]


WHILE_PADDLE_IS_THERE = """
import os, signal, sys
from graphtool.cli import main
from graphtool.sources import builder
build = builder._build
def interrupted(*arguments, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    return build(*arguments, **options)
builder._build = interrupted
sys.argv = ["graphtool", "inspect", "paddle.vision.models:LeNet", "--input", "1,28,28"]
sys.exit(main())
"""


def test_paddle_does_not_report_a_crash_where_a_command_is_terminated() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHILE_PADDLE_IS_THERE], capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (143, b"", b"")


def test_streams_that_are_closed_take_everything(place: Place) -> None:
    folder = place()
    command = f"{sys.executable} -m graphtool suggest-pairs {CNN} {CNN} -o p.toml >&- 2>&- <&-"
    done = subprocess.run(command, shell=True, cwd=folder, check=False)

    assert done.returncode == 0
    assert (folder / "p.toml").read_text().startswith("# A recipe of graphtool")


def test_a_reader_of_stderr_that_left_does_not_keep_a_recipe_from_being_written(
    place: Place,
) -> None:
    folder = place()
    reading, writing = os.pipe()
    os.close(reading)
    encoder = Path(CNN).with_name("encoder.json")
    argv = ["suggest-pairs", CNN, str(encoder), "-o", "p.toml"]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "graphtool", *argv],
            stdout=subprocess.DEVNULL,
            stderr=pipe,
            cwd=folder,
            check=False,
        )

    assert done.returncode == 0
    assert (folder / "p.toml").exists()


def test_a_reader_that_left_before_the_picture_is_not_success(place: Place) -> None:
    folder = place()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "graphtool", "suggest-pairs", CNN, CNN, "--render=p.dot"],
            stdout=pipe,
            cwd=folder,
            check=False,
        )

    assert done.returncode == 141
    assert list(folder.iterdir()) == []


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def empty(folder: Path) -> None:
    os.truncate(folder / "cnn.json", 0)


@pytest.mark.parametrize("vanish", [remove, empty])
def test_a_model_that_vanishes_before_it_is_read_is_a_diagnostic(
    vanish: Callable[[Path], object], place: Place
) -> None:
    folder, said = place(), place() / "said"
    models = folder / "models"
    models.mkdir()
    shutil.copy(CNN, models)

    def work() -> int:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and str(arguments[0]).endswith("cnn.json") and models.exists():
                vanish(models)

        sys.addaudithook(hook)
        return Command(("inspect", "models/cnn.json")).work(folder)

    assert run_child(work, said) == 1
    assert said.read_text()[:12] in ("error[GT010]", "error[GT004]")


@pytest.mark.parametrize("size", [0, 10, 40])
def test_parameters_that_are_cut_short_while_they_are_read_are_a_diagnostic(
    size: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = place() / "control.pdiparams"
    shutil.copy(Path(CNN).with_name("control.pdiparams"), file)
    read = np.fromfile

    def cut(*arguments: Any) -> Any:
        os.truncate(file, size)
        return read(*arguments)

    monkeypatch.setattr(np, "fromfile", cut)
    with pytest.raises(ReadError, match=r"GT240.*cut short while it was read"):
        read_tensors(file)
