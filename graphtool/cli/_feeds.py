"""Which student feed each teacher feed goes to: as `--feed` says, else guessed and said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from graphtool.checks import guess_feed_map, guess_feeds
from graphtool.cli._console import errors
from graphtool.cli._text import feed_text
from graphtool.cli.problems import feeds_needed, wrong_usage
from graphtool.diagnostics import UsageError
from graphtool.graph import Graph
from graphtool.lookalikes import alike_notes
from graphtool.selectors import meant
from graphtool.text import named, option, visible

__all__ = ["feed_map_of"]


def feed_map_of(
    given: Sequence[tuple[str, str]] | None, teacher: Graph, student: Graph, *, prefix: str
) -> Mapping[str, str]:
    """Return the feed map, and print a guess on stderr.

    Raises UsageError: GT603 where nothing is given and several guesses are as good, GT600 where a
    teacher feed is given twice.
    """
    if given:
        pairs = [_meant(pair, teacher, student) for pair in given]
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if twice:
            message = f"argument --feed: `{twice[0]}` is given more than once"
            raise UsageError(wrong_usage(message, help=option("--feed", feed_text(*pairs[0]))))
        return dict(pairs)
    guessed = guess_feed_map(teacher, student)
    guesses = guess_feeds(teacher, student)
    if guessed is None:
        reasons = [
            f"`{one.teacher}` -> `{'?' if one.student is None else one.student}`: {one.why}"
            for one in guesses
        ]
        likely = [(one.teacher, one.student or f"{prefix}{one.teacher}") for one in guesses]
        raise UsageError(feeds_needed(reasons, likely))
    console = errors()
    for one in guesses:
        target = "a feed of its own" if one.student is None else named(one.student)
        why = "; ".join((one.why, *alike_notes(one.teacher, (one.student or "",))))
        line = f"feed map, guessed: {named(one.teacher)} -> {target}: {visible(why)}"
        console.print(line, soft_wrap=True)
    return guessed


def _meant(pair: tuple[str, str], teacher: Graph, student: Graph) -> tuple[str, str]:
    """Find the two feeds that `T=S` means: names may hold the sign, and be given as shown."""
    parts = "=".join(pair).split("=")
    splits = [("=".join(parts[:place]), "=".join(parts[place:])) for place in range(1, len(parts))]
    found = [(meant(ours, teacher.feeds), meant(theirs, student.feeds)) for ours, theirs in splits]
    known = (both for both in found if both[0] in teacher.feeds and both[1] in student.feeds)
    return next(known, found[0])
