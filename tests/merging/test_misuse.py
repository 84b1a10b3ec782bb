"""What crashes an interpreter with Paddle alone is a Diagnostic through graphtool, or works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.nightly
def test_nothing_that_is_dead_foreign_or_its_own_teacher_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.merging.misuse"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout[done.stdout.index("{") :]) == {}
