"""The command line: parse, make one library call, print."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from graphtool.cli._arguments import parse
from graphtool.cli._console import show_report, tolerate_narrow_encoding, write_json
from graphtool.diagnostics import GraphtoolError, Report, UsageError
from graphtool.files import unwritable_output

__all__ = ["main"]

_MODULES = {
    "inspect": "_inspect",
    "suggest-pairs": "_suggest",
    "check": "_check",
    "merge": "_merge",
    "render": "_render",
    "explain": "_explain",
}
# What such a command says in JSON, with its Diagnostics, where it could not do its work.
_REPORTING: dict[str, dict[str, object]] = {
    "check": {"mergeable": False},
    "merge": {"written": None},
}
# What a shell gives for SIGINT and for SIGPIPE.
_INTERRUPTED, _CUT_OFF = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 errors found, 2 wrong usage."""
    tolerate_narrow_encoding()
    given = sys.argv[1:] if argv is None else argv
    try:
        return _status(given)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _stop_writing()
        # A table may be cut short. That there is no verdict, or no folder, is not to pass for one.
        return _CUT_OFF if given and given[0] in _REPORTING else 0
    except OSError as error:
        _stop_writing()
        found = unwritable_output(error.filename or "stdout", error.strerror or str(error))
        show_report(Report((found if error.filename else replace(found, help=None),)))
        return 1


def _status(argv: Sequence[str]) -> int:
    try:
        return _run(argv)
    except GraphtoolError as error:
        show_report(error.report)
        return 2 if isinstance(error, UsageError) else 1
    finally:
        # Here, where it can be reported: what is left in the buffer fails at exit otherwise.
        sys.stdout.flush()


def _run(argv: Sequence[str]) -> int:
    args = parse(argv)
    # A command's module brings in what the command needs; --help needs none of it.
    module = import_module(f"graphtool.cli.{_MODULES[args.command]}")
    try:
        return module.run(args)
    except GraphtoolError as error:
        if args.command in _REPORTING and args.format == "json":
            _write_report(args, error.report)
        raise


def _write_report(args: Namespace, report: Report) -> None:
    from graphtool.cli._report import report_data

    data: dict[str, object] = {"schema": 1, "teacher": args.teacher, "student": args.student}
    write_json({**data, **_REPORTING[args.command], "diagnostics": report_data(report)})


def _stop_writing() -> None:
    """Point stdout nowhere: its reader (`head`) is gone, or its disk full; a flush would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
