"""Commands and calls with a signal at each touch of a file; `python -m tests.faults` has all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
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
