"""Read the MODEL arguments of the command line."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout

from graphtool.checks import guess_feed_map, guess_feeds
from graphtool.checks.feeds import feed_left_out
from graphtool.cli._arguments import wrong_usage
from graphtool.cli._console import errors, feed_text, progress, show_report
from graphtool.diagnostics import Call, Report, Severity, UsageError, listed
from graphtool.graph import Graph
from graphtool.paths import path_exists
from graphtool.readers.problems import unknown_version
from graphtool.selectors import unescape_name
from graphtool.text import printable, printed_name, shell_option

__all__ = [
    "check_inputs",
    "check_networks",
    "feed_map_of",
    "read_networks",
    "read_source",
    "reader_report",
    "stdout_to_stderr",
]

_LISTED = 8


def check_inputs(option: str, inputs: Sequence[str] | None, *models: str) -> None:
    """Check that inputs are given only if one of their MODELs is code: a file has its own feeds.

    Raises UsageError: GT600.
    """
    if inputs and all(model and path_exists(model) for model in models):
        files = " and ".join(f"`{model}`" for model in models)
        message = f"argument {option}: not allowed with files, which have their own feeds: {files}"
        raise UsageError(wrong_usage(message, help=f"leave {option} out"))


def check_networks(args: Namespace) -> None:
    """Check the inputs of a command with a teacher and a student.

    Raises UsageError: GT600.
    """
    check_inputs("--input", args.input, args.teacher, args.student)
    check_inputs("--teacher-input", args.teacher_input, args.teacher)
    check_inputs("--student-input", args.student_input, args.student)


def read_networks(args: Namespace, *, train: bool = False) -> tuple[Graph, Graph]:
    """Read the teacher and the student; `train` builds a student's code in training mode."""
    return (
        read_source(args.teacher, args.teacher_input or args.input),
        read_source(args.student, args.student_input or args.input, train=train),
    )


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


def feed_map_of(
    given: Sequence[tuple[str, str]] | None, teacher: Graph, student: Graph, *, prefix: str
) -> Mapping[str, str]:
    """Return the feed map; if it is guessed, print it on stderr.

    Raises UsageError: GT213 if the guess is ambiguous, GT600 if a teacher feed is given twice.
    """
    if given:
        pairs = [_resolve(pair, teacher, student) for pair in given]
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if twice:
            message = f"argument --feed: `{twice[0]}` is given more than once"
            fix = shell_option("--feed", feed_text(*pairs[0]))
            raise UsageError(wrong_usage(message, help=fix))
        return dict(pairs)
    feed_map, guesses = guess_feed_map(teacher, student), guess_feeds(teacher, student)
    if feed_map is None:
        notes = [f"`{one.teacher}` -> `{one.student or '?'}`: {one.why}" for one in guesses]
        likely = {one.teacher: one.student or f"{prefix}{one.teacher}" for one in guesses}
        raise UsageError(
            feed_left_out(
                "the feed map cannot be guessed",
                notes=notes or ("one of the programs has no feeds",),
                help=Call(None, feed_map=likely or {"TEACHER": "STUDENT"}),
            )
        )
    for one in guesses:
        target = "a separate feed" if one.student is None else printed_name(one.student)
        line = f"feed map, guessed: {printed_name(one.teacher)} -> {target}: {printable(one.why)}"
        errors().print(line, soft_wrap=True)
    return feed_map


def _resolve(pair: tuple[str, str], teacher: Graph, student: Graph) -> tuple[str, str]:
    """Return the feeds that `T=S` names; names may contain `=`, and be escaped as printed."""
    parts = "=".join(pair).split("=")
    candidates = [
        (
            unescape_name("=".join(parts[:index]), teacher.feeds),
            unescape_name("=".join(parts[index:]), student.feeds),
        )
        for index in range(1, len(parts))
    ]
    known = (one for one in candidates if one[0] in teacher.feeds and one[1] in student.feeds)
    return next(known, candidates[0])
