"""Import Paddle, and switch its mode and the kind of Programs that it builds."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from threading import RLock, current_thread, main_thread
from typing import Any, TypeAlias

from graphtool.backend import problems
from graphtool.backend.private import is_unseen, missing_names, unseen_paddle
from graphtool.diagnostics import ReadError, warn
from graphtool.graph import ProgramKind

__all__ = [
    "Paddle",
    "in_mode",
    "ineffective_auto_cast",
    "is_legacy",
    "legacy_mode",
    "load_paddle",
    "program_lock",
    "static_mode",
]

# Paddle's objects: its static types do not cover its whole API, and differ between 2.6 and 3.3.
Paddle: TypeAlias = Any
_LOCK = RLock()


def load_paddle() -> Paddle:
    """Return the module `paddle`.

    Raises ReadError GT030 if it is not installed or does not import.
    """
    # Hides glog messages below errors, which only Paddle's developers can act on; read at import.
    os.environ.setdefault("GLOG_minloglevel", "2")
    import_module("zlib")  # Paddle 2.6 segfaults if it loads its own zlib first
    try:
        with _sigterm_handler_kept(), _ccache_warning_ignored():
            import paddle
    except ImportError as error:
        # Paddle's extension module wraps any error of its initialisation in an ImportError.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise ReadError(problems.no_paddle(str(error))) from None
    if getattr(paddle, "__file__", None) is None:
        # A folder `paddle` in `sys.path` is imported as a namespace package.
        (folder, *_) = paddle.__path__
        raise ReadError(problems.no_paddle(f"`{folder}` is a folder, not a package"))
    _warn_if_names_are_missing()
    return paddle


@cache
def _warn_if_names_are_missing() -> None:
    """Warn once in a process if this Paddle is new and lacks private names."""
    paddle = sys.modules["paddle"]
    release = str(paddle.__version__)
    if is_unseen(release) and (missing := missing_names(paddle)):
        warn(unseen_paddle(release, missing))


@contextmanager
def _ccache_warning_ignored() -> Generator[None]:
    """Ignore the warning about ccache while Paddle is first imported."""
    if "paddle" in sys.modules:
        # Changing the filters resets which warnings were issued already.
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        yield


@contextmanager
def _sigterm_handler_kept() -> Generator[None]:
    """Keep the caller's handler of SIGTERM; Paddle's import installs one that reports a crash."""
    handler = signal.getsignal(signal.SIGTERM)
    is_main = current_thread() is main_thread()
    if "paddle" in sys.modules or not callable(handler) or not is_main:
        yield
        return
    # Block the signal while Paddle's handler is installed.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def program_lock() -> Generator[None]:
    """Hold the lock for work on Programs.

    Paddle's insertion point, default Programs, mode and kind of Programs are global to the process.
    Two threads that build at once insert operators into each other's Programs, or Paddle refuses
    (`The block obtained before and after calling the static API is inconsistent`).
    """
    with _LOCK:
        yield


def is_legacy(program: Paddle) -> bool:
    """Return whether a Program is legacy: only such a one has a ProgramDesc."""
    return hasattr(program, "desc")


@contextmanager
def in_mode(*, static: bool) -> Generator[None]:
    """Switch Paddle to static or dynamic mode, and back afterwards."""
    paddle = load_paddle()
    was_static = not paddle.in_dynamic_mode()
    switch = {True: paddle.enable_static, False: paddle.disable_static}
    try:
        # Inside the `try`: an interrupted switch may have taken effect.
        if was_static != static:
            switch[static]()
        # A thread starts in the mode of its parent, and cannot switch dynamic mode off.
        is_stuck = static and paddle.in_dynamic_mode()
        guard = paddle.base.framework._dygraph_guard  # noqa: SLF001  # no public equivalent
        with guard(None) if is_stuck else nullcontext():
            yield
    finally:
        if was_static != static:
            switch[was_static]()


@contextmanager
def legacy_mode() -> Generator[None]:
    """Switch to static mode and legacy Programs, and back afterwards.

    Paddle 2.6 has no other kind of Programs, and no OldIrGuard.
    """
    guard = getattr(load_paddle().pir_utils, "OldIrGuard", nullcontext)
    with in_mode(static=True), guard():
        yield


def static_mode(kind: ProgramKind) -> AbstractContextManager[None]:
    """Switch to static mode and a kind of Programs, and back afterwards."""
    return legacy_mode() if kind is ProgramKind.LEGACY else in_mode(static=True)


def ineffective_auto_cast() -> str | None:
    """Return the dtype of a `paddle.amp.auto_cast` around the call that has no effect, if any.

    That is so in dynamic mode on a CPU.
    """
    core = load_paddle().base.core
    if not hasattr(core, "_get_amp_attrs"):  # In Paddle 2.6 it never affects static Programs.
        return None
    # `paddle.amp.auto_cast` is the function; its module keeps what was requested.
    requested = sys.modules["paddle.amp.auto_cast"].amp_state()
    is_requested = requested and requested.get("enable") and requested.get("level") != "O0"
    is_on = core._get_amp_attrs()._amp_level != core.AmpLevel.O0  # noqa: SLF001
    return str(requested.get("dtype")) if is_requested and not is_on else None
