"""Which student feed a teacher feed goes to, where nobody says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import listed
from graphtool.graph import Graph, Shape, Value, shapes_agree
from graphtool.lookalikes import closest

__all__ = [
    "FeedGuess",
    "fits",
    "guess_feed_map",
    "guess_feeds",
    "mended_feed_map",
    "nearest_feed",
]

_ALIKE = 0.6
# Names around the same place: to compare each of 400 with each takes 20 s.
_COMPARED = 16
_LISTED = 8


@dataclass(frozen=True, slots=True)
class FeedGuess:
    """A teacher feed, the student feed that it goes to (None where none fits), and why."""

    teacher: str
    student: str | None
    why: str
    is_clear: bool = True


def guess_feed_map(teacher: Graph, student: Graph) -> Mapping[str, str] | None:
    """Return the one feed map that makes sense, None where there are several or none.

    `guess_feeds` gives the reasons.
    """
    guesses = guess_feeds(teacher, student)
    found = {guess.teacher: guess.student for guess in guesses if guess.student is not None}
    return found if found and all(guess.is_clear for guess in guesses) else None


def guess_feeds(teacher: Graph, student: Graph) -> tuple[FeedGuess, ...]:
    """Guess for each teacher feed, in order, the student feed that it shares.

    One of the same name that fits is taken first; then the only one that fits, if no other teacher
    feed could take it as well. To fit is to have the same dtype, rank and known dims.
    """
    given = {name: student.values[name] for name in student.feeds}
    same = {
        name for name in teacher.feeds if name in given and fits(teacher.values[name], given[name])
    }
    free = [value for name, value in given.items() if name not in same]
    others = [teacher.values[name] for name in teacher.feeds if name not in same]
    by_type = {
        _type(feed): [value.name for value in free if fits(feed, value)]
        for feed in {_type(feed): feed for feed in others}.values()
    }
    fitting = {feed.name: by_type[_type(feed)] for feed in others}
    wanted = Counter(chain.from_iterable(fitting.values()))
    guesses = {
        name: _guess(name, fitting[name], wanted, place) for place, name in enumerate(fitting)
    }
    alike = "has the same name, and fits"
    return tuple(guesses.get(name) or FeedGuess(name, name, alike) for name in teacher.feeds)


def _type(feed: Value) -> tuple[str | None, Shape | None]:
    return feed.dtype, feed.shape


def _guess(name: str, fitting: Sequence[str], wanted: Mapping[str, int], place: int) -> FeedGuess:
    """Guess for one feed, at a place among those for which no name says it."""
    if not fitting:
        return FeedGuess(name, None, "no student feed fits: it is the teacher's alone")
    if len(fitting) == 1 and wanted[fitting[0]] == 1:
        return FeedGuess(name, fitting[0], "is the only one whose shape and dtype fit")
    start = max(0, min(place - _COMPARED // 2, len(fitting) - _COMPARED))
    near = closest(name, fitting[start : start + _COMPARED], cutoff=0.0)[0]
    why = f"may be one of {listed(fitting, _LISTED, quote='')}"
    return FeedGuess(name, near, why, is_clear=False)


def fits(teacher: Value, student: Value) -> bool:
    """Tell whether two feeds can be one: equal dtypes, and shapes that agree but for the batch."""
    if teacher.dtype != student.dtype:
        return False
    if not teacher.shape or not student.shape:
        return teacher.shape == student.shape
    same_rank = len(teacher.shape) == len(student.shape)
    return same_rank and shapes_agree(teacher.shape[1:], student.shape[1:])


def nearest_feed(feed: Value | None, name: str, student: Graph) -> str | None:
    """Return the student feed that is most likely meant: the likest name among those that fit."""
    fitting = list(_candidates(feed, student))
    near = closest(name, fitting, cutoff=_ALIKE)
    if near:
        return near[0]
    if len(fitting) == 1:
        return fitting[0]
    loose = closest(name, student.feeds, cutoff=_ALIKE)
    return loose[0] if loose else None


def _candidates(feed: Value | None, student: Graph) -> Iterator[str]:
    for name in student.feeds:
        if feed is None or fits(feed, student.values[name]):
            yield name


def mended_feed_map(plan: MergePlan) -> Mapping[str, str]:
    """Return the feed map that was most likely meant: what fits is kept, the rest guessed.

    A teacher feed that no student feed fits is mapped onto a name of its own.
    """
    given = [name for name, _ in plan.feed_map if name in plan.teacher.feeds]
    ordered = dict.fromkeys((*given, *plan.teacher.feeds))
    return {name: _meant(plan, name) for name in ordered}


def _meant(plan: MergePlan, name: str) -> str:
    value, own = plan.teacher.values[name], plan.prefix + name
    if name in plan.unshared:
        return own
    given = dict(plan.feed_map).get(name) or _misspelt_target(plan, name)
    if given in plan.student.feeds and fits(value, plan.student.values[given]):
        return given
    near = nearest_feed(value, given or name, plan.student)
    return own if near is None or not fits(value, plan.student.values[near]) else near


def _misspelt_target(plan: MergePlan, name: str) -> str | None:
    """Return where the feed map sends a key that no teacher feed has, but that looks like one."""
    wrong = {key: target for key, target in plan.feed_map if key not in plan.teacher.feeds}
    near = closest(name, wrong, cutoff=_ALIKE)
    return wrong[near[0]] if near else None
