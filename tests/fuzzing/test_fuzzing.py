"""A fixed part of the fuzzing: the rest is `python -m tests.fuzzing`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fuzzing.__main__ import SUBJECTS
from tests.fuzzing.cases import cases_of

pytestmark = pytest.mark.nightly


def test_hundreds_of_spoilt_inputs_are_read_or_diagnosed() -> None:
    """They are in a process of their own: what Paddle is imported into must not be forked."""
    command = [sys.executable, "-m", "tests.fuzzing", "--cases", "300", "--seed", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_case_is_the_same_each_time() -> None:
    once, again = (
        [(str(case), case.data()) for case in cases_of(SUBJECTS, 40, seed=3)] for _ in range(2)
    )
    assert once == again


_WORKER = """
from pathlib import Path
from tests.fuzzing.cases import Limits, run

def raises(data, folder): {}["x"]
def loops(data, folder):
    while True: pass
def hoards(data, folder): held = bytearray(1 << 30)
def fills(data, folder): held = b"x" * (100 << 20)
def dies(data, folder): import os; os.abort()
def leaves(data, folder): raise SystemExit(0)

for exercise in (raises, loops, hoards, fills, dies, leaves):
    result = run(exercise, b"", Limits(2, 50 << 20))
    what = result.what.partition(":")[0].lstrip("0123456789 ")
    print(exercise.__name__, result.outcome.value, what, sep=", ")
"""


def test_workers_tell_what_becomes_of_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WORKER], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "raises, raised, KeyError",
        "loops, out of time, _OutOfTimeError",
        "hoards, out of memory, MemoryError",
        "fills, out of memory, MB resident",
        "dies, died, SIGABRT",
        "leaves, raised, SystemExit",
    ]
