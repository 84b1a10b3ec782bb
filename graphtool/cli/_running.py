"""Run one command: what it raises is a Diagnostic, and an exit status."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module

from graphtool.cli._arguments import parse
from graphtool.cli._console import show_report, tolerate_narrow_encoding, write_json
from graphtool.cli._streams import stop_writing
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
    "demo": "_demo",
    "completion": "_completion",
    "explain": "_explain",
}
# What such a command says in JSON, with its Diagnostics, where it could not do its work.
_REPORTING: dict[str, dict[str, object]] = {
    "check": {"mergeable": False},
    "merge": {"written": None},
}
# What a shell gives for SIGPIPE.
_CUT_OFF = 141


def run(argv: Sequence[str], interrupts: Sequence[int]) -> int:
    """Run the command that a command line names, and return the exit status.

    An interrupt is handed on. What fails once `interrupts` lists one has failed by it.
    """
    tolerate_narrow_encoding()
    try:
        return _status(argv, interrupts)
    except BrokenPipeError:
        stop_writing()
        return _CUT_OFF if _is_cut_off(argv) else 0
    except OSError as error:
        stop_writing()
        found = unwritable_output(error.filename or "stdout", error.strerror or str(error))
        _say(Report((found if error.filename else replace(found, help=None),)))
        return 1


def _is_cut_off(argv: Sequence[str]) -> bool:
    """Tell whether a reader that left stopped more than a table, which may be cut short.

    That there is no verdict, no folder or no picture is not to pass for one.
    """
    return argv[:1] != [] and (argv[0] in _REPORTING or any(map(_draws, argv)))


def _draws(word: str) -> bool:
    return word.startswith("--render")


def _status(argv: Sequence[str], interrupts: Sequence[int]) -> int:
    try:
        status = _run(argv)
    except SystemExit:
        sys.stdout.flush()
        raise
    except GraphtoolError as error:
        if interrupts:
            # Paddle makes a failure of its own of an interrupt that finds it at work.
            raise KeyboardInterrupt from None
        _say(error.report)
        status = 2 if isinstance(error, UsageError) else 1
    # Here, where it can be reported: what is left in the buffer fails at exit otherwise.
    sys.stdout.flush()
    return status


def _say(report: Report) -> None:
    """Print Diagnostics, where anyone reads them: the status says that there are some."""
    with suppress(OSError):
        show_report(report)


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
