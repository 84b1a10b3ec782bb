"""The types that public signatures name and that are no public names themselves."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

from tests.reference.public import Name, all_names, attributes, members

__all__ = ["ELSEWHERE", "Alias", "types"]

# What Python has, the one word for all of Paddle's, what any function may have found, and what was
# planned, of which `Merged` has the parts that are of use.
ELSEWHERE = frozenset(
    {"Any", "Callable", "Collection", "Iterable", "Iterator", "Mapping", "MergePlan"}
    | {"None", "Paddle", "Path", "PathLike", "Result", "Sequence"}
)
_NAMED = re.compile(r"\b_?[A-Z]\w*")


@dataclass(frozen=True)
class Alias:
    """Another name of a type: what it stands for, and the comment above it."""

    value: str
    meaning: str


def types() -> dict[str, type | Alias]:
    """Return classes and aliases by the name that signatures have for them, sorted."""
    public = [one.object for one in all_names()]
    found: dict[str, type | Alias] = {}
    for module, spelt in _annotations():
        if spelt.removeprefix("_") in ELSEWHERE:
            continue
        meant = getattr(module, spelt, None)
        if inspect.isclass(meant) and spelt in (meant.__name__, f"_{meant.__name__}"):
            known: type | Alias | None = None if meant in public else meant
        else:
            known = None if isinstance(meant, TypeVar) else _alias(module, spelt)
        if known is not None:
            before = found.setdefault(spelt.removeprefix("_"), known)
            assert before == known, f"two types are called `{spelt}`: {before}, {known}"
    return dict(sorted(found.items()))


def _annotations() -> Iterator[tuple[ModuleType, str]]:
    """Yield each name in a public signature, with the module whose name it is."""
    for one in all_names():
        for module, annotation in _of(one):
            yield from ((module, spelt) for spelt in _NAMED.findall(annotation))


def _of(one: Name) -> Iterator[tuple[ModuleType, str]]:
    if inspect.isclass(one.object):
        if not issubclass(one.object, Enum):
            home = sys.modules[one.object.__module__]
            yield from ((home, spelt) for _, spelt in attributes(one.object))
        for _, function, _ in members(one.object):
            yield from _signature(function)
    elif callable(one.object):
        yield from _signature(one.object)


def _signature(function: Callable[..., Any]) -> Iterator[tuple[ModuleType, str]]:
    plain = inspect.unwrap(function)
    signature, home = inspect.signature(plain), sys.modules[plain.__module__]
    given = [one.annotation for one in signature.parameters.values()]
    yield from ((home, str(one)) for one in (*given, signature.return_annotation) if one)


def _alias(module: ModuleType, name: str) -> Alias | None:
    """Find an alias where it is made, in the module or in one that it may import from."""
    made = re.compile(rf'((?:^# .*\n)*)^{name}: TypeAlias = "?(.+?)"?$', re.MULTILINE)
    package = [sys.modules[one] for one in sorted(sys.modules) if one.startswith("graphtool.")]
    found = next(filter(None, (made.search(_source(one)) for one in (module, *package))), None)
    return found and Alias(found[2], re.sub("^# ", "", found[1], flags=re.MULTILINE).rstrip())


_source = cache(inspect.getsource)
