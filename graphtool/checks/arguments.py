"""What a call is given has the right type before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as brief
from typing import cast

from graphtool.diagnostics import Diagnostic, UsageError, rule
from graphtool.readers.live import is_live

__all__ = [
    "bad_argument",
    "check_arguments",
    "check_names",
    "check_selector",
    "check_sources",
]


_MERGE = 'graphtool.merge(teacher, student, {"image": "image"}, name_prefix="teacher_")'


@rule("GT248")
def bad_argument(name: str, given: object, wanted: str, call: str = _MERGE) -> Diagnostic:
    """An argument is of a type that the call does not take; nothing was read or touched.

    Feeds, Values and parameters go by their names: a Variable has `.name`, a Value is found with
    `graphtool.read(program)`.
    """
    return Diagnostic(
        message=f"`{name}` is `{brief(given)}`; wanted {wanted}",
        help=call,
    )


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


def check_selector(given: object) -> None:
    """Refuse a selector that is no text.

    Raises UsageError: GT248.
    """
    if not isinstance(given, str):
        raise UsageError(bad_argument("selector", given, "the name of a Value"))


def check_names(name: str, given: object) -> None:
    """Refuse what is no list of names: a single text, too.

    Raises UsageError: GT248.
    """
    if not _are_texts(given):
        raise UsageError(bad_argument(name, given, "a tuple of names"))


def _are_texts(given: object) -> bool:
    if not isinstance(given, list | tuple):
        return False
    return all(isinstance(text, str) for text in cast("Sequence[object]", given))
