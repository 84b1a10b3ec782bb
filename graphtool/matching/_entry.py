"""What one place of a distillation configuration says, and what all forms of them share."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import isfinite
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import Severity
from graphtool.matching.pairs import Kind

__all__ = [
    "ABSENT",
    "LONGEST_REASON",
    "Entry",
    "Loss",
    "Name",
    "Read",
    "Unknown",
    "Unread",
    "Wanted",
    "Yaml",
    "brief",
    "first_of",
    "listed",
    "network_pairs",
    "networks_said",
    "roles_of",
    "swapped",
    "table_of",
    "texts",
    "weighed",
]

# YAML is made of dicts, lists and texts, nested at will.
Yaml: TypeAlias = Any

LONGEST_REASON = 200
_MOST_NETWORKS = 4
ABSENT = ("", "~", "null", "Null", "NULL", "None")
_ROLES = re.compile(r"(?P<role>teacher|student)(_0)?", re.IGNORECASE)


class Wanted(Enum):
    """What sort of thing a configuration compares."""

    VALUE = "a Value, by a selector"
    PART = "what one part of the network returns"
    OUTPUT = "the output of the network, before it becomes probabilities"


@dataclass(frozen=True, slots=True)
class Name:
    """One end as it is written, and the spellings to look for in turn."""

    written: str
    spellings: tuple[str, ...] = ()
    wanted: Wanted = Wanted.VALUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a loss is read as: `ours`, None for one that graphtool lacks.

    `unlike` says in what the two differ, None where they compute the same. `strange` are the keys
    beside it that are none of those that it `takes`. One that `is_directed` pulls the student to
    the teacher. One that `may_adapt` may bring a layer of its own.
    """

    ours: str | None
    unlike: str | None = None
    strange: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    is_directed: bool = False
    may_adapt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Two ends that a loss compares; `place` is where that stands in the file."""

    place: str
    teacher: Name
    student: Name
    loss: Loss
    weight: float = 1.0
    kind: Kind | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A place of the file that means no pair, and why.

    It is but a note for losses on labels, which are none by design, and an error where a pair was
    to be.
    """

    place: str
    reason: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A place of the file that names a loss that is none of the `known`; `typed` as `loss: {}`."""

    place: str
    loss: str
    known: tuple[str, ...]
    typed: str


Read: TypeAlias = "Entry | Unread | Unknown"


def table_of(given: Yaml) -> Mapping[str, Yaml]:
    """Return a mapping as it is, and an empty one for anything else."""
    return cast("Mapping[str, Yaml]", given) if isinstance(given, dict) else {}


def listed(given: Yaml) -> Sequence[Yaml]:
    """Return a list as it is, and an empty one for anything else."""
    return cast("Sequence[Yaml]", given) if isinstance(given, list) else ()


def first_of(table: Mapping[str, Yaml], keys: Sequence[str]) -> Yaml:
    """Return what stands at the first of these keys that there is, None where there is none."""
    return next((table[key] for key in keys if key in table), None)


def texts(given: Yaml) -> list[str] | None:
    """Return a list of texts, one text as a list of its own; None for anything else."""
    found = cast("list[Yaml]", given if isinstance(given, list) else [given])
    return found if found and all(isinstance(text, str) for text in found) else None


def _weight(given: Yaml) -> float | None:
    if given is None:
        return 1.0
    try:
        weight = float(given)
    except (TypeError, ValueError):
        return None
    return weight if isfinite(weight) and weight >= 0 else None


def weighed(entries: Iterator[Read], given: Yaml) -> Iterator[Read]:
    """Give entries the weight that is written beside them, and refuse what is none."""
    weight = _weight(given)
    for entry in entries:
        if not isinstance(entry, Entry):
            yield entry
        elif weight is None:
            yield Unread(place=entry.place, reason="its weight is not a number of 0 or more")
        else:
            yield replace(entry, weight=weight)


def brief(given: Yaml) -> str:
    """Write what was found where something else was wanted, in short."""
    return given[:LONGEST_REASON] if isinstance(given, str) else reprlib.repr(given)


def network_pairs(given: Yaml) -> Sequence[Yaml]:
    """Return the networks that a loss compares, two at a time; two may stand without a list."""
    return [given] if texts(given) else listed(given)


def roles_of(networks: Yaml) -> tuple[str, str] | None:
    """Return `student`, `teacher`, or the two the other way round; None for other networks."""
    names = texts(networks) or []
    if len(names) != 2:
        return None
    first, second = (
        match["role"].lower() if match else "" for match in map(_ROLES.fullmatch, names)
    )
    return (first, second) if {first, second} == {"student", "teacher"} else None


def networks_said(networks: Yaml) -> str:
    """Name the networks that a loss compares, which are no student and its teacher."""
    names = texts(networks)
    if names is None or len(names) > _MOST_NETWORKS:
        said = brief(networks)
    else:
        said = " and ".join(f"`{brief(name)}`" for name in names)
    return f"{said} are not a student and its teacher"


def swapped(place: str) -> Unread:
    """Refuse a directed loss that has the teacher where the toolkit has what learns."""
    return Unread(place=place, reason="it pulls the first of its networks, which is the teacher")
