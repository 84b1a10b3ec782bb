"""Run one command: turn errors into diagnostics and an exit status."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module

from graphtool.cli._arguments import parse
from graphtool.cli._console import show_report, tolerate_narrow_encoding, write_json
from graphtool.cli._process import stop_writing
from graphtool.diagnostics import GraphtoolError, Report, UsageError
from graphtool.files import unwritable_output

__all__ = ["run"]

_MODULES = {
    "inspect": "_inspect",
    "suggest-pairs": "_suggest",
    "check": "_check",
    "merge": "_merge",
    "render": "_render",
    "doctor": "_doctor",
    "completion": "_completion",
    "explain": "_explain",
}
# Commands that print JSON with their diagnostics even if they fail, and the fields to add.
_JSON_DEFAULTS: dict[str, dict[str, object]] = {
    "check": {"mergeable": False},
    "merge": {"written": None},
}
# The exit status of a shell for SIGPIPE.
_SIGPIPE_STATUS = 141


def run(argv: Sequence[str]) -> int:
    """Run the command of a command line, and return the exit status.

    A KeyboardInterrupt passes through.
    """
    tolerate_narrow_encoding()
    try:
        return _run_and_flush(argv)
    except BrokenPipeError:
        stop_writing()
        return _SIGPIPE_STATUS if _does_more_than_print(argv) else 0
    except OSError as error:
        stop_writing()
        diagnostic = unwritable_output(error.filename or "stdout", error.strerror or str(error))
        _show(Report((diagnostic if error.filename else replace(diagnostic, help=None),)))
        return 1


def _does_more_than_print(argv: Sequence[str]) -> bool:
    """Return whether a closed pipe stops more than a table, which a reader may cut short.

    A missing verdict, folder or picture must not pass for success.
    """
    if not argv:
        return False
    return argv[0] in _JSON_DEFAULTS or any(word.startswith("--render") for word in argv)


def _run_and_flush(argv: Sequence[str]) -> int:
    try:
        status = _run_command(argv)
    except SystemExit:
        sys.stdout.flush()
        raise
    except GraphtoolError as error:
        _show(error.report)
        status = 2 if isinstance(error, UsageError) else 1
    # Flush here, where an error can be reported; at exit it cannot.
    sys.stdout.flush()
    return status


def _show(report: Report) -> None:
    """Print Diagnostics; a closed stderr is ignored, as the status reports the failure."""
    with suppress(OSError):
        show_report(report)


def _run_command(argv: Sequence[str]) -> int:
    args = parse(argv)
    # Imported only now: `--help` does without the modules of commands.
    module = import_module(f"graphtool.cli.{_MODULES[args.command]}")
    try:
        return module.run(args)
    except GraphtoolError as error:
        if args.command in _JSON_DEFAULTS and args.format == "json":
            _write_report(args, error.report)
        raise


def _write_report(args: Namespace, report: Report) -> None:
    from graphtool.cli._console import report_data

    data: dict[str, object] = {"schema": 1, "teacher": args.teacher, "student": args.student}
    write_json({**data, **_JSON_DEFAULTS[args.command], "diagnostics": report_data(report)})
