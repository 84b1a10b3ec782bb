"""Merging and checking live Programs, beside PaddleSlim's merge and what no merge can do without.

Networks have their weights with them, which are shared or copied; chains of activations and
additions have none. What is merged into is made anew for each sample, outside of the clock.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.checks import persistable_names
from graphtool.merging import Merged, merge
from graphtool.sources import read
from tests.benchmarks import floors
from tests.benchmarks.programs import chain, network, of_kind, static_paddle
from tests.benchmarks.row import Case, Of, Prepare, Python, Quantity, Row, Target, Work

__all__ = ["GROWTH", "MEMORY", "NETWORKS"]

# Programs and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_FEEDS = {"image": "data"}


@dataclass(frozen=True)
class _Two:
    """A teacher and a student of one kind, and Scopes in which they were initialised."""

    kind: str
    teacher: _Paddle
    teacher_scope: _Paddle
    student: _Paddle
    student_scope: _Paddle
    share: bool = False

    @classmethod
    def of(cls, kind: str, first: str | int, student: str = "", share: bool = False) -> _Two:  # noqa: FBT001, FBT002  crosses a pipe
        """Two networks by name, or chains: one of a size, and one of a tenth of its length."""
        if isinstance(first, str):
            sides = network(first, "image", kind), network(student, "data", kind)
        else:
            scope = static_paddle().static.Scope()
            sides = (chain(first, "image", kind), scope), (chain(first // 10, "data", kind), scope)
        return cls(kind, *sides[0], *sides[1], share)

    def fresh(self) -> _Paddle:
        """Return a student that nothing has been merged into."""
        with of_kind(self.kind):
            return self.student.clone()

    def check_of(self, student: _Paddle) -> Callable[[object], None]:
        """Return what makes sure that a student has all of the teacher's operations.

        PIR has one for the teacher's feed, which is left out.
        """
        wanted = sum(len(one.global_block().ops) for one in (self.teacher, self.student))

        def check(_: object) -> None:
            assert len(student.global_block().ops) == wanted - (self.kind == "pir")

        return check


def joining(kind: str, *given: Any) -> Prepare:
    """Merge a network or chain into another one, checks included."""
    two = _Two.of(kind, *given)

    def prepare() -> Work:
        student, scope = two.fresh(), static_paddle().static.Scope()
        joined, share = two.check_of(student), two.share

        def run() -> Merged:
            scopes = {"scope": scope, "teacher_scope": two.teacher_scope}
            with of_kind(two.kind):
                return merge(two.teacher, student, _FEEDS, **scopes, share=share)

        def check(merged: object) -> None:
            assert isinstance(merged, Merged)
            joined(merged)
            names = [new for _, new in merged.plan.weights]
            assert all(scope.find_var(name).get_tensor()._is_initialized() for name in names)

        return Work(run, check)

    return prepare


def incumbent(*given: Any) -> Prepare:
    """Merge as PaddleSlim does, which knows one Scope alone: it gets the tensors of both."""
    import numpy as np

    two, paddle = _Two.of("legacy", *given), static_paddle()
    place = paddle.CPUPlace()

    def prepare() -> Work:
        slim: _Paddle = importlib.import_module("paddleslim.dist")
        student, scope = two.fresh(), paddle.static.Scope()
        for held, program in ((two.student_scope, two.student), (two.teacher_scope, two.teacher)):
            for var in program.list_vars():
                if var.persistable:
                    array = np.asarray(held.find_var(var.name).get_tensor())
                    scope.var(var.name).get_tensor().set(array, place)

        def run() -> None:
            slim.merge(two.teacher, student, _FEEDS, place, scope=scope)

        return Work(run, two.check_of(student))

    return prepare


def least(kind: str, *given: Any) -> Prepare:
    """Copy operations, freeze and prefix, walk both Programs once; copy weights if not shared."""
    two = _Two.of(kind, *given)
    copies = not two.share and isinstance(given[0], str)
    bare = {"pir": floors.bare_pir_merge, "legacy": floors.bare_legacy_merge}[two.kind]
    names = persistable_names(read(two.teacher)) if copies else ()

    def prepare() -> Work:
        student = two.fresh()

        def run() -> object:
            with of_kind(two.kind):
                bare(two.teacher, student)
                return floors.copied(two.teacher_scope, names) if copies else None

        return Work(run, two.check_of(student))

    return prepare


def copying(name: str) -> Prepare:
    """Copy all weights of a network, and nothing else."""
    program, scope = network(name, "image", "pir")
    names = persistable_names(read(program))

    def check(arrays: object) -> None:
        assert arrays

    return lambda: Work(lambda: floors.copied(scope, names), check)


def _networks(kind: str, teacher: str, student: str, *, share: bool) -> Row:
    python, floor = Python.HERE, Target(1.5, Of.FLOOR, Quantity.CPU)
    if kind == "legacy":
        python, floor = Python.PEER, Target(None, Of.FLOOR)
    arguments = kind, teacher, student, share
    weights = "shared" if share else "copied"
    return Row(
        name="-".join(("merge", kind, teacher, *(() if share else ("copied",)))),
        about=f"merge {teacher} into {student}, {kind}, weights {weights}, checks included",
        ours=Case(about="gt.merge", make=joining, arguments=arguments, python=python),
        peer=Case(about=_PEER, make=incumbent, arguments=(teacher, student), python=Python.PEER),
        floor=Case(about=_LEAST, make=least, arguments=arguments, python=python),
        targets=(Target(1 / _FASTER[kind], Of.PEER), floor),
        quick=teacher == "resnet50" and share,
    )


def _growth(kind: str) -> Row:
    return Row(
        name=f"merge-{kind}-growth",
        about=f"merge a {kind} chain into one of a tenth of its length, checks included",
        ours=Case(about="gt.merge", make=joining, arguments=(kind,)),
        floor=Case(about=_LEAST, make=least, arguments=(kind,)),
        targets=(
            Target(1.5 if kind == "pir" else None, Of.FLOOR, Quantity.CPU),
            Target(1.1, Of.GROWTH),
        ),
        sizes=_SIZES,
        quick=kind == "pir",
    )


_PEER = "paddleslim.dist.merge on Paddle 2.6.2"
_LEAST = "bare copy (of weights, unless shared), freeze and prefix loop, one walk of both Programs"
_FASTER = {"pir": 20, "legacy": 5}
_SIZES = (1_000, 10_000, 100_000)
# The incumbent's exponent is 2.4: it does not finish a chain of 10,000 in four minutes.
_SMALL_SIZES = (250, 500, 1_000)
_PAIRS = (("resnet50", "mobilenet_v1"), ("resnet152", "resnet18"), ("vgg16", "mobilenet_v2"))
_HEAVY = "vgg16", "mobilenet_v2"

NETWORKS = tuple(
    _networks(kind, *pair, share=share)
    for kind in ("pir", "legacy")
    for pair in _PAIRS
    for share in (True, False)
    if share or pair == _PAIRS[0]
)
GROWTH = (
    _growth("pir"),
    _growth("legacy"),
    Row(
        name="merge-small-growth",
        about="merge small legacy chains on Paddle 2.6.2, where PaddleSlim does it too",
        ours=Case(about="gt.merge", make=joining, arguments=("legacy",), python=Python.PEER),
        peer=Case(about=_PEER, make=incumbent, python=Python.PEER),
        targets=(Target(1 / _FASTER["legacy"], Of.PEER), Target(1.1, Of.GROWTH)),
        sizes=_SMALL_SIZES,
        quick=False,
    ),
)
MEMORY = (
    Row(
        name="merge-memory",
        about="growth of the peak while vgg16 is merged into mobilenet_v2, weights shared",
        ours=Case(about="gt.merge", make=joining, arguments=("pir", *_HEAVY, True), fresh=True),
        peer=Case(about=_PEER, make=incumbent, arguments=_HEAVY, python=Python.PEER, fresh=True),
        floor=Case(
            about="a copy of the teacher's weights", make=copying, arguments=_HEAVY[:1], fresh=True
        ),
        targets=(Target(0.05, Of.FLOOR, Quantity.PEAK),),
        quick=False,
    ),
)
