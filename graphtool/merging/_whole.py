"""Check files that Paddle wrote: it reports no error when the disk is full."""

from __future__ import annotations

import errno
import json
from pathlib import Path

from graphtool.diagnostics import ReadError
from graphtool.readers.tensor_files import parameter_file_facts

__all__ = ["check_not_truncated"]


def check_not_truncated(file: Path) -> None:
    """Check that a PIR program or parameter file is not truncated.

    Raises OSError.
    """
    try:
        if file.suffix == ".json":
            json.loads(file.read_bytes())
        elif file.suffix == ".pdiparams":
            parameter_file_facts(file)
    except (ValueError, ReadError):
        raise OSError(errno.EIO, "Paddle wrote a part of it: the disk may be full") from None
