"""Determine the feed map from `--feed`, or guess it and print the guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from graphtool.checks import guess_feed_map, guess_feeds
from graphtool.checks.feeds import feed_left_out
from graphtool.cli._console import errors
from graphtool.cli._formatting import feed_text
from graphtool.cli.problems import wrong_usage
from graphtool.diagnostics import UsageError
from graphtool.graph import Graph
from graphtool.selectors import unescape_name
from graphtool.text import printable, printed_name, shell_option

__all__ = ["feed_map_of"]


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
            raise UsageError(
                wrong_usage(message, help=shell_option("--feed", feed_text(*pairs[0])))
            )
        return dict(pairs)
    guessed = guess_feed_map(teacher, student)
    guesses = guess_feeds(teacher, student)
    if guessed is None:
        reasons = [
            f"`{guess.teacher}` -> `{'?' if guess.student is None else guess.student}`: {guess.why}"
            for guess in guesses
        ]
        likely = [(guess.teacher, guess.student or f"{prefix}{guess.teacher}") for guess in guesses]
        raise UsageError(
            feed_left_out(
                "the feed map cannot be guessed",
                notes=reasons or ("one of the programs has no feeds",),
                help=" ".join(
                    shell_option("--feed", feed_text(*pair))
                    for pair in likely or [("TEACHER", "STUDENT")]
                ),
            )
        )
    console = errors()
    for guess in guesses:
        target = "a feed of its own" if guess.student is None else printed_name(guess.student)
        feeds = f"{printed_name(guess.teacher)} -> {target}"
        line = f"feed map, guessed: {feeds}: {printable(guess.why)}"
        console.print(line, soft_wrap=True)
    return guessed


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
    known = (
        (teacher_feed, student_feed)
        for teacher_feed, student_feed in candidates
        if teacher_feed in teacher.feeds and student_feed in student.feeds
    )
    return next(known, candidates[0])
