"""Refuse arguments of the wrong type before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TypeGuard, TypeVar, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.matching import Pair

__all__ = [
    "check_arguments",
    "check_names",
    "check_pair_arguments",
    "is_mapping_of_mappings",
    "is_name_tuple",
]

_Pair = TypeVar("_Pair")


def check_arguments(
    feed_map: object, name_prefix: object, shared: object, **scopes: object
) -> None:
    """Refuse arguments of `merge` and `check_merge` of the wrong type.

    Raises UsageError: GT248, for all of them at once.
    """
    found: list[Diagnostic] = []
    if not _is_name_mapping(feed_map):
        expected = "a mapping from teacher feed names to student feed names"
        found.append(bad_argument("feed_map", feed_map, expected))
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
    """Return the pairs given to `check_pairs` as a tuple; refuse arguments of the wrong type.

    Raises UsageError: GT248, for all of them at once.
    """
    found: list[Diagnostic] = []
    is_list = _is_listing(pairs)
    if not is_list:
        found.append(bad_argument("pairs", pairs, "a PairSet, or a list of pairs", _PAIRS))
    listed = tuple(pairs) if is_list else ()
    expected = "a Pair, or (teacher name, student name) with or without a loss"
    found += [
        bad_argument(f"pairs[{index}]", pair, expected, _PAIRS)
        for index, pair in enumerate(listed)
        if not (isinstance(pair, Pair) or is_name_tuple(pair))
    ]
    if not _is_text(name_prefix):
        found.append(bad_argument("name_prefix", name_prefix, "text", _PAIRS))
    if options is not None and not is_mapping_of_mappings(options):
        expected, example = "a mapping to mappings", 'options={"kl": {"from_probs": "teacher"}}'
        found.append(bad_argument("options", options, expected, example))
    if found:
        raise UsageError(*found)
    return listed


def _is_listing(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str | PathLike)


def is_name_tuple(given: object) -> TypeGuard[tuple[str, ...]]:
    """Return whether an argument is `(teacher name, student name)`, with or without a loss."""
    if not isinstance(given, tuple):
        return False
    names = cast("tuple[object, ...]", given)
    return len(names) in (2, 3) and _are_texts(names)


_PAIRS = "gt.check_pairs(gt.suggest_pairs(teacher, student), teacher, student)"


def is_mapping_of_mappings(given: object) -> bool:
    """Return whether an argument is a mapping to mappings, as the options of losses are."""
    if not isinstance(given, Mapping):
        return False
    tables = cast("Mapping[object, object]", given).values()
    return all(isinstance(table, Mapping) for table in tables)


def _is_text(given: object) -> bool:
    """Return whether an argument is text without lone surrogates, which UTF-8 cannot encode."""
    return isinstance(given, str) and not any("\ud800" <= letter <= "\udfff" for letter in given)


def _is_name_mapping(given: object) -> bool:
    if not isinstance(given, Mapping):
        return False
    pairs = cast("Mapping[object, object]", given).items()
    return all(isinstance(name, str) for pair in pairs for name in pair)


def check_names(name: str, given: object, call: str) -> None:
    """Refuse anything but a list or tuple of names, also a single string; `call` is an example.

    Raises UsageError: GT248.
    """
    if not _are_texts(given):
        raise UsageError(bad_argument(name, given, "a tuple of names", call))


def _are_texts(given: object) -> bool:
    if not isinstance(given, list | tuple):
        return False
    return all(isinstance(text, str) for text in cast("Sequence[object]", given))
