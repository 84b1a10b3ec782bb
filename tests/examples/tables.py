"""Read the table that the examples of distillation end with."""

from __future__ import annotations

from pathlib import Path

from tests.examples.running import lines_of, numbers_in

_ROWS = ("teacher", "student alone", "student with suggested pairs")


def means_of(script: str, plot: Path, *arguments: str) -> list[float]:
    """Run an example, and return the mean accuracies of its networks in percent."""
    lines = lines_of(script, "--plot", str(plot), *arguments)
    return [numbers_in(line)[0] for row in _ROWS for line in lines if f"│ {row} " in line]
