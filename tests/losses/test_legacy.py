"""Losses on live legacy Programs: the same numbers, and the same diagnostics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
AS_IT_SHOULD_BE = {
    "wrong": [],
    "refusals": {
        "unknown names": ["GT101", "GT101"],
        "shapes": ["GT333"],
        "ranks": ["GT333"],
        "softmax": ["GT228"],
        "frozen": ["GT348"],
        "frozen parameters": ["GT348"],
        "foreign": ["GT340"],
        "labels": ["GT346"],
        "temperature": ["GT347"],
        "custom": ["GT353"],
        "axis": ["GT336"],
        "one class": ["GT335"],
        "jumps": ["GT348"],
        "minimized": ["GT231"],
    },
    "broadcast": "[2, 4, 1, 1], X[1]'s shape = [2, 4, 6, 6]",
    "fixed batches": True,
    "classes of maps": True,
}


def answers(interpreter: str) -> tuple[str, dict[str, Any]]:
    done = subprocess.run(
        [interpreter, "-m", "tests.losses.legacy"],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return found.pop("version"), found


@pytest.mark.nightly
def test_losses_on_legacy_programs_of_paddle_3_are_those_of_numpy() -> None:
    version, found = answers(sys.executable)

    assert version.startswith("3.")
    assert found == AS_IT_SHOULD_BE


@pytest.mark.nightly
def test_losses_on_paddle_2_6_are_those_of_numpy(paddle26: str) -> None:
    version, found = answers(paddle26)

    assert version == "2.6.2"
    assert found == AS_IT_SHOULD_BE
