"""Find the user's own line in the call stack that Paddle keeps with an operator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["user_line"]

_FRAME = re.compile(r'\s*File "(?P<path>(?:[^"]*[/\\])?(?P<file>[^"]*))", line (?P<line>\d+)')
# Paddle wraps its functions with the package `decorator` and with the standard library's tools;
# generated code has no file.
_NOT_THE_USERS = re.compile(
    r"[/\\](site-packages|dist-packages|python)[/\\](paddle[/\\]|decorator(\.py|[/\\]))"
    r"|[/\\]graphtool[/\\](readers|cli)[/\\]"
    r"|[/\\]lib[/\\]python3\.\d+[/\\](?!(site|dist)-packages)"
    r"|^<"
)


def user_line(callstack: Sequence[str]) -> str | None:
    """Return the innermost frame outside of Paddle as `train.py:11`, None where there is none."""
    return next(filter(None, map(_place, reversed(callstack))), None)


@lru_cache(maxsize=4096)
def _place(frame: str) -> str | None:
    found = _FRAME.match(frame)
    if found is None or _NOT_THE_USERS.search(found["path"]):
        return None
    return f"{found['file']}:{found['line']}"
