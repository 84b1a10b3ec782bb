"""Which student feed each teacher feed goes to: as `--feed` says, else guessed and said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from graphtool.checks import guess_feed_map, guess_feeds
from graphtool.cli._console import errors
from graphtool.cli.problems import feeds_needed, wrong_usage
from graphtool.diagnostics import UsageError
from graphtool.graph import Graph
from graphtool.text import visible

__all__ = ["feed_map_of"]


def feed_map_of(
    given: Sequence[tuple[str, str]] | None, teacher: Graph, student: Graph
) -> Mapping[str, str]:
    """Return the feed map, and print a guess on stderr.

    Raises UsageError: GT603 where nothing is given and several guesses are as good, GT600 where a
    teacher feed is given twice.
    """
    if given:
        twice = [name for name, count in Counter(name for name, _ in given).items() if count > 1]
        if twice:
            message = f"argument --feed: `{twice[0]}` is given more than once"
            raise UsageError(wrong_usage(message, help=f"--feed {'='.join(given[0])}"))
        return dict(given)
    guessed = guess_feed_map(teacher, student)
    guesses = guess_feeds(teacher, student)
    if guessed is None:
        reasons = [f"`{one.teacher}` -> `{one.student or '?'}`: {one.why}" for one in guesses]
        raise UsageError(feeds_needed(reasons, teacher.feeds, student.feeds))
    console = errors()
    for one in guesses:
        target = one.student or "a feed of its own"
        line = f"feed map, guessed: {one.teacher} -> {target}: {one.why}"
        console.print(visible(line), soft_wrap=True)
    return guessed
