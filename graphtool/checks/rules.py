"""The rules about a merge: how one is registered, and how all are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import TypeAlias

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import Diagnostic, Report, Severity, document

__all__ = ["Finder", "check", "not_checked", "run_rules"]

Finder: TypeAlias = "Callable[[MergePlan], Iterator[Diagnostic]]"

_FINDERS: dict[str, Finder] = {}


def check(code: str) -> Callable[[Finder], Finder]:
    """Register a generator as the one rule of a code.

    The slug is the function's name, and its docstring is what `graphtool explain CODE` prints.
    """

    def register(find: Finder) -> Finder:
        slug = document(code, find)

        @wraps(find)
        def stamped(plan: MergePlan) -> Iterator[Diagnostic]:
            for found in find(plan):
                yield replace(found, code=code, slug=slug)

        _FINDERS[code] = stamped
        return stamped

    return register


def run_rules(plan: MergePlan) -> Report:
    """Return what all rules find, in the order of their codes; nothing is touched."""
    return Report.of(found for code in sorted(_FINDERS) for found in _FINDERS[code](plan))


def not_checked(what: str, why: str, help: str | None = None) -> Diagnostic:
    """Say that a rule had no fact to look at: never a pass."""
    return Diagnostic(
        message=f"not checked: {what}", severity=Severity.NOTE, notes=(why,), help=help
    )
