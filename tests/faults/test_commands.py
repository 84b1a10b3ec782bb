"""Commands and calls with a signal at each touch of a file; `python -m tests.faults` has all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graphtool as gt
from graphtool.cli._arguments import parsers
from tests.faults.commands import GROUPS

pytestmark = pytest.mark.nightly

# Options that take a file, and read it.
READING = {"--pairs", "--teacher-weights", "--student-weights"}


def test_whatever_writes_is_among_those_that_get_signals() -> None:
    lines = [command.argv for commands in GROUPS.values() for command in commands]
    unsent = {
        (name, option)
        for name, parser in parsers()[1].items()
        for action in parser._actions
        if action.metavar in ("FILE", "DIR", "FOLDER")
        for option in [*action.option_strings, action.dest][:1]
        if option not in READING
        and not any(
            line[0] == name and any(word.partition("=")[0] == option for word in line)
            for line in lines
        )
    }
    assert not unsent
    # What `gt.render` draws, the command of that name writes.
    calls = {name for name in gt.__all__ if name.startswith(("export_", "save_", "write_"))}
    assert calls <= {line[0] for line in lines}


@pytest.mark.parametrize(
    ("command", "signal"),
    [
        ("suggest-pairs -o, new", "SIGINT"),
        ("merge -o, in new folders", "SIGTERM"),
        ("export_student", "SIGKILL"),
    ],
)
def test_at_each_touch_a_signal_leaves_the_old_or_the_new(command: str, signal: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--rounds=0", "--only", command, "--signal", signal],
        capture_output=True,
        cwd=Path(__file__).parent.parent.parent,
        check=False,
    )

    text = done.stdout.decode()
    assert done.returncode == 0, text
    counts = text.splitlines()[-2].split("│")
    assert sum(int(cell) for cell in counts if cell.strip().isdecimal()) >= 8
