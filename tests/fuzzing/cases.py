"""What is fuzzed, and how: in a forked process, with bounds on time and memory."""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TypeAlias

import graphtool
from graphtool.diagnostics import GraphtoolError

# Spoils honest bytes; the same Random gives the same bytes.
Mutator: TypeAlias = Callable[[Random, bytes], bytes]
# Does with the bytes what people do, in an empty folder that is the working directory: returns
# where all went right, raises GraphtoolError for a Diagnostic, and anything else is a finding.
Exercise: TypeAlias = Callable[[bytes, Path], None]

_FORK = get_context("fork")
_MEGABYTE = 1 << 20
# An honest file of a few kB needs some 10 MB to be read, listed, paired and drawn.
_BASE_MEMORY, _TIMES_THE_FILE = 64 * _MEGABYTE, 100
# Address space is mapped in larger pieces than are used: arenas, thread stacks.
_MAPPED = 256 * _MEGABYTE
_BASE_SECONDS, _TIMES_HONEST = 1.0, 6.0
# By the wall clock, for what waits and does not compute; others share the machine.
_LONGEST_WAIT = 120.0
_TRACE = 6000
_PACKAGE = f"{Path(graphtool.__file__).parent}/"


@dataclass(frozen=True, slots=True)
class Subject:
    """One kind of input: `honest` has examples by name, `mutators` the ways to spoil them."""

    name: str
    honest: Mapping[str, bytes]
    mutators: Mapping[str, Mutator]
    exercise: Exercise


@dataclass(frozen=True, slots=True)
class Case:
    """One mutated input, which its name gives again: `subject/mutator/target#seed`."""

    subject: Subject
    mutator: str
    target: str
    seed: int

    def __str__(self) -> str:
        return f"{self.subject.name}/{self.mutator}/{self.target}#{self.seed}"

    @property
    def honest(self) -> bytes:
        """The input before it is spoilt."""
        return self.subject.honest[self.target]

    def data(self) -> bytes:
        """Return the spoilt input."""
        return self.subject.mutators[self.mutator](Random(str(self)), self.honest)


def cases_of(
    subjects: Sequence[Subject], number: int, *, seed: int = 0, only: str = ""
) -> list[Case]:
    """Spread a number of cases evenly over all subjects, mutators and targets that fit `only`."""
    kinds = [
        (subject, mutator, target)
        for subject in subjects
        for mutator in subject.mutators
        for target in subject.honest
        if only in f"{subject.name}/{mutator}/{target}"
    ]
    # So that the first few cases are of all sorts.
    Random(0).shuffle(kinds)
    every = (Case(*kind, place) for place in count(seed) if kinds for kind in kinds)
    return list(islice(every, number if kinds else 0))


def named_case(subjects: Sequence[Subject], name: str) -> Case:
    """Return the case of a name that a finding was printed with.

    Raises LookupError where no subject, mutator or target has that name.
    """
    place, _, seed = name.rpartition("#")
    subject_name, mutator, target = place.split("/", 2)
    case = Case({x.name: x for x in subjects}[subject_name], mutator, target, int(seed))
    case.data()
    return case


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
        """Return whether this must not happen."""
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
    answers, answer = _FORK.Pipe(duplex=False)
    with TemporaryDirectory(prefix="fuzzing-", ignore_cleanup_errors=True) as folder, answers:
        child = _FORK.Process(target=_work, args=(exercise, data, Path(folder), limits, answer))
        child.start()
        answer.close()
        try:
            if answers.poll(_LONGEST_WAIT):
                return answers.recv()
            child.kill()
        except EOFError:
            pass
        finally:
            child.join()
    status = child.exitcode or 0
    if status >= 0:
        return Result(outcome=Outcome.DIED, what=f"exit status {status}")
    waited = -status in (signal.SIGKILL, signal.SIGXCPU)
    outcome = Outcome.TIME if waited else Outcome.DIED
    return Result(outcome=outcome, what=signal.Signals(-status).name)


def _held(field: int) -> int:
    """Return the bytes that this process has mapped (field 0), or holds (1)."""
    return int(Path("/proc/self/statm").read_text().split()[field]) * resource.getpagesize()


class _OutOfTimeError(BaseException):
    """Raised in the middle of the work, so that the trace says what took the time."""


def _work(
    exercise: Exercise, data: bytes, folder: Path, limits: Limits, answer: Connection
) -> None:
    """Be the worker."""
    os.chdir(folder)
    held = _held(1)
    try:
        _bound(limits)
        result = _attempt(exercise, data, folder)
        _unbound()
    except _OutOfTimeError as error:
        result = _raised(Outcome.TIME, error)
    used = resource.getrusage(resource.RUSAGE_SELF)
    memory = max(0, used.ru_maxrss * 1024 - held)
    result = replace(result, seconds=used.ru_utime + used.ru_stime, memory=memory)
    if memory > limits.memory and not result.outcome.is_finding:
        what = f"{memory // _MEGABYTE} MB resident"
        result = replace(result, outcome=Outcome.MEMORY, what=what)
    answer.send(result)
    os._exit(0)


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


def _raised(outcome: Outcome, error: BaseException) -> Result:
    _unbound()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
    last = (own or frames)[-1]
    return Result(
        outcome=outcome,
        what=f"{type(error).__name__}: {error}"[:300],
        place=f"{last.filename.removeprefix(_PACKAGE)}:{last.lineno} {last.name}",
        trace="".join(traceback.format_exception(error))[-_TRACE:],
    )
