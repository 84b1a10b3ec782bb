"""Rounds of everything in one process leave nothing behind; `python -m tests.soak` does hundreds.

Paddle itself keeps something of each operator that it builds under PIR, which only shows beside
what it keeps alone: the long form measures both. Objects of ours, and what they copy, do not grow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import paddle
import pytest

import graphtool as gt
from tests.soak.measures import Growth, soak
from tests.soak.rounds import IMAGE, everything, network

ROUNDS, WARM_UP = 20, 9

pytestmark = pytest.mark.nightly


def grown(work: Callable[[int], None], rounds: int = ROUNDS) -> Growth:
    paddle.enable_static()
    return soak(work, rounds, WARM_UP)


def test_rounds_leave_no_object_file_thread_or_temporary_behind() -> None:
    for legacy in (False, True):
        found = grown(partial(everything, legacy=legacy))
        assert (found.objects, found.files, found.threads, found.temporaries) == (0, 0, 0, 0)


def test_verifying_frees_what_it_copied() -> None:
    paddle.enable_static()
    wide, narrow = network(512, legacy=False), network(4, legacy=False)
    # Two convolutions, two batch norms of four vectors, a linear layer; float32.
    weights = 4 * (3 * 512 * 9 + 512 * 1024 * 9 + 4 * (512 + 1024) + 1024 * 5 + 5)
    scopes = {"scope": narrow.scope, "teacher_scope": wide.scope}
    merged = gt.merge(wide.program, narrow.program, {"image": "image"}, **scopes)
    assert grown(lambda _: check(merged)).memory < weights / 20


def check(merged: gt.Merged) -> None:
    assert merged.verify({"image": IMAGE}).equal
