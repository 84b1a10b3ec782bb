"""Rounds of everything in one process leave nothing behind: objects of ours do not grow.

Paddle itself keeps something of each operator that it builds under PIR, in memory of its own.
"""

from __future__ import annotations

from functools import partial

import paddle
import pytest

import graphtool as gt
from tests.soak.measures import soak
from tests.soak.rounds import IMAGE, everything, network

ROUNDS, WARM_UP = 20, 9

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("legacy", [False, True])
def test_rounds_leave_no_object_file_thread_or_temporary_behind(*, legacy: bool) -> None:
    paddle.enable_static()
    grown = soak(partial(everything, legacy=legacy), ROUNDS, WARM_UP)
    assert grown | {"memory": 0} == dict.fromkeys(grown, 0)


def test_verifying_frees_what_it_copied() -> None:
    paddle.enable_static()
    wide, narrow = network(512, legacy=False), network(4, legacy=False)
    # Two convolutions, two batch norms of four vectors, a linear layer; float32.
    weights = 4 * (3 * 512 * 9 + 512 * 1024 * 9 + 4 * (512 + 1024) + 1024 * 5 + 5)
    scopes = {"scope": narrow.scope, "teacher_scope": wide.scope}
    merged = gt.merge(wide.program, narrow.program, {"image": "image"}, **scopes)

    def check(_: int) -> None:
        assert merged.verify({"image": IMAGE}).equal

    assert soak(check, ROUNDS, WARM_UP)["memory"] < weights / 20
