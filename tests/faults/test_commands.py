"""Commands and calls with a signal at each touch of a file; `python -m tests.faults` has all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graphtool as gt
from graphtool.cli._arguments import parsers
from tests.faults.commands import COMMANDS

pytestmark = pytest.mark.nightly

# Options that take a file, and read it.
READING = {"--pairs", "--teacher-weights", "--student-weights"}
# They write by one call of `write_text`, as a command does.
BY_COMMANDS = {"write_recipe"}


def test_whatever_writes_is_among_those_that_get_signals() -> None:
    lines = [command.argv for command in COMMANDS.values()]
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
    assert calls <= {line[0] for line in lines} | BY_COMMANDS


@pytest.mark.parametrize(
    ("command", "signal"),
    [
        ("suggest-pairs --force", "SIGINT"),
        ("render .svg", "SIGTERM"),
        ("merge -o, in new folders", "SIGTERM"),
        ("merge -o, new", "SIGKILL"),
        ("save_merged", "SIGKILL"),
        ("save_merged", "SIGINT"),
        ("export_student", "SIGKILL"),
        ("save_checkpoint", "SIGKILL"),
    ],
)
def test_at_each_touch_a_signal_leaves_the_old_or_the_new(command: str, signal: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", command, signal],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        check=False,
        text=True,
    )

    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[-1]) >= 5
