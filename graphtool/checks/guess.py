"""Guess which student feed each teacher feed shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import listed
from graphtool.graph import Graph, Shape, Value, shapes_agree
from graphtool.text import closest

__all__ = [
    "FeedGuess",
    "are_shareable",
    "corrected_feed_map",
    "guess_feed_map",
    "guess_feeds",
    "nearest_feed",
]

_MIN_SIMILARITY = 0.6
# Only names near the same position are compared: comparing 400 names with each other takes 20 s.
_MAX_COMPARED = 16
_MAX_LISTED = 8


@dataclass(frozen=True, slots=True)
class FeedGuess:
    """A teacher feed, the student feed that it shares (None if none matches), and why."""

    teacher: str
    student: str | None
    why: str
    is_clear: bool = True


def guess_feed_map(teacher: Graph, student: Graph) -> Mapping[str, str] | None:
    """Return the only plausible feed map, None if there are several or none.

    `guess_feeds` gives the reasons.
    """
    guesses = guess_feeds(teacher, student)
    feed_map = {guess.teacher: guess.student for guess in guesses if guess.student is not None}
    return feed_map if feed_map and all(guess.is_clear for guess in guesses) else None


def guess_feeds(teacher: Graph, student: Graph) -> tuple[FeedGuess, ...]:
    """Guess for each teacher feed, in order, the student feed that it shares.

    A matching feed of the same name comes first, then the only matching one, unless it matches
    another teacher feed too. Feeds match if dtype, rank and known dims are equal.
    """
    student_feeds = {name: student.values[name] for name in student.feeds}
    same_name = {
        name
        for name in teacher.feeds
        if name in student_feeds and are_shareable(teacher.values[name], student_feeds[name])
    }
    free = [value for name, value in student_feeds.items() if name not in same_name]
    others = [teacher.values[name] for name in teacher.feeds if name not in same_name]
    matches_by_type = {
        _type(feed): [value.name for value in free if are_shareable(feed, value)]
        for feed in {_type(feed): feed for feed in others}.values()
    }
    matches = {feed.name: matches_by_type[_type(feed)] for feed in others}
    uses = Counter(chain.from_iterable(matches.values()))
    guesses = {name: _guess(name, matches[name], uses, index) for index, name in enumerate(matches)}
    why = "has the same name, and fits"
    return tuple(guesses.get(name) or FeedGuess(name, name, why) for name in teacher.feeds)


def _type(feed: Value) -> tuple[str | None, Shape | None]:
    return feed.dtype, feed.shape


def _guess(name: str, matches: Sequence[str], uses: Mapping[str, int], index: int) -> FeedGuess:
    """Guess for a teacher feed without a match of its name; `index` is its position among those.

    `uses` counts the teacher feeds that each student feed matches.
    """
    if not matches:
        return FeedGuess(name, None, "no student feed fits: it is the teacher's alone")
    if len(matches) == 1 and uses[matches[0]] == 1:
        return FeedGuess(name, matches[0], "is the only one whose shape and dtype fit")
    start = max(0, min(index - _MAX_COMPARED // 2, len(matches) - _MAX_COMPARED))
    nearest = closest(name, matches[start : start + _MAX_COMPARED], cutoff=0.0)[0]
    why = f"may be one of {listed(matches, _MAX_LISTED, quote='')}"
    return FeedGuess(name, nearest, why, is_clear=False)


def are_shareable(teacher: Value, student: Value) -> bool:
    """Return whether two feeds have equal dtypes, and shapes that agree except for the batch."""
    if teacher.dtype != student.dtype:
        return False
    if not teacher.shape or not student.shape:
        return teacher.shape == student.shape
    same_rank = len(teacher.shape) == len(student.shape)
    return same_rank and shapes_agree(teacher.shape[1:], student.shape[1:])


def nearest_feed(feed: Value | None, name: str, student: Graph) -> str | None:
    """Return the most likely student feed: the matching one with the nearest name.

    If it is the only match its name does not count; without a match any similar name will do.
    """
    matches = [
        student_name
        for student_name in student.feeds
        if feed is None or are_shareable(feed, student.values[student_name])
    ]
    nearest = closest(name, matches, cutoff=_MIN_SIMILARITY)
    if nearest:
        return nearest[0]
    if len(matches) == 1:
        return matches[0]
    similar = closest(name, student.feeds, cutoff=_MIN_SIMILARITY)
    return similar[0] if similar else None


def corrected_feed_map(plan: MergePlan) -> Mapping[str, str]:
    """Return the most likely intended feed map: valid entries are kept, the rest is guessed.

    A teacher feed that matches no student feed is mapped to its own name with the prefix.
    """
    given = [name for name, _ in plan.feed_map if name in plan.teacher.feeds]
    ordered = dict.fromkeys((*given, *plan.teacher.feeds))
    return {name: _corrected_target(plan, name) for name in ordered}


def _corrected_target(plan: MergePlan, name: str) -> str:
    value, new_name = plan.teacher.values[name], plan.prefix + name
    if name in plan.separate_feeds:
        return new_name
    given = dict(plan.feed_map).get(name) or _misspelt_target(plan, name)
    if given in plan.student.feeds and are_shareable(value, plan.student.values[given]):
        return given
    nearest = nearest_feed(value, given or name, plan.student)
    if nearest is None or not are_shareable(value, plan.student.values[nearest]):
        return new_name
    return nearest


def _misspelt_target(plan: MergePlan, name: str) -> str | None:
    """Return the target of a key that is not a teacher feed, but similar to this one."""
    unknown = {key: target for key, target in plan.feed_map if key not in plan.teacher.feeds}
    nearest = closest(name, unknown, cutoff=_MIN_SIMILARITY)
    return unknown[nearest[0]] if nearest else None
