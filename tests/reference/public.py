"""The public names: what there is, and what each is documented by."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import ModuleType
from typing import Any

import graphtool
from graphtool import compat, losses
from graphtool.losses import adapters

__all__ = [
    "INTERNAL",
    "MODULES",
    "Name",
    "all_names",
    "attributes",
    "callables",
    "docs_of",
    "members",
    "names",
]

MODULES = (graphtool, losses, adapters, compat)
# Types of fields that only graphtool reads.
INTERNAL = frozenset({"Initialisation", "Provenance", "Scopes", "Subject", "ValueMap"})


@dataclass(frozen=True)
class Name:
    """A public name of a module, with what it stands for."""

    module: ModuleType
    name: str
    object: Any

    @property
    def full(self) -> str:
        return f"{self.module.__name__}.{self.name}"

    @property
    def alias_of(self) -> str | None:
        """Return the name of the function or class itself, where this is another one for it."""
        own = getattr(self.object, "__name__", self.name)
        return None if isinstance(self.object, ModuleType) or own == self.name else own


def names(module: ModuleType) -> list[Name]:
    """Return the public names of a module, sorted; modules have pages of their own."""
    found = (Name(module, name, getattr(module, name)) for name in sorted(module.__all__))
    return [name for name in found if not isinstance(name.object, ModuleType)]


def all_names() -> list[Name]:
    """Return the public names of all modules."""
    return [name for module in MODULES for name in names(module)]


def members(given: type) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """Yield public methods and properties of a class: the name, the function, if it is called."""
    for name, member in vars(given).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property) and member.fget is not None:
            yield name, member.fget, False
        elif isinstance(member, classmethod | staticmethod):
            yield name, member.__func__, True
        elif inspect.isfunction(member):
            yield name, member, True
        elif inspect.isfunction(getattr(member, "func", None)):
            yield name, member.func, False


def attributes(given: type) -> list[tuple[str, str]]:
    """Return the fields of a dataclass with their types, those left out that are internal."""
    found = fields(given) if is_dataclass(given) else ()
    listed = [(one.name, str(one.type)) for one in found if not one.name.startswith("_")]
    return [(name, of) for name, of in listed if of not in INTERNAL]


def callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each public function, method and property, with its full name."""
    for name in all_names():
        if inspect.isclass(name.object):
            for member, function, _ in members(name.object):
                yield f"{name.full}.{member}", function
        elif callable(name.object) and name.alias_of is None:
            yield name.full, name.object


def docs_of(given: object) -> str:
    """Return an object's own docstring, and nothing where it only inherits one."""
    own = getattr(given, "__doc__", None)
    # That of a dataclass without one is its signature.
    is_made = is_dataclass(given) and str(own).startswith(f"{getattr(given, '__name__', '')}(")
    return "" if own is None or is_made else inspect.cleandoc(own)
