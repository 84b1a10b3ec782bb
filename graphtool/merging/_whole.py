"""What Paddle has written, read back: it does not say so where the disk is full."""

from __future__ import annotations

import errno
import json
from pathlib import Path

from graphtool.diagnostics import ReadError
from graphtool.readers.facts import parameter_file_facts

__all__ = ["check_whole"]


def check_whole(file: Path) -> None:
    """Refuse a file of which Paddle wrote a part: a PIR program, or parameters.

    Raises OSError.
    """
    try:
        if file.suffix == ".json":
            json.loads(file.read_bytes())
        elif file.suffix == ".pdiparams":
            parameter_file_facts(file)
    except (ValueError, ReadError):
        raise OSError(errno.EIO, "Paddle wrote a part of it: the disk may be full") from None
