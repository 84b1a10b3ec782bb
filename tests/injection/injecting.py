"""Let the n-th step of some work fail, for every n, and look at what is left of it."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from linecache import getline
from pathlib import Path
from types import FrameType
from typing import Any

import paddle
import pytest

import graphtool as gt

_OURS = str(Path(gt.__file__).parent)
_PADDLES = "paddle.base.libpaddle"
# Where Programs, Scopes or Paddle's global state change; the rest reads.
_CHANGING = ("/merging/", "/losses/", "/training/", "/backend/live", "/backend/generators")

sees_calls = pytest.mark.skipif(
    sys.version_info[:2] in {(3, 10), (3, 12)},
    reason="Python 3.10 and 3.12 do not tell a profiler of calls of Paddle's methods",
)
_PATIENCE = 40
# Switches between modes of Paddle are what undoes themselves: there is no other way back.
_SWITCHES = frozenset({"_switch_tracer"})
_SWITCHING = "/paddle/pir_utils.py"
_GUARDS = frozenset({"in_mode", "legacy_mode", "static_mode"})


class InjectedError(RuntimeError):
    """What a call into Paddle raises in the place of doing its work."""


class Kind(Enum):
    """What fails: a call into Paddle, or the user who interrupts after one, or before a line."""

    CALL = "call fails"
    RETURN = "interrupt after a call"
    LINE = "interrupt before a line"


@dataclass(frozen=True)
class Case:
    """Some work, and all that is to stay as it is where the work fails."""

    work: Callable[[], object]
    look: Callable[[], dict[str, Any]]


Scenario = Callable[[], Case]
# Takes the places of all steps, and returns the numbers of some.
Choice = Callable[[Sequence[str]], Sequence[int]]


@dataclass
class Tally:
    """How many failures were injected, what came of them, and what is wrong."""

    count: int = 0
    raised: Counter[str] = field(default_factory=Counter[str])
    # Interrupted when all was done: that stays.
    done: int = 0
    wrong: list[str] = field(default_factory=list[str])


@dataclass
class Injection:
    """Raises at step `at` of a kind, counted from 0; `places` are those of the steps so far."""

    kind: Kind
    at: int | None = None
    places: list[str] = field(default_factory=list[str])
    # The last line of each frame.
    lines: dict[FrameType, int] = field(default_factory=dict[FrameType, int])

    def run(self, work: Callable[[], object]) -> BaseException | None:
        """Run some work; return what it raised, if anything."""
        start = sys.settrace if self.kind is Kind.LINE else sys.setprofile
        start(self._trace if self.kind is Kind.LINE else self._profile)
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # whatever came of it is looked at
            return error
        finally:
            start(None)
        return None

    @property
    def fired(self) -> bool:
        return self.at is not None and len(self.places) > self.at

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        wanted = "c_call" if self.kind is Kind.CALL else "c_return"
        if event != wanted or not str(getattr(argument, "__module__", "")).startswith(_PADDLES):
            return
        if argument.__name__ in _SWITCHES or _is_switching(frame):
            return
        # Python stops profiling where the function for it raises: undoing runs undisturbed.
        self._step(f"{_place(frame)} {argument.__name__}")

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename.removeprefix(_OURS)
        if not file.startswith(_CHANGING):
            return None
        if event == "line" and frame.f_code.co_name not in _GUARDS:
            before = self.lines.get(frame, 0)
            self.lines[frame] = frame.f_lineno
            if not (before > frame.f_lineno and _opens_with(frame)):
                self._step(_place(frame))
        return self._trace

    def _step(self, place: str) -> None:
        self.places.append(place)
        if self.fired:
            raise InjectedError("(Fatal) injected") if self.kind is Kind.CALL else KeyboardInterrupt


def _is_switching(frame: FrameType) -> bool:
    back = frame.f_back
    callers = [one for one in (frame, back, back and back.f_back) if one is not None]
    names = {one.f_code.co_name for one in callers}
    # Python itself ignores what is raised in `__del__`.
    return not names.isdisjoint({"switch_main_program", "__del__"}) or any(
        one.f_code.co_filename.endswith(_SWITCHING) for one in callers
    )


def _opens_with(frame: FrameType) -> bool:
    """Tell a line that a frame comes back to when it leaves a `with`: before that nothing helps."""
    return getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


def _place(frame: FrameType) -> str:
    code = frame.f_code
    name = code.co_filename.rpartition("site-packages/")[2].removeprefix(_OURS)
    return f"{name}:{frame.f_lineno} {code.co_name}"


def ends(places: Sequence[str]) -> Sequence[int]:
    """Choose the first and the last step at each place in the code."""
    first: dict[str, int] = {}
    for at, place in enumerate(places):
        first.setdefault(place, at)
    last = {place: at for at, place in enumerate(places)}
    return sorted({*first.values(), *last.values()})


def few(count: int) -> Choice:
    """Choose so many of `ends`, spread evenly."""

    def choose(places: Sequence[str]) -> Sequence[int]:
        found = ends(places)
        return [found[at * len(found) // count] for at in range(count)]

    return choose


def inject(scenario: Scenario, kind: Kind, chosen: Choice) -> Tally:
    """Let the chosen ones of all steps fail, one after the other.

    One case bears failures until one of them has changed something, `_PATIENCE` of them at most:
    then the work is done on it, and what comes out is what undisturbed work gives.
    """
    control, survey = _fresh(scenario), Injection(kind)
    error = survey.run(control.work)
    assert error is None, error
    wanted, tally = _contents(control.look()), Tally()
    steps = chosen(survey.places)
    for start in range(0, len(steps), _PATIENCE):
        case = _fresh(scenario)
        for at in steps[start : start + _PATIENCE]:
            # What is worked out once and kept takes no steps the second time: then anew.
            for injection in (Injection(kind, at), Injection(kind, at)):
                if not _bears(case, injection, tally, wanted):
                    case = _fresh(scenario)
                if injection.fired:
                    break
        tally.wrong += [f"in the end, {one}" for one in _again(case, wanted)]
    return tally


def _bears(case: Case, injection: Injection, tally: Tally, wanted: dict[str, Any]) -> bool:
    """Let one step fail; tell whether all is as it was before."""
    before = case.look()
    error = injection.run(case.work)
    if not injection.fired:
        assert error is None, error
        return False
    place, after = injection.places[-1], case.look()
    tally.count += 1
    tally.raised[_name(error)] += 1
    tally.wrong += [f"{place}: {one}" for one in _against(error, injection.kind)]
    changed = [key for key, value in after.items() if value != before[key]]
    if not changed:
        return error is not None
    if error is not None and injection.kind is not Kind.CALL and _contents(after) == wanted:
        tally.done += 1
    elif error is not None:
        tally.wrong += [f"{place}: {key} changed" for key in changed]
    return False


def _again(case: Case, wanted: dict[str, Any]) -> Iterator[str]:
    try:
        case.work()
    except Exception as error:  # noqa: BLE001  # said, not raised: the next step is tried too
        yield f"the second try raised {type(error).__name__}: {str(error).splitlines()[:1]}"
        return
    found = _contents(case.look())
    yield from (
        f"{key} differs after the second try" for key in wanted if found[key] != wanted[key]
    )


def _against(error: BaseException | None, kind: Kind) -> Iterator[str]:
    """Say what is wrong with the exception itself: a bare one of Paddle's reaches nobody."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield "Ctrl-C is held for good"
    if kind is not Kind.CALL and not isinstance(error, KeyboardInterrupt):
        yield f"the interrupt became {_name(error)}"
    if kind is Kind.CALL and error is not None and not isinstance(error, gt.GraphtoolError):
        yield f"raised a bare {_name(error)}"


def _name(error: BaseException | None) -> str:
    if isinstance(error, gt.GraphtoolError):
        return ", ".join(found.code for found in error.report.errors)
    return "nothing" if error is None else type(error).__name__


def _fresh(scenario: Scenario) -> Case:
    paddle.enable_static()
    # Names count from 0 each time.
    paddle.base.unique_name.switch()
    return scenario()


def _contents(seen: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs from one build to the next."""
    return {key: value for key, value in seen.items() if "identity" not in key}
