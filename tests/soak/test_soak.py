"""Rounds of everything in one process leave nothing behind: objects of ours do not grow.

Paddle itself keeps something of each operator that it builds under PIR, in memory of its own.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

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


def verifying() -> dict[str, float]:
    """Verify one merge many times."""
    paddle.enable_static()
    wide, narrow = network(512, legacy=False), network(4, legacy=False)
    scopes = {"scope": narrow.scope, "teacher_scope": wide.scope}
    merged = gt.merge(wide.program, narrow.program, {"image": "image"}, **scopes)

    def check(_: int) -> None:
        assert merged.verify({"image": IMAGE}).equal

    return soak(check, 2 * ROUNDS, WARM_UP)


def test_verifying_frees_what_it_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two convolutions, two batch norms of four vectors, a linear layer; float32.
    weights = 4 * (3 * 512 * 9 + 512 * 1024 * 9 + 4 * (512 + 1024) + 1024 * 5 + 5)
    # Large blocks go back to the system when freed, with nobody else's in the same process.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**20))
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        assert alone.submit(verifying).result()["memory"] < weights / 20
