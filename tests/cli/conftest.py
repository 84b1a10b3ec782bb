"""One way to run the command line in this process."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graphtool.cli import main


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def cells(self) -> list[list[str]]:
        """Return the cells of each line: what two blanks or more keep apart."""
        return [re.split(r"  +", line.strip()) for line in self.lines]

    def table(self, start: int, end: int | None = None) -> str:
        """Return some lines, with `|` between their cells."""
        return "\n".join("|".join(row) for row in self.cells[start:end])

    @property
    def names(self) -> list[str]:
        """Return the first word of each line but the first, which has titles."""
        return [line.split()[0] for line in self.lines[1:]]

    def row(self, first: str) -> str:
        """Return the line of a table that starts with a cell."""
        return next(line for line in self.lines if line.split()[:1] == [first])

    def assert_refused(self, status: int, *parts: str) -> None:
        """Check that a command ended with a status, no output, and an error that has parts."""
        assert (self.status, self.out) == (status, "")
        assert [part for part in parts if part not in self.err] == [], self.err


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str | Path) -> Outcome:
        status = main(list(map(str, argv)))
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return what writes a module into the working directory."""

    def write(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)
        # Another test's of the same name.
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="session")
def cnn(fixtures: Path) -> Path:
    """A residual network: 449 parameters, two stages, five classes."""
    return fixtures / "3.3.1" / "cnn.json"


@pytest.fixture(scope="session")
def old_cnn(fixtures: Path) -> Path:
    """The same network as Paddle 2.6.2 saves it."""
    return fixtures / "2.6.2" / "cnn.pdmodel"
