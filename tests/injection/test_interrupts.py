"""Ctrl-C while Paddle works is a KeyboardInterrupt afterwards, and nothing has changed."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from time import sleep
from types import FrameType
from typing import Any

import paddle
import pytest

from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.diagnostics import MergeError
from graphtool.interrupts import raise_pending_interrupt
from graphtool.merging import merged_of
from tests.injection import scenarios
from tests.injection.injecting import Scenario, sees_calls
from tests.injection.looking import state
from tests.merging import networks
from tests.merging.networks import merge_built, small

pytestmark = pytest.mark.nightly


def ctrl_c() -> None:
    # In this thread: one of Paddle's would get it later.
    signal.raise_signal(signal.SIGINT)


def test_it_waits_until_paddle_is_done_and_is_no_failure_of_paddles() -> None:
    done: list[str] = []

    def work() -> None:
        ctrl_c()
        done.append("what Paddle did")
        paddle.base.core.ProgramDesc(b"abc")

    with pytest.raises(KeyboardInterrupt) as raised, raise_paddle_errors_as(MergeError, "gt.merge"):
        work()

    assert done
    assert raised.value.__cause__ is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_that_comes_a_second_later_does_not_wait() -> None:
    done: list[str] = []

    def work() -> None:
        ctrl_c()
        ctrl_c()
        done.append("pressed twice in a row")
        sleep(1.01)
        ctrl_c()
        done.append("more")

    with pytest.raises(KeyboardInterrupt), raise_paddle_errors_as(MergeError, "gt.merge"):
        work()

    assert done == ["pressed twice in a row"]


def test_those_that_come_while_it_is_undone_do_not_leave_half_of_it() -> None:
    undone: list[str] = []

    def undo() -> None:
        ctrl_c()
        undone.append("what was done")

    def work() -> None:
        with ExitStack() as stack:
            stack.callback(undo)
            ctrl_c()
            raise_pending_interrupt()

    with pytest.raises(KeyboardInterrupt), raise_paddle_errors_as(MergeError, "gt.merge"):
        work()

    assert undone


def test_a_handler_of_the_callers_is_called_at_once() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        with raise_paddle_errors_as(MergeError, "gt.merge"):
            ctrl_c()
            assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("scenario", "call"),
    [(scenarios.merge, 5), (scenarios.merge_legacy, 40), (scenarios.distill, 60)],
)
@pytest.mark.pir
@sees_calls
def test_what_paddle_did_is_undone(scenario: Scenario, call: int) -> None:
    case = scenario()
    before = case.look()
    with pytest.raises(KeyboardInterrupt):
        at_call_of_paddle(call, ctrl_c, case.work)

    assert case.look() == before


@pytest.mark.pir
def test_one_that_comes_while_garbage_is_collected_after_a_merge_undoes_it() -> None:
    teacher, student = small(networks.looping, "image"), small(networks.branching)
    before, threshold = state(student.program), gc.get_threshold()

    def press(phase: str, _: object) -> None:
        if phase == "start" and merged_of(student.program) is not None:
            ctrl_c()

    gc.set_threshold(10)
    gc.callbacks.append(press)
    try:
        with pytest.raises(KeyboardInterrupt):
            merge_built(teacher, student)
    finally:
        gc.callbacks.remove(press)
        gc.set_threshold(*threshold)

    assert state(student.program) == before


def at_call_of_paddle(number: int, act: Callable[[], None], work: Callable[[], Any]) -> None:
    """Act within the n-th call of Paddle's compiled part."""
    calls = count(1)

    def look(_: FrameType, event: str, called: Any) -> None:
        module = str(getattr(called, "__module__", ""))
        if event == "c_call" and module.startswith("paddle.") and next(calls) == number:
            act()

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    assert next(calls) > number
