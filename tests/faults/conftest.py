"""Folders to break things in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Callable[[], Path]]:
    """Give new folders, in memory where that can be: waiting for a disk is not what is tested."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        yield lambda: Path(tempfile.mkdtemp(dir=root))
