"""A merged teacher and student in Scopes of their own, to build losses into and to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import paddle
from paddle import nn

import graphtool as gt
from tests.networks import PlainConvolutions

Array = Any
# The ends of the pairs of `convolutions`: logits, embedding, and the ends of three stages.
PAIRED = ("add_6", "flatten_0", "relu_3", "relu_5", "relu_1")


@dataclass
class Merged:
    """A merged Program with a startup program for what is built into it."""

    merged: gt.Merged
    startup: Any
    scope: Any
    pairs: gt.PairSet
    # Another Executor would compile the Program anew.
    executor: Any = field(default_factory=paddle.static.Executor)

    @contextmanager
    def building(self) -> Iterator[None]:
        paddle.enable_static()
        with paddle.static.program_guard(self.merged.program, self.startup):
            yield

    def start(self) -> None:
        self.executor.run(self.startup, scope=self.scope)

    def run(self, feed: dict[str, Array], *fetch: Any) -> list[Array]:
        return self.executor.run(
            self.merged.program, feed=feed, fetch_list=list(fetch), scope=self.scope
        )

    def tensor(self, name: str) -> Array:
        return np.array(self.scope.find_var(name).get_tensor()).copy()

    def size(self) -> tuple[int, int]:
        """Count the operations of both Programs."""
        return tuple(
            len(program.global_block().ops) for program in (self.merged.program, self.startup)
        )


Started: TypeAlias = "tuple[gt.Network, Any]"


def merged(teacher: Callable[[], nn.Layer], student: Callable[[], nn.Layer], *spec: Any) -> Merged:
    """Merge two networks that read one input of a shape, and of a dtype if it isn't float32."""
    one, other = _started(teacher, *spec), _started(student, *spec, train=True)
    return _joined(one, other, gt.suggest_pairs(one[0].graph, other[0].graph))


def convolutions(teacher: int = 16, student: int = 8, side: int = 32) -> Merged:
    """Merge two plain networks of three stages: maps `relu_1`, `relu_3` and `relu_5`."""
    made = _started(_plain(student), (3, side, side), train=True)
    return _joined(_teacher(teacher, side), made, _pairs(teacher, student, side))


def _started(factory: Callable[[], nn.Layer], *spec: Any, train: bool = False) -> Started:
    """Build a network and initialise it in a Scope of its own."""
    paddle.enable_static()
    paddle.seed(6 if train else 5)
    network = gt.from_layer(factory, [("image", *spec)], train=train)
    scope = paddle.static.Scope()
    paddle.static.Executor().run(network.startup, scope=scope)
    return network, scope


def _joined(teacher: Started, student: Started, pairs: gt.PairSet) -> Merged:
    (one, theirs), (other, ours) = teacher, student
    made = gt.merge(one, other, {"image": "image"}, teacher_scope=theirs, scope=ours)
    return Merged(made, paddle.static.Program(), ours, pairs)


def _plain(width: int) -> Callable[[], nn.Layer]:
    return lambda: PlainConvolutions([width, 2 * width, 3 * width])


@cache
def _teacher(width: int, side: int) -> Started:
    """Build a teacher once: a merge leaves it as it is."""
    return _started(_plain(width), (3, side, side))


@cache
def _pairs(teacher: int, student: int, side: int) -> gt.PairSet:
    one, other = (
        _teacher(teacher, side)[0],
        _started(_plain(student), (3, side, side), train=True)[0],
    )
    return _pinned(gt.suggest_pairs(one.graph, other.graph), PAIRED)


def _pinned(pairs: gt.PairSet, names: tuple[str, ...]) -> gt.PairSet:
    """Take pairs by their names in an order: which are suggested, and how, is not looked at."""
    by_name = {(pair.teacher.name, pair.student.name): pair for pair in pairs}
    chosen = [replace(by_name[name, name], rank=rank) for rank, name in enumerate(names, 1)]
    return replace(pairs, pairs=tuple(chosen))


def images(side: int = 32, count: int = 4) -> dict[str, Array]:
    return {"image": np.random.default_rng(0).random((count, 3, side, side), dtype="float32")}
