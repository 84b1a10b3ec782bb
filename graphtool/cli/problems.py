"""What can be wrong with a command line."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, rule
from graphtool.text import near_notes

__all__ = [
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
        notes=tuple(near_notes(near)),
        help=f"graphtool explain {near[0].split()[0]}" if near else "graphtool explain",
    )
