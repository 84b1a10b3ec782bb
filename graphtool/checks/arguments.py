"""What a call is given has the right type before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TypeGuard, TypeVar, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.matching import Pair
from graphtool.readers.live import is_live

__all__ = [
    "check_arguments",
    "check_names",
    "check_pair_arguments",
    "check_sources",
    "maps_to_mappings",
    "names_two",
]

_Pair = TypeVar("_Pair")


def check_arguments(
    feed_map: object, name_prefix: object, shared: object, **scopes: object
) -> None:
    """Refuse arguments of `merge` and `check_merge` that are of a wrong type.

    Raises UsageError: GT248, for all of them at once.
    """
    found: list[Diagnostic] = []
    if not _maps_names(feed_map):
        wanted = "a mapping from teacher feed names to student feed names"
        found.append(bad_argument("feed_map", feed_map, wanted))
    if not _is_text(name_prefix):
        found.append(bad_argument("name_prefix", name_prefix, "text"))
    if not _are_texts(shared):
        found.append(bad_argument("shared", shared, "a tuple of names"))
    found += [
        bad_argument(name, scope, "a Scope or None")
        for name, scope in scopes.items()
        if not (scope is None or hasattr(scope, "find_var"))
    ]
    if found:
        raise UsageError(*found)


def check_pair_arguments(
    pairs: Iterable[_Pair], name_prefix: object, options: object
) -> tuple[_Pair, ...]:
    """Return the pairs that `check_pairs` is given; refuse arguments of a wrong type.

    Raises UsageError: GT248, for all of them at once.
    """
    found: list[Diagnostic] = []
    are_listed = _is_listing(pairs)
    if not are_listed:
        found.append(bad_argument("pairs", pairs, "a PairSet, or a list of pairs", _PAIRS))
    listed = tuple(pairs) if are_listed else ()
    wanted = "a Pair, or (teacher name, student name) with or without a loss"
    found += [
        bad_argument(f"pairs[{place}]", one, wanted, _PAIRS)
        for place, one in enumerate(listed)
        if not (isinstance(one, Pair) or names_two(one))
    ]
    if not _is_text(name_prefix):
        found.append(bad_argument("name_prefix", name_prefix, "text", _PAIRS))
    if options is not None and not maps_to_mappings(options):
        wanted, example = "a mapping to mappings", 'options={"kl": {"from_probs": "teacher"}}'
        found.append(bad_argument("options", options, wanted, example))
    if found:
        raise UsageError(*found)
    return listed


def _is_listing(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str | PathLike)


def names_two(given: object) -> TypeGuard[tuple[str, ...]]:
    """Tell the names of two Values, with or without a loss."""
    if not isinstance(given, tuple):
        return False
    names = cast("tuple[object, ...]", given)
    return len(names) in (2, 3) and _are_texts(names)


_PAIRS = "gt.check_pairs(gt.suggest_pairs(teacher, student), teacher, student)"


def maps_to_mappings(given: object) -> bool:
    """Tell options: by the name of a loss, or of a part, those that it gets."""
    if not isinstance(given, Mapping):
        return False
    tables = cast("Mapping[object, object]", given).values()
    return all(isinstance(table, Mapping) for table in tables)


def _is_text(given: object) -> bool:
    """Tell text that a file and Paddle can hold: lone surrogates can't be written as UTF-8."""
    return isinstance(given, str) and not any("\ud800" <= letter <= "\udfff" for letter in given)


def check_sources(
    teacher: object,
    student: object,
    *,
    teachers: tuple[type, ...],
    students: tuple[type, ...] = (),
) -> None:
    """Refuse networks that are neither live nor of the other types that a call takes.

    Raises UsageError: GT248, for both at once.
    """
    sides = (("teacher_program", teacher, teachers), ("student_program", student, students))
    found = [
        bad_argument(name, given, "a Program, a Network or a path" if types else _LIVE)
        for name, given, types in sides
        if not (is_live(given) or isinstance(given, types))
    ]
    if found:
        raise UsageError(*found)


_LIVE = "a Program or a Network, as graphtool.for_training(path) gives for a saved model"


def _maps_names(given: object) -> bool:
    if not isinstance(given, Mapping):
        return False
    pairs = cast("Mapping[object, object]", given).items()
    return all(isinstance(name, str) for pair in pairs for name in pair)


def check_names(name: str, given: object, call: str) -> None:
    """Refuse what is no list of names: a single text, too; `call` is what a right one looks like.

    Raises UsageError: GT248.
    """
    if not _are_texts(given):
        raise UsageError(bad_argument(name, given, "a tuple of names", call))


def _are_texts(given: object) -> bool:
    if not isinstance(given, list | tuple):
        return False
    return all(isinstance(text, str) for text in cast("Sequence[object]", given))
