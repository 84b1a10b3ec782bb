"""Make what the user's or Paddle's code raised fit a Diagnostic: message and the user's frames."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from types import TracebackType

from graphtool.diagnostics import GraphtoolError
from graphtool.readers._callstack import user_line

__all__ = ["Attempt", "brief", "said_by", "user_frames"]

_LINES = 4
_FRAMES = 5
_SUMMARY = re.compile(r".*Error Message Summary:\s*-+\s*", re.DOTALL)
# What `to_static` and Executors raise: the frames that built the operator, then the error itself.
_TRANSFORMED = re.compile(
    r".*In (?:transformed|user) code:.*\n\s+\w+(?:Error|Exception): ", re.DOTALL
)
_TRANSFORMED_FRAME = re.compile(r'^\s+(File "[^"]*", line \d+), in (\w+)$', re.MULTILINE)
_IN_PADDLE = re.compile(r"\s*\(at [^()\s]+:\d+\)")
_RULER = re.compile(r"^[-\s]*$")


@dataclass
class Attempt:
    """Run code of the user's, which may raise anything, and keep what it raised in `error`.

    `raise SystemExit` is kept too, so that a script given as a module does not end the process.
    """

    error: Exception | SystemExit | None = None

    def __enter__(self) -> None:
        assert self.error is None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, GraphtoolError) or not isinstance(error, Exception | SystemExit):
            return False
        self.error = error
        return True


def brief(message: str) -> str:
    """Return the first lines that say something, without Paddle's C++ stack and source places."""
    text = _IN_PADDLE.sub("", _SUMMARY.sub("", _TRANSFORMED.sub("", message)))
    lines = [line.strip() for line in text.splitlines() if not _RULER.match(line)]
    return "\n".join(lines[:_LINES])


def said_by(error: BaseException) -> str:
    """Return what an error says in brief, its type where it says nothing."""
    return brief(str(error)) or type(error).__name__


def user_frames(error: BaseException) -> tuple[str, ...]:
    """List the user's frames, outermost first: `net.py:12 in forward: x = self.a(x)`."""
    frames = [
        f"{place} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (place := user_line([f'File "{frame.filename}", line {frame.lineno}']))
    ]
    frames += [
        f"{place} in {function}"
        for frame, function in _TRANSFORMED_FRAME.findall(str(error))
        if (place := user_line([frame]))
    ]
    return tuple(frames[-_FRAMES:])
