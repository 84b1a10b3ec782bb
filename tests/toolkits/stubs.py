"""Modules that Paddle's toolkits import and their networks do without."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Stub(type):
    """The type of all that a stub holds: to be called, inherited from, or put on a function."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stub(name)

    def __call__(cls, *given: Any, **_options: Any) -> Any:
        return _decorated(given) or super().__call__()


def _stub(name: str) -> Any:
    members = {
        "__init_subclass__": lambda _cls, **_options: None,
        "__getattr__": lambda _self, name: _stub(name),
        "__call__": lambda _self, *given, **_options: _decorated(given) or _stub(name),
    }
    return _Stub(name, (), members)


def _decorated(given: Sequence[Any]) -> Any | None:
    """Return what a decorator is given, but for the metaclass that `six.add_metaclass` is given."""
    alone = given[0] if len(given) == 1 and callable(given[0]) else None
    return None if isinstance(alone, type) and issubclass(alone, type) else alone


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stub(name)


class Stubs(MetaPathFinder, Loader):
    """Find the modules of these packages where no other finder does."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = frozenset(packages)

    def install(self) -> None:
        sys.meta_path.append(self)

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self.packages:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """A stub has nothing to run."""
