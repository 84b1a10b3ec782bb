"""Ctrl-C while Paddle works is a KeyboardInterrupt afterwards, and nothing has changed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import paddle
import pytest

from graphtool.diagnostics import MergeError
from graphtool.merging._failures import paddle_failures
from tests.injection import scenarios
from tests.injection.injecting import Scenario


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_waits_until_paddle_is_done_and_is_no_failure_of_paddles() -> None:
    done: list[str] = []

    def work() -> None:
        ctrl_c()
        done.append("what Paddle did")
        paddle.base.core.ProgramDesc(b"abc")

    with pytest.raises(KeyboardInterrupt) as raised, paddle_failures(MergeError, "gt.merge"):
        work()

    assert done
    assert raised.value.__cause__ is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not_wait() -> None:
    done: list[str] = []

    def work() -> None:
        ctrl_c()
        ctrl_c()
        done.append("more")

    with pytest.raises(KeyboardInterrupt), paddle_failures(MergeError, "gt.merge"):
        work()

    assert done == []


def test_a_handler_of_the_callers_is_called_at_once() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        with paddle_failures(MergeError, "gt.merge"):
            ctrl_c()
            assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("scenario", "call"),
    [(scenarios.merge, 5), (scenarios.merge_legacy, 40), (scenarios.distill, 60)],
)
@pytest.mark.pir
def test_what_paddle_did_is_undone(scenario: Scenario, call: int) -> None:
    case = scenario()
    before = case.look()
    with pytest.raises(KeyboardInterrupt):
        at_call_of_paddle(call, ctrl_c, case.work)

    assert case.look() == before


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
