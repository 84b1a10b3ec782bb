"""What to type on the command line, where a rule's help is an argument of a call."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace

from graphtool.checks import MergePlan
from graphtool.checks.guess import mended_feed_map
from graphtool.checks.names import free_prefix
from graphtool.diagnostics import Diagnostic, Report

__all__ = ["typed"]


def typed(report: Report, args: Namespace, plan: MergePlan) -> Report:
    """Give Diagnostics of a merge the help that this command line takes."""
    return Report.of(_typed(found, args, plan) for found in report)


def _typed(found: Diagnostic, args: Namespace, plan: MergePlan) -> Diagnostic:
    spell = _HELPS.get(found.code)
    if spell is None or found.help is None:
        return found
    return replace(found, help=spell(args, plan))


def _prefix(_: Namespace, plan: MergePlan) -> str:
    return f"--prefix {shlex.quote(free_prefix(plan))}"


def _feeds(_: Namespace, plan: MergePlan) -> str:
    pairs = mended_feed_map(plan).items()
    return " ".join(f"--feed {shlex.quote(f'{teacher}={student}')}" for teacher, student in pairs)


def _weights(args: Namespace, _: MergePlan) -> str:
    return "--teacher-weights FILE" if args.command == "merge" else "--parameters later"


_FEED_CODES = ("GT210", "GT211", "GT212", "GT213", "GT214", "GT216", "GT217", "GT218")
_HELPS: dict[str, Callable[[Namespace, MergePlan], str]] = {
    **dict.fromkeys(("GT201", "GT203", "GT204", "GT205"), _prefix),
    **dict.fromkeys(_FEED_CODES, _feeds),
    **dict.fromkeys(("GT235", "GT236"), _weights),
}
