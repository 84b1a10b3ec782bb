"""Read the MODEL arguments of the command line."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout

from graphtool.cli._console import progress, show_report
from graphtool.cli.problems import wrong_usage
from graphtool.diagnostics import Report, Severity, UsageError, listed
from graphtool.graph import Graph
from graphtool.paths import path_exists
from graphtool.readers.problems import unknown_version

__all__ = ["check_inputs", "check_networks", "read_source", "reader_report", "stdout_to_stderr"]

_LISTED = 8


def check_inputs(option: str, inputs: Sequence[str] | None, *models: str) -> None:
    """Check that inputs are given only if one of their MODELs is code: a file has its own feeds.

    Raises UsageError: GT600.
    """
    if inputs and all(model and path_exists(model) for model in models):
        listed = " and ".join(f"`{model}`" for model in models)
        message = f"argument {option}: not allowed with files, which have their own feeds: {listed}"
        raise UsageError(wrong_usage(message, help=f"leave {option} out"))


def check_networks(args: Namespace) -> None:
    """Check the inputs of a command with a teacher and a student.

    Raises UsageError: GT600.
    """
    check_inputs("--input", args.input, args.teacher, args.student)
    check_inputs("--teacher-input", args.teacher_input, args.teacher)
    check_inputs("--student-input", args.student_input, args.student)


def read_source(model: str, inputs: Sequence[str] | None, *, train: bool = False) -> Graph:
    """Read a MODEL and print the reader's report; `train` builds code in training mode."""
    from graphtool.sources import read

    with progress(f"reading {model}"), stdout_to_stderr():
        graph = read(model, inputs=inputs or (), train=train)
    show_report(reader_report(graph))
    return graph


@contextmanager
def stdout_to_stderr() -> Generator[None]:
    """Redirect stdout to stderr, child processes included, while the user's code runs."""
    sys.stdout.flush()
    stdout, stderr = 1, 2
    saved = os.dup(stdout)
    os.dup2(stderr, stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, stdout)
        os.close(saved)


def reader_report(graph: Graph) -> Report:
    """Return the diagnostics of reading a program, unknown fields first."""
    found = list(graph.report)
    if graph.unknown:
        message = f"the file has unknown fields: {listed(graph.unknown, _LISTED, quote='')}"
        found.insert(0, unknown_version(graph.source, message, Severity.WARNING))
    return Report.of(found)
