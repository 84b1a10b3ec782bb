"""Ranks of `python -m paddle.distributed.launch`: one start for all, and averaged gradients."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from functools import cache
from types import TracebackType
from typing import Any, TypeAlias

from graphtool.readers._paddle import load_paddle
from graphtool.training import minimize_problems as problems

__all__ = ["averaged", "joined", "name_lost_ranks", "rank_count", "start_alike"]

# Programs and Values are PIR's, and what talks to other ranks is of Paddle's compiled part.
_Paddle: TypeAlias = Any

_ALL_RANKS, _FIRST = 0, 0
# Gloo's exceptions lose what they say on the way to Python.
_WITHOUT_WORDS = "std::exception"


def rank_count() -> int:
    """Return how many ranks were launched, 1 where none were."""
    return load_paddle().distributed.get_world_size()


def joined() -> bool:
    """Tell whether the ranks have been made a group that PIR's collectives find."""
    return load_paddle().distributed.is_initialized()


def averaged(gradients: _Paddle) -> list[tuple[_Paddle, _Paddle]]:
    """Put the mean over all ranks in the place of each gradient.

    The order is that of the parameters' names: PIR lists parameters in an order that differs from
    process to process, and ranks that exchange them in different orders wait for each other.
    """
    paddle = load_paddle()
    ranks, total = rank_count(), paddle.distributed.ReduceOp.SUM
    return [
        (parameter, paddle._C_ops.all_reduce(gradient, _ALL_RANKS, total) / ranks)  # noqa: SLF001
        for parameter, gradient in sorted(gradients, key=_name)
    ]


def _name(gradient: tuple[_Paddle, _Paddle]) -> str:
    return gradient[0].name


def start_alike(startup: _Paddle, names: Collection[str]) -> None:
    """Let a startup program give every rank what it gives the first one, for Variables named.

    A second call for the same Variables changes nothing.
    """
    paddle = load_paddle()
    with paddle.static.program_guard(startup):
        for op in list(_initialisers(startup, names)):
            paddle.pir.set_insertion_point(op)
            own = op.operand_source(0)
            first = paddle._C_ops.broadcast(own, _ALL_RANKS, _FIRST)  # noqa: SLF001  # no other way
            first.persistable = True
            op.operand(0).set_source(first)
        paddle.pir.reset_insertion_point_to_end()


def _initialisers(startup: _Paddle, names: Collection[str]) -> Iterator[_Paddle]:
    for op in startup.global_block().ops:
        if op.name() != "builtin.set_parameter" or op.str_attr("parameter_name") not in names:
            continue
        if op.operand_source(0).get_defining_op().name() != "pd_op.broadcast":
            yield op


@cache
def name_lost_ranks() -> None:
    """Have errors that come of a lost rank, and say nothing of it, followed by a Diagnostic."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if kind is RuntimeError and str(error) == _WITHOUT_WORDS:
            rank = load_paddle().distributed.get_rank()
            sys.stderr.write(f"{problems.lost_rank(rank, rank_count())}\n")

    sys.excepthook = hook
