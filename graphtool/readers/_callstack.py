"""Find the user's line in the call stack that Paddle keeps with an operator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["user_line"]

_FRAME = re.compile(r'\s*File "(?P<path>(?:[^"]*[/\\])?(?P<file>[^"]*))", line (?P<line>\d+)')
# Paddle wraps its functions with the package `decorator` and with the standard library;
# generated code has no file.
_LIBRARY_PATH = re.compile(
    r"[/\\](site-packages|dist-packages|python)[/\\](paddle[/\\]|decorator(\.py|[/\\]))"
    r"|[/\\]graphtool[/\\](backend|cli|readers|sources)[/\\]"
    r"|[/\\]lib[/\\]python3\.\d+[/\\](?!(site|dist)-packages)"
    r"|^<"
)


def user_line(callstack: Sequence[str]) -> str | None:
    """Return the innermost frame of the user's code as `train.py:11`, None if there is none."""
    return next(filter(None, map(_user_frame, reversed(callstack))), None)


@lru_cache(maxsize=4096)
def _user_frame(frame: str) -> str | None:
    match = _FRAME.match(frame)
    if match is None or _LIBRARY_PATH.search(match["path"]):
        return None
    return f"{match['file']}:{match['line']}"
