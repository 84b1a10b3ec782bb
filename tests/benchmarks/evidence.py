"""Evidence from data: what a batch takes beside running both networks on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from tests.benchmarks.programs import initialised, static_paddle
from tests.benchmarks.row import Case, Of, Prepare, Quantity, Row, Target, Work

__all__ = ["MEMORY", "ROWS"]

# Evidence is of a module that imports NumPy, which not all that list rows have.
_Evidence: TypeAlias = Any

_TEACHER, _STUDENT = "resnet18", "mobilenet_v1"
_BATCH, _SIDE = 32, 64
_FEW, _MANY = 8, 32


def batch() -> Prepare:
    """Take in one batch more; opening both networks is over."""
    found = _gathered(1_000_000)

    def check(evidence: _Evidence) -> None:
        assert evidence.samples == evidence.batches * _BATCH
        assert evidence.scores

    return lambda: Work(lambda: next(found), check)


def batches(count: int) -> Prepare:
    """Take in so many batches, networks opened first."""

    def check(found: _Evidence) -> None:
        assert found[-1].batches == count

    return lambda: Work(lambda: list(_gathered(count)), check)


def running() -> Prepare:
    """Run both networks on one batch and fetch their logits."""
    import numpy as np

    paddle, image = static_paddle(), _images()
    executor = paddle.static.Executor(paddle.CPUPlace())
    sides = [initialised(name, _SIDE, train=False) for name in (_TEACHER, _STUDENT)]

    def run() -> list[Any]:
        return [
            executor.run(
                one.program,
                feed={"image": image},
                fetch_list=[one.live.value(one.fetches[0])],
                scope=scope,
            )
            for one, scope in sides
        ]

    def check(found: _Evidence) -> None:
        assert all(np.isfinite(logits).all() for (logits,) in found)

    return lambda: Work(run, check)


def _gathered(count: int) -> Iterator[_Evidence]:
    import graphtool as gt
    from graphtool.evidence import names_to_measure
    from graphtool.evidence.cka import gather

    sides = [initialised(name, _SIDE, train=False) for name in (_TEACHER, _STUDENT)]
    teacher, student = (network.program for network, _ in sides)
    scopes = sides[0][1], sides[1][1]
    samples = ({"image": _images()} for _ in range(count))
    names = names_to_measure(gt.suggest_pairs(teacher, student))
    # The weights are drawn at random, which costs the same as any.
    return gather(teacher, student, names, samples, batches=count, scopes=scopes, allow_random=True)


def _images() -> Any:
    import numpy as np

    generator = np.random.default_rng(0)
    return generator.normal(size=(_BATCH, 3, _SIDE, _SIDE)).astype("float32")


_PAIR = f"{_TEACHER} and {_STUDENT}, {_BATCH} images of {_SIDE} × {_SIDE}"

ROWS = (
    Row(
        name="evidence",
        about=f"one batch of evidence: {_PAIR}",
        ours=Case(about="one batch more", make=batch),
        floor=Case(about="both networks run on it, logits fetched", make=running),
        targets=(Target(None, Of.FLOOR),),
    ),
)
MEMORY = (
    Row(
        name="evidence-memory",
        about=f"growth of the peak over {_MANY} batches: {_PAIR}",
        ours=Case(about=f"{_MANY} batches", make=batches, arguments=(_MANY,), fresh=True),
        floor=Case(about=f"{_FEW} batches", make=batches, arguments=(_FEW,), fresh=True),
        targets=(Target(1.1, Of.FLOOR, Quantity.PEAK),),
        quick=False,
    ),
)
