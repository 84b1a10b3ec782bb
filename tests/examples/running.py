"""Run an example as a user does, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lines_of(script: str, *arguments: str) -> list[str]:
    """Return what an example prints; its standard error is shown where it fails."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def numbers_in(line: str) -> list[float]:
    """Return the fractions that a line has: `0.091`."""
    return [float(found) for found in re.findall(r"\d+\.\d+", line)]
