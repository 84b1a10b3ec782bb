"""Read a MODEL that the command line names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from graphtool.cli._console import progress, show_report
from graphtool.cli.problems import unknown_fields, wrong_usage
from graphtool.diagnostics import Report, UsageError
from graphtool.graph import Graph

__all__ = ["check_inputs", "read_source"]


def check_inputs(option: str, inputs: Sequence[str] | None, *models: str) -> None:
    """Refuse inputs where no MODEL that they are for is code: a file has its own feeds.

    Raises UsageError: GT600.
    """
    if inputs and all(model and Path(model).exists() for model in models):
        listed = " and ".join(f"`{model}`" for model in models)
        message = f"argument {option}: not allowed with files, which have their own feeds: {listed}"
        raise UsageError(wrong_usage(message, help=f"leave {option} out"))


def read_source(model: str, inputs: Sequence[str] | None, *, train: bool = False) -> Graph:
    """Read a MODEL, saying what the reader did not know; `train` builds code in training mode.

    What the user's own code prints while it builds a network goes to stderr: stdout is for results.
    """
    from graphtool.readers import read

    with progress(f"reading {model}"), redirect_stdout(sys.stderr):
        graph = read(model, inputs=inputs or (), train=train)
    if graph.unknown:
        show_report(Report((unknown_fields(graph.source, graph.unknown),)))
    show_report(graph.report)
    return graph
