"""The command line: parse, make one library call, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from graphtool.cli._arguments import parse
from graphtool.cli._console import show_report, tolerate_narrow_encoding
from graphtool.diagnostics import GraphtoolError, UsageError

__all__ = ["main"]

_MODULES = {"inspect": "_inspect", "suggest-pairs": "_suggest", "explain": "_explain"}
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 errors found, 2 wrong usage."""
    tolerate_narrow_encoding()
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except GraphtoolError as error:
        show_report(error.report)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _stop_writing()
    return status


def _run(argv: Sequence[str]) -> int:
    args = parse(argv)
    # A command's module brings in what the command needs; --help needs none of it.
    module = import_module(f"graphtool.cli.{_MODULES[args.command]}")
    return module.run(args)


def _stop_writing() -> int:
    """Point stdout nowhere: its reader (`head`) is gone, and the flush at exit would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
