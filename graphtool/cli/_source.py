"""Read a MODEL that the command line names."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout

from graphtool.cli._console import progress, show_report
from graphtool.cli.problems import alike_feeds, unknown_fields, wrong_usage
from graphtool.diagnostics import Report, UsageError
from graphtool.graph import Graph
from graphtool.lookalikes import alike
from graphtool.paths import is_there

__all__ = ["aside", "check_inputs", "check_networks", "read_source", "said_by_reader"]


def check_inputs(option: str, inputs: Sequence[str] | None, *models: str) -> None:
    """Refuse inputs where no MODEL that they are for is code: a file has its own feeds.

    Raises UsageError: GT600.
    """
    if inputs and all(model and is_there(model) for model in models):
        listed = " and ".join(f"`{model}`" for model in models)
        message = f"argument {option}: not allowed with files, which have their own feeds: {listed}"
        raise UsageError(wrong_usage(message, help=f"leave {option} out"))


def check_networks(args: Namespace) -> None:
    """Refuse inputs of a command that takes two models, where they are for files.

    Raises UsageError: GT600.
    """
    check_inputs("--input", args.input, args.teacher, args.student)
    check_inputs("--teacher-input", args.teacher_input, args.teacher)
    check_inputs("--student-input", args.student_input, args.student)


def read_source(model: str, inputs: Sequence[str] | None, *, train: bool = False) -> Graph:
    """Read a MODEL, saying what the reader did not know; `train` builds code in training mode."""
    from graphtool.readers import read

    with progress(f"reading {model}"), aside():
        graph = read(model, inputs=inputs or (), train=train)
    show_report(said_by_reader(graph))
    return graph


@contextmanager
def aside() -> Generator[None]:
    """Send to stderr what the user's own code prints, and what it starts: stdout is for results."""
    sys.stdout.flush()
    stdout, stderr = 1, 2
    kept = os.dup(stdout)
    os.dup2(stderr, stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, stdout)
        os.close(kept)


def said_by_reader(graph: Graph) -> Report:
    """Return what is to be said of a program as it was read, what the reader did not know first."""
    unknown = (unknown_fields(graph.source, graph.unknown),) if graph.unknown else ()
    names = alike((*graph.feeds, *graph.fetches))
    look = (alike_feeds(graph.source, *pair) for pair in names)
    return Report.of((*unknown, *graph.report, *look))
