"""Which student feed a teacher feed goes to, where nobody says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from graphtool.checks.plan import MergePlan
from graphtool.graph import Graph, Value, shapes_agree
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
    fitting = {
        name: [value.name for value in free if fits(teacher.values[name], value)]
        for name in teacher.feeds
        if name not in same
    }
    wanted = Counter(chain.from_iterable(fitting.values()))
    return tuple(_guess(name, fitting.get(name), wanted) for name in teacher.feeds)


def _guess(name: str, fitting: Sequence[str] | None, wanted: Mapping[str, int]) -> FeedGuess:
    if fitting is None:
        return FeedGuess(name, name, "has the same name, and fits")
    if not fitting:
        return FeedGuess(name, None, "no student feed fits: it is the teacher's alone")
    if len(fitting) == 1 and wanted[fitting[0]] == 1:
        return FeedGuess(name, fitting[0], "is the only one whose shape and dtype fit")
    near = closest(name, fitting, cutoff=0.0)[0]
    return FeedGuess(name, near, f"may be one of {', '.join(fitting)}", is_clear=False)


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
