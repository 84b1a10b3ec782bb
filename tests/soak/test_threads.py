"""Two threads at once: what each gets is that of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from sys import getswitchinterval, setswitchinterval
from threading import Barrier, Lock
from typing import Any

import numpy as np
import paddle
import pytest

import graphtool as gt
from graphtool.backend.paddle import program_lock
from tests.soak.rounds import IMAGE, Built, mode, network

TIMES = 3
_CNN = Path(__file__).parents[1] / "fixtures" / "2.6.2" / "cnn.pdmodel"

pytestmark = pytest.mark.nightly


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """Let threads take turns every 10 microseconds instead of every 5 milliseconds."""
    before = getswitchinterval()
    setswitchinterval(1e-5)
    yield
    setswitchinterval(before)


def at_once(*works: Callable[[], Any]) -> list[list[Any]]:
    """Do each work some times in a thread of its own, all started together."""
    start = Barrier(len(works))

    def repeat(work: Callable[[], Any]) -> list[Any]:
        start.wait()
        return [work() for _ in range(TIMES)]

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(repeat, works))


def two(*, legacy: bool = False) -> tuple[Built, Built]:
    paddle.enable_static()
    with mode(legacy=legacy):
        return network(8), network(4)


def merged(teacher: Built, student: Built) -> gt.Merged:
    scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
    return gt.merge(teacher.program, student.program, {"image": "image"}, **scopes)


def test_pairs_and_pictures_of_two_threads_are_those_of_one() -> None:
    teacher, student = two()

    def draw() -> str:
        pairs = gt.suggest_pairs(teacher.program, student.program)
        assert len(pairs) == 5
        return gt.render(pairs).dot

    alone = draw()
    assert at_once(draw, draw) == [[alone] * TIMES] * 2


def test_threads_merge_and_verify_programs_of_either_kind_and_restore_a_saved_one() -> None:
    """Which kind of Programs Paddle builds is of the process."""
    kinds = [[two(legacy=legacy) for _ in range(TIMES)] for legacy in (True, False)]

    def work(waiting: list[tuple[Built, Built]]) -> str:
        return str(merged(*waiting.pop()).verify({"image": IMAGE}))

    works = (lambda waiting=waiting: work(waiting) for waiting in kinds)
    assert at_once(*works, lambda: gt.for_training(_CNN).graph.kind.value) == [
        ["20 of 20 Values and 12 of 12 weights are bit-equal"] * TIMES,
        ["22 of 22 Values and 12 of 12 weights are bit-equal"] * TIMES,
        ["PIR"] * TIMES,
    ]


def test_evidence_of_threads_that_begin_in_dynamic_mode_is_that_of_one() -> None:
    """Paddle keeps the mode by thread; a new one has its parent's, and can't switch that off."""
    networks = [two(legacy=legacy) for legacy in (True, False)]
    for one in (one for pair in networks for one in pair):
        train(one)
    works = [lambda pair=pair: measured(*pair) for pair in networks]
    paddle.disable_static()
    try:
        alone = [work() for work in works]
        assert at_once(*works) == [[one] * TIMES for one in alone]
        assert paddle.in_dynamic_mode()
    finally:
        paddle.enable_static()


def train(network: Built) -> None:
    """Give each parameter what no initialiser does."""
    random = np.random.default_rng(1)
    for one in network.program.global_block().all_parameters():
        tensor = network.scope.find_var(one.name).get_tensor()
        tensor.set(random.uniform(0.2, 1, tensor.shape()).astype("float32"), paddle.CPUPlace())


def measured(teacher: Built, student: Built) -> list[str]:
    images = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype("float32")
    scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
    found = gt.suggest_pairs(teacher.program, student.program, evidence=images, **scopes)
    return [f"{pair} {pair.cka}" for pair in found]


def test_calls_that_use_programs_or_scopes_wait_for_one_another(tmp_path: Path) -> None:
    """Else a folder is saved with some of the parameters that another thread loads meanwhile."""
    kept, trained = merged(*two()), merged(*two())
    startup, adam = paddle.static.Program(), paddle.optimizer.Adam()
    with paddle.static.program_guard(trained.program, startup):
        pairs = gt.suggest_pairs(trained.plan.teacher, trained.plan.student)
        gt.minimize(adam, gt.distill_loss(trained, pairs).total)
    held = {"scope": trained.scope}
    paddle.static.Executor().run(startup, **held)
    gt.save_merged(kept, tmp_path / "merged")
    gt.export_student(kept, tmp_path / "student")
    gt.save_checkpoint(tmp_path / "step", trained, adam, step=1, **held)
    calls: list[Callable[[], Any]] = [
        lambda: gt.save_merged(kept, tmp_path / "merged", force=True),
        lambda: gt.load_merged(tmp_path / "merged", scope=paddle.static.Scope()),
        lambda: gt.export_student(kept, tmp_path / "student", force=True),
        lambda: gt.load_parameters(kept, tmp_path / "student.pdparams", scope=kept.scope),
        lambda: gt.save_checkpoint(tmp_path / "step", trained, adam, step=1, **held),
        lambda: gt.load_checkpoint(tmp_path / "step", trained, adam, **held),
        lambda: kept.verify({"image": IMAGE}).equal,
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        with program_lock():
            waiting = [pool.submit(call) for call in calls]
            assert not wait(waiting, 0.5).done
        for call in waiting:
            call.result()


def test_losses_that_two_threads_add_in_turn_are_whole() -> None:
    """`program_guard` sets the default Program of the process, not of its thread.

    Where two threads are in one at once, Paddle puts operators into one another's Programs, and may
    crash: that is for the caller's lock. What only reads needs none.
    """
    building = Lock()

    def work(waiting: list[gt.Merged]) -> tuple[int, list[str]]:
        one = waiting.pop()
        pairs = gt.suggest_pairs(one.plan.teacher, one.plan.student)
        before = len(one.program.global_block().ops)
        startup = paddle.static.Program()
        with building, paddle.static.program_guard(one.program, startup):
            gt.distill_loss(one, pairs)
        added = one.program.global_block().ops[before:]
        return len(startup.global_block().ops), [op.name() for op in added]

    alone = work([merged(*two())])
    assert len(alone[1]) == 90
    both = [[merged(*two()) for _ in range(TIMES)] for _ in range(2)]
    found = at_once(*(lambda waiting=waiting: work(waiting) for waiting in both))
    assert found == [[alone] * TIMES] * 2
