"""Run graphtool on a pseudo-terminal, to see what a person sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["plain", "terminal"]


def terminal(
    columns: int,
    *argv: str | Path,
    folder: Path | None = None,
    stream: str = "stdout",
    **environment: str,
) -> str:
    """Run the command with one stream on a pseudo-terminal, and return all that it wrote there."""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "graphtool", *map(str, argv)],
        stdout=slave if stream == "stdout" else subprocess.DEVNULL,
        stderr=slave if stream == "stderr" else subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **environment},
    )
    os.close(slave)
    chunks: list[bytes] = []
    while chunk := _read(master):
        chunks.append(chunk)
    os.close(master)
    assert process.wait() == 0
    return b"".join(chunks).decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says EIO where the other side is closed.
        return b""


def plain(text: str) -> list[str]:
    """Take the colours out."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines()]
