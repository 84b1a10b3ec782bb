"""Import Paddle, or say in a Diagnostic how to get it."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from threading import RLock, current_thread, main_thread
from typing import Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.graph import ProgramKind
from graphtool.readers import problems

__all__ = [
    "REFUSALS",
    "in_mode",
    "is_legacy",
    "legacy_mode",
    "load_paddle",
    "one_at_a_time",
    "static_mode",
]

# Paddle's static types neither cover what is used here nor agree between 2.6 and 3.3.
_Paddle: TypeAlias = Any

_LOCK = RLock()
# As what Paddle's errors come out: InvalidArgument, OutOfRange, Unimplemented, Fatal, ..., and
# those of its JSON parser.
REFUSALS = (ValueError, RuntimeError, IndexError, MemoryError, TypeError, SystemError)


def load_paddle() -> _Paddle:
    """Return the module `paddle`.

    Raises ReadError GT030 where it is not installed or does not import.
    """
    # Paddle tells users of PIR what only its developers can mend; read at import, errors stay.
    os.environ.setdefault("GLOG_minloglevel", "2")
    import_module("zlib")  # Paddle 2.6 segfaults where it loads its own zlib first
    try:
        with _termination_handled(), _without_hints():
            import paddle
    except ImportError as error:
        # Paddle's extension module makes one of whatever ends its initialisation.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise ReadError(problems.no_paddle(str(error))) from None
    if getattr(paddle, "__file__", None) is None:
        # To Python, a folder of that name beside what is run is a package without code.
        (folder, *_) = paddle.__path__
        raise ReadError(problems.no_paddle(f"`{folder}` is a folder, and no package"))
    return paddle


@contextmanager
def _without_hints() -> Generator[None]:
    """Keep Paddle's import from telling of a compiler cache.

    Later nothing is changed: with any change of its filters Python forgets what it said once.
    """
    if "paddle" in sys.modules:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        yield


@contextmanager
def _termination_handled() -> Generator[None]:
    """Keep the caller's handler of SIGTERM: Paddle puts in its place what reports a crash."""
    handler = signal.getsignal(signal.SIGTERM)
    is_main = current_thread() is main_thread()
    if "paddle" in sys.modules or not callable(handler) or not is_main:
        yield
        return
    # One that comes before Paddle's is gone again waits.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def one_at_a_time() -> Generator[None]:
    """Hold the lock that a call holds while it works on Programs.

    Where operators are inserted, the default Programs, the mode, and which kind of Programs Paddle
    builds are of the whole process: two threads that build at once put operators into one another's
    Programs, if Paddle does not refuse (`The block obtained before and after calling the static API
    is inconsistent`).
    """
    with _LOCK:
        yield


def is_legacy(program: _Paddle) -> bool:
    """Tell a legacy Program, which has a ProgramDesc, from a PIR one."""
    return hasattr(program, "desc")


@contextmanager
def in_mode(*, static: bool) -> Generator[None]:
    """Switch Paddle to static or dynamic mode, and back afterwards."""
    paddle = load_paddle()
    was_static = not paddle.in_dynamic_mode()
    switch = {True: paddle.enable_static, False: paddle.disable_static}
    try:
        # In here, for Paddle takes itself for switched where it was interrupted half-way.
        if was_static != static:
            switch[static]()
        # A thread begins in the mode of the one that starts it, which alone could switch that off.
        stays = static and paddle.in_dynamic_mode()
        guard = paddle.base.framework._dygraph_guard  # noqa: SLF001  # there is no public spelling
        with guard(None) if stays else nullcontext():
            yield
    finally:
        if was_static != static:
            switch[was_static]()


@contextmanager
def legacy_mode() -> Generator[None]:
    """Be in static mode, and let Paddle 3 work on legacy Programs for a while.

    Paddle 2.6 has no other kind, and no such guard.
    """
    guard = getattr(load_paddle().pir_utils, "OldIrGuard", nullcontext)
    with in_mode(static=True), guard():
        yield


def static_mode(kind: ProgramKind) -> AbstractContextManager[None]:
    """Be in static mode, and let Paddle work on a kind of Programs for a while."""
    return legacy_mode() if kind is ProgramKind.LEGACY else in_mode(static=True)
