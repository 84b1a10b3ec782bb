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


@dataclass(frozen=True, kw_only=True)
class _Two:
    """A teacher and a student of one kind, and Scopes in which they were initialised."""

    kind: str
    teacher: _Paddle
    student: _Paddle
    teacher_scope: _Paddle
    student_scope: _Paddle

    @classmethod
    def networks(cls, kind: str, teacher: str, student: str) -> _Two:
        theirs, their_scope = network(teacher, "image", kind)
        ours, our_scope = network(student, "data", kind)
        return cls(
            kind=kind,
            teacher=theirs,
            student=ours,
            teacher_scope=their_scope,
            student_scope=our_scope,
        )

    @classmethod
    def chains(cls, kind: str, size: int) -> _Two:
        """A chain for a chain of a tenth of its length."""
        scope = static_paddle().static.Scope()
        return cls(
            kind=kind,
            teacher=chain(size, "image", kind),
            student=chain(size // 10, "data", kind),
            teacher_scope=scope,
            student_scope=scope,
        )

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


def joining(kind: str, teacher: str, student: str, share: bool) -> Prepare:  # noqa: FBT001
    """Merge a network into a network, with its weights shared or copied, checks included."""
    return _ours(_Two.networks(kind, teacher, student), share=share)


def joining_chains(kind: str, size: int) -> Prepare:
    """Merge a chain into a chain of a tenth of its length, checks included."""
    return _ours(_Two.chains(kind, size), share=False)


def _ours(two: _Two, *, share: bool) -> Prepare:
    def prepare() -> Work:
        student, scope = two.fresh(), static_paddle().static.Scope()
        joined = two.check_of(student)

        def run() -> Merged:
            with of_kind(two.kind):
                return merge(
                    two.teacher,
                    student,
                    _FEEDS,
                    scope=scope,
                    teacher_scope=two.teacher_scope,
                    share=share,
                )

        def check(merged: object) -> None:
            assert isinstance(merged, Merged)
            joined(merged)
            names = [new for _, new in merged.plan.weights]
            assert all(scope.find_var(name).get_tensor()._is_initialized() for name in names)

        return Work(run, check)

    return prepare


def incumbent(teacher: str, student: str) -> Prepare:
    """Merge two networks as PaddleSlim does."""
    return _theirs(_Two.networks("legacy", teacher, student))


def incumbent_chains(size: int) -> Prepare:
    """Merge two chains as PaddleSlim does."""
    return _theirs(_Two.chains("legacy", size))


def _theirs(two: _Two) -> Prepare:
    def prepare() -> Work:
        slim: _Paddle = importlib.import_module("paddleslim.dist")
        student, scope, place = two.fresh(), _joint_scope(two), static_paddle().CPUPlace()

        def run() -> None:
            slim.merge(two.teacher, student, _FEEDS, place, scope=scope)

        return Work(run, two.check_of(student))

    return prepare


def _joint_scope(two: _Two) -> _Paddle:
    """Return one Scope with the tensors of both, for the incumbent knows one alone."""
    import numpy as np

    paddle = static_paddle()
    scope = paddle.static.Scope()
    for held, program in ((two.student_scope, two.student), (two.teacher_scope, two.teacher)):
        for var in program.list_vars():
            if var.persistable:
                array = np.asarray(held.find_var(var.name).get_tensor())
                scope.var(var.name).get_tensor().set(array, paddle.CPUPlace())
    return scope


def least(kind: str, teacher: str, student: str, share: bool) -> Prepare:  # noqa: FBT001
    """Copy operations, freeze and prefix, walk both Programs once; copy weights if not shared."""
    return _floor(_Two.networks(kind, teacher, student), copies=not share)


def least_chains(kind: str, size: int) -> Prepare:
    """Do the same with chains."""
    return _floor(_Two.chains(kind, size), copies=False)


def _floor(two: _Two, *, copies: bool) -> Prepare:
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
    return lambda: Work(lambda: floors.copied(scope, names), _check_copies)


def _check_copies(arrays: object) -> None:
    assert isinstance(arrays, list)
    assert arrays


def _networks(kind: str, teacher: str, student: str, *, share: bool) -> Row:
    python, floor = Python.HERE, Target(most=1.5, of=Of.FLOOR, quantity=Quantity.CPU)
    if kind == "legacy":
        python, floor = Python.PEER, Target(most=None, of=Of.FLOOR)
    arguments = kind, teacher, student, share
    weights = "shared" if share else "copied"
    return Row(
        name="-".join(("merge", kind, teacher, *(() if share else ("copied",)))),
        about=f"merge {teacher} into {student}, {kind}, weights {weights}, checks included",
        ours=Case(about="gt.merge", make=joining, arguments=arguments, python=python),
        peer=Case(about=_PEER, make=incumbent, arguments=(teacher, student), python=Python.PEER),
        floor=Case(about=_LEAST, make=least, arguments=arguments, python=python),
        targets=(Target(most=1 / _FASTER[kind], of=Of.PEER), floor),
        quick=teacher == "resnet50" and share,
    )


def _growth(kind: str) -> Row:
    return Row(
        name=f"merge-{kind}-growth",
        about=f"merge a {kind} chain into one of a tenth of its length, checks included",
        ours=Case(about="gt.merge", make=joining_chains, arguments=(kind,)),
        floor=Case(about=_LEAST, make=least_chains, arguments=(kind,)),
        targets=(
            Target(most=1.5 if kind == "pir" else None, of=Of.FLOOR, quantity=Quantity.CPU),
            Target(most=1.1, of=Of.GROWTH),
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
        ours=Case(about="gt.merge", make=joining_chains, arguments=("legacy",), python=Python.PEER),
        peer=Case(about=_PEER, make=incumbent_chains, python=Python.PEER),
        targets=(Target(most=1 / _FASTER["legacy"], of=Of.PEER), Target(most=1.1, of=Of.GROWTH)),
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
        targets=(Target(most=0.05, of=Of.FLOOR, quantity=Quantity.PEAK),),
        quick=False,
    ),
)
