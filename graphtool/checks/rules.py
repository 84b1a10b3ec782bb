"""Register rules about a merge, and run all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import wraps
from typing import TypeAlias

from graphtool.checks.plan import MergePlan
from graphtool.diagnostics import Diagnostic, Report, Severity, register_docs

__all__ = ["Finder", "check", "not_checked", "run_rules"]

Finder: TypeAlias = "Callable[[MergePlan], Iterator[Diagnostic]]"

_FINDERS: dict[str, Finder] = {}


def check(code: str, *, replaces: Sequence[str] = ()) -> Callable[[Finder], Finder]:
    """Register a generator as the rule of a code.

    The slug is the function's name, and its docstring is what `graphtool explain CODE` prints.
    `replaces` are codes of earlier releases that this one covers now. A generator without a
    docstring finds the Diagnostics of a rule that other modules use as well.
    """

    def register(find: Finder) -> Finder:
        if not find.__doc__:
            _FINDERS[code] = find
            return find
        slug = register_docs(code, find, replaces)

        @wraps(find)
        def coded(plan: MergePlan) -> Iterator[Diagnostic]:
            for found in find(plan):
                yield replace(found, code=code, slug=slug)

        _FINDERS[code] = coded
        return coded

    return register


def run_rules(plan: MergePlan) -> Report:
    """Return the diagnostics of all rules, in the order of their codes; nothing is changed."""
    return Report.of(found for code in sorted(_FINDERS) for found in _FINDERS[code](plan))


def not_checked(what: str, why: str, help: str | None = None) -> Diagnostic:
    """Report that a rule did not have the facts it needs, which is not a pass."""
    return Diagnostic(
        message=f"not checked: {what}", severity=Severity.NOTE, notes=(why,), help=help
    )
