"""What can be wrong with a command line."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, rule
from graphtool.lookalikes import near_notes, told_apart
from graphtool.text import inspect_command

__all__ = [
    "alike_feeds",
    "unknown_code",
    "wrong_usage",
]

_LISTED = 8


@rule("GT600")
def wrong_usage(message: str, help: str) -> Diagnostic:
    """The command line asks for something that the command does not take; the exit status is 2.

    `graphtool COMMAND --help` lists what a command takes and shows examples.
    """
    return Diagnostic(message=message, help=help)


@rule("GT602")
def unknown_code(code: str, near: Sequence[str]) -> Diagnostic:
    """No diagnostic has this code or slug.

    A code is GT and three digits, as in `error[GT001] no-such-path`; `graphtool explain` without a
    code lists all of them.
    """
    return Diagnostic(
        message=f"no diagnostic is called `{code}`",
        notes=tuple(near_notes(code, near)),
        help=f"graphtool explain {near[0].split()[0]}" if near else "graphtool explain",
    )


@rule("GT113")
def alike_feeds(program: str, name: str, other: str) -> Diagnostic:
    """Two feeds or fetches have different names that look the same.

    They differ in a letter of another script, in an invisible character, or as `l` and `1` do.
    `--format json` escapes every character that is not ASCII. Rename one of them where the network
    is saved.
    """
    return Diagnostic(
        message=f"two feeds or fetches look the same: {told_apart(name, other)}",
        severity=Severity.WARNING,
        where=(Where(program=program),),
        help=f"{inspect_command(program)} --format json",
    )
