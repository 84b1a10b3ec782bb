"""Stop a piece of work at each of its steps: by an interrupt, or by a signal to its process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sys
from collections.abc import Callable
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any

import graphtool.files
import graphtool.staging

Work = Callable[[], object]
Step = Callable[[], None]

# Each line of these is a step, and so is the end of each function of the others.
_BY_LINE = {graphtool.files.__file__, graphtool.staging.__file__, contextlib.__file__}
_BY_CALL = {pathlib.__file__, shutil.__file__}

# What Python tells of a file system before it is touched.
_TOUCHES = (
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink"),
    *("os.truncate", "shutil.rmtree", "fcntl.flock", "open"),
)


def interrupted_at(number: int, work: Work) -> bool:
    """Do the work, interrupted as by Ctrl-C at a step of the writing; False where it has fewer."""
    left = number
    came = False

    def step() -> None:
        nonlocal left, came
        left -= 1
        if left < 0 and not came:
            came = True
            raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(_tracer(step))
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return came


def _tracer(step: Step) -> Callable[[FrameType, str, Any], Any]:
    def by_line(frame: FrameType, event: str, _: Any) -> Any:
        # What is raised while a generator yields passes its `finally` by; no signal comes then.
        if event == "line" or (event == "return" and not frame.f_code.co_flags & CO_GENERATOR):
            step()
        return by_line

    def by_call(_: FrameType, event: str, __: Any) -> Any:
        if event == "return":
            step()
        return by_call

    def entered(frame: FrameType, *_: Any) -> Any:
        name = frame.f_code.co_filename
        if name in _BY_LINE:
            return by_line
        if name in _BY_CALL:
            frame.f_trace_lines = False
            return by_call
        return None

    return entered


def signals_at(number: int, sent: int) -> None:
    """Let this process send itself a signal before it touches files the n-th time."""
    left = number

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in _TOUCHES or (event == "open" and not _writes(arguments)):
            return
        left -= 1
        if left == -1:
            os.kill(os.getpid(), sent)

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, _, flags = arguments
    return isinstance(flags, int) and flags & os.O_ACCMODE != os.O_RDONLY
