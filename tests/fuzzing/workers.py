"""Run what a mutated input does to graphtool in a process of its own, with bounds on both costs."""

from __future__ import annotations

import os
import pickle
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import FrameType

import graphtool
from graphtool.diagnostics import GraphtoolError
from tests.fuzzing.cases import Exercise

__all__ = ["Limits", "Outcome", "Result", "limits_for", "run"]

_MEGABYTE = 1 << 20
# An honest file of a few kB needs some 10 MB to be read, listed, paired and drawn.
_BASE_MEMORY, _TIMES_THE_FILE = 64 * _MEGABYTE, 100
# Address space is mapped in larger pieces than are used: arenas, thread stacks.
_MAPPED = 256 * _MEGABYTE
_BASE_SECONDS, _TIMES_HONEST = 1.0, 6.0
# By the wall clock, for what waits and does not compute; others share the machine.
_LONGEST_WAIT = 120.0


class Outcome(Enum):
    """What became of an input; the first two are all that may happen."""

    RIGHT = "right"
    DIAGNOSED = "diagnosed"
    RAISED = "raised"
    TIME = "out of time"
    MEMORY = "out of memory"
    DIED = "died"

    @property
    def is_finding(self) -> bool:
        """Tell what must not happen."""
        return self not in (Outcome.RIGHT, Outcome.DIAGNOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An outcome with its costs; `what` are codes, or the exception, `trace` where it was raised.

    `place` is the innermost line of graphtool's own: findings of one place are one.
    """

    outcome: Outcome
    what: str = ""
    place: str = ""
    trace: str = ""
    seconds: float = 0.0
    memory: int = 0

    @property
    def signature(self) -> tuple[Outcome, str, str]:
        """What two findings with one cause share."""
        return self.outcome, self.what.partition(":")[0], self.place


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of processor time, and bytes beyond what the process had before."""

    seconds: float
    memory: int


def limits_for(size: int, honest_size: int, honest_seconds: float) -> Limits:
    """Allow a small multiple of what an honest file of that size takes."""
    scaled = honest_seconds * max(1.0, size / max(1, honest_size))
    return Limits(_BASE_SECONDS + _TIMES_HONEST * scaled, _BASE_MEMORY + _TIMES_THE_FILE * size)


def run(exercise: Exercise, data: bytes, limits: Limits) -> Result:
    """Do an exercise in a forked process, under limits of time and memory."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    reading, writing = os.pipe()
    held = _held(1)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(exercise, data, folder, limits, writing)
    os.close(writing)
    try:
        said = _hear(reading, child)
        _, status, used = os.wait4(child, 0)
    finally:
        os.close(reading)
        shutil.rmtree(folder, ignore_errors=True)
    memory = max(0, used.ru_maxrss * 1024 - held)
    seconds = used.ru_utime + used.ru_stime
    result = replace(_told(said, status), seconds=seconds, memory=memory)
    if memory > limits.memory and not result.outcome.is_finding:
        return replace(result, outcome=Outcome.MEMORY, what=f"{memory // _MEGABYTE} MB resident")
    return result


def _held(field: int) -> int:
    """Return the bytes that this process has mapped (field 0), or holds (1)."""
    return int(Path("/proc/self/statm").read_text().split()[field]) * resource.getpagesize()


def _hear(reading: int, child: int) -> bytes:
    """Return what the worker says; one that says nothing for too long is ended."""
    said, until = bytearray(), time.monotonic() + _LONGEST_WAIT
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            return bytes(said)
        piece = os.read(reading, 65536)
        if not piece:
            return bytes(said)
        said += piece


def _told(said: bytes, status: int) -> Result:
    if said:
        return pickle.loads(said)  # our own worker wrote it
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        waited = number in (signal.SIGKILL, signal.SIGXCPU)
        outcome = Outcome.TIME if waited else Outcome.DIED
        return Result(outcome=outcome, what=signal.Signals(number).name)
    return Result(outcome=Outcome.DIED, what=f"exit status {os.waitstatus_to_exitcode(status)}")


class _OutOfTimeError(BaseException):
    """Raised in the middle of the work, so that the trace says what took the time."""


def _work(exercise: Exercise, data: bytes, folder: Path, limits: Limits, writing: int) -> None:
    """Be the worker: never returns."""
    status = 1
    try:
        os.chdir(folder)
        try:
            _bound(limits)
            result = _attempt(exercise, data, folder)
            _unbound()
        except _OutOfTimeError as error:
            result = _raised(Outcome.TIME, error)
        os.write(writing, pickle.dumps(result))
        status = 0
    finally:
        os._exit(status)


def _bound(limits: Limits) -> None:
    most = _held(0) + limits.memory + _MAPPED
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    # For what is stuck in C, where no exception can be raised.
    last = int(limits.seconds * 2) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (last, last + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _OutOfTimeError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limits.seconds)


def _unbound() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _attempt(exercise: Exercise, data: bytes, folder: Path) -> Result:
    try:
        exercise(data, folder)
    except GraphtoolError as error:
        codes = dict.fromkeys(found.code for found in error.report)
        if not all(codes):
            return _raised(Outcome.RAISED, error)
        return Result(outcome=Outcome.DIAGNOSED, what=" ".join(codes))
    except _OutOfTimeError:
        raise  # it may come after the exercise as well
    except MemoryError as error:
        return _raised(Outcome.MEMORY, error)
    except BaseException as error:  # noqa: BLE001  # whatever else is raised is what is looked for
        return _raised(Outcome.RAISED, error)
    return Result(outcome=Outcome.RIGHT)


_TRACE = 6000
_OURS = f"{Path(graphtool.__file__).parent}/"


def _raised(outcome: Outcome, error: BaseException) -> Result:
    _unbound()
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_OURS)]
    last = (ours or frames)[-1]
    name = last.filename.removeprefix(_OURS)
    return Result(
        outcome=outcome,
        what=f"{type(error).__name__}: {error}"[:300],
        place=f"{name}:{last.lineno} {last.name}",
        trace="".join(traceback.format_exception(error))[-_TRACE:],
    )
