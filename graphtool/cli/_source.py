"""Read a MODEL that the command line names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from graphtool.cli._console import progress, show_report
from graphtool.cli.problems import unknown_fields
from graphtool.diagnostics import Report
from graphtool.graph import Graph

__all__ = ["read_source"]


def read_source(model: str, inputs: Sequence[str] | None) -> Graph:
    """Read a MODEL, saying what the reader did not know.

    What the user's own code prints while it builds a network goes to stderr: stdout is for results.
    """
    from graphtool.readers import read

    with progress(f"reading {model}"), redirect_stdout(sys.stderr):
        graph = read(model, inputs=inputs or ())
    if graph.unknown:
        show_report(Report((unknown_fields(graph.source, graph.unknown),)))
    return graph
