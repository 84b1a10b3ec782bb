"""Run one command: how errors and signals end it, and its standard streams."""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from types import FrameType

from graphtool.cli._arguments import parse
from graphtool.cli._console import report_data, show_report, write_json
from graphtool.diagnostics import GraphtoolError, Report, UsageError
from graphtool.files import remove_temporaries, unwritable_output

__all__ = ["open_closed_streams", "run", "signals_raised", "stop_writing"]

# The modules of the commands that have none of their own name.
_MODULES = {"check": "merge", "completion": "setup", "doctor": "setup"}
# Commands that print JSON with their diagnostics even if they fail, and the fields to add.
_JSON_DEFAULTS: dict[str, dict[str, object]] = {
    "check": {"mergeable": False},
    "merge": {"written": None},
}
# The exit status of a shell for SIGPIPE.
_SIGPIPE_STATUS = 141
# A terminal sends the last one when it is closed.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(argv: Sequence[str]) -> int:
    """Run the command of a command line, and return the exit status.

    A KeyboardInterrupt passes through.
    """
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # Characters that its encoding lacks are escaped, as stderr does.
        reconfigure(errors="backslashreplace")
    try:
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
    except BrokenPipeError:
        stop_writing()
        # A table may be cut short by its reader; a missing verdict, folder or picture must not pass
        # for success.
        more = argv and argv[0] in _JSON_DEFAULTS
        more = more or any(word.startswith("--render") for word in argv)
        return _SIGPIPE_STATUS if more else 0
    except OSError as error:
        stop_writing()
        diagnostic = unwritable_output(error.filename or "stdout", error.strerror or str(error))
        _show(Report((diagnostic if error.filename else replace(diagnostic, help=None),)))
        return 1


def _show(report: Report) -> None:
    """Print Diagnostics; a closed stderr is ignored, as the status reports the failure."""
    with suppress(OSError):
        show_report(report)


def _run_command(argv: Sequence[str]) -> int:
    args: Namespace = parse(argv)
    # Imported only now: `--help` does without the modules of commands.
    name = args.command.partition("-")[0]
    module = import_module(f"graphtool.cli._{_MODULES.get(name, name)}")
    try:
        return getattr(module, f"run_{name}")(args)
    except GraphtoolError as error:
        if args.command in _JSON_DEFAULTS and args.format == "json":
            networks = {"schema": 1, "teacher": args.teacher, "student": args.student}
            found = {"diagnostics": report_data(error.report)}
            write_json(networks | _JSON_DEFAULTS[args.command] | found)
        raise


@contextmanager
def signals_raised() -> Generator[None]:
    """Raise KeyboardInterrupt with the status of a shell for signals that end the process.

    Signals that are ignored or have a handler already keep it; afterwards, a signal ends the
    process silently.
    """
    taken: list[signal.Signals] = []
    # Only the main thread may set handlers.
    with suppress(ValueError):
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _interrupt)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _: FrameType | None) -> None:
    status = 128 + number
    if "paddle" not in sys.modules:
        raise KeyboardInterrupt(status)
    # Paddle swallows exceptions raised in its callbacks, or crashes.
    remove_temporaries()
    with suppress(OSError, ValueError, AttributeError):  # stderr may be closed or None.
        if sys.stderr.isatty():
            # Show the cursor, which a progress bar hides.
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(status)


def open_closed_streams() -> None:
    """Open the null device for streams that the caller has closed (`>&-`).

    Otherwise the next opened files would get their descriptors.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  # is never closed


def stop_writing() -> None:
    """Redirect stdout to the null device: its reader is gone, the disk full, or output partial."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
