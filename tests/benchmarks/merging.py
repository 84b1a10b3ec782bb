"""Live Programs read, checked and merged, beside PaddleSlim and what no merge can do without.

Networks have their weights with them, which are shared or copied; chains of activations and
additions have none. What is merged into is made anew for each sample, outside of the clock. Floors
pause the garbage collector, as graphtool does.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, TypeAlias

from graphtool.backend.live import LiveProgram
from graphtool.backend.tensors import copy_tensor
from graphtool.checks import persistable_names
from graphtool.graph import collection_paused
from graphtool.merging import check_merge, merge
from graphtool.sources import read
from tests.benchmarks.programs import Paddle, chain, network, of_kind, static_paddle
from tests.benchmarks.sampling import Case, Row, Target, Work

# A Program, and a Scope in which it was initialised.
_Side: TypeAlias = "tuple[Paddle, Paddle]"

_PREFIX = "teacher_"
_FEEDS = {"image": "data"}


def reading(kind: str, size: int) -> Work:
    """Read a live chain."""
    # A clone, for nothing may be known of it from before.
    copy = _clone(kind, chain(size, "image", kind))
    live = yield of_kind(kind)(lambda: LiveProgram.of(copy))
    assert len(live.graph.operators) >= size - 1


def walking(kind: str, size: int) -> Work:
    """Walk over a live chain once."""
    copy = _clone(kind, chain(size, "image", kind))
    ops = yield of_kind(kind)(lambda: _WALKS[kind](copy))
    assert len(ops) >= size - 1


def _clone(kind: str, program: Paddle) -> Paddle:
    with of_kind(kind):
        return program.clone()


def checking(size: int) -> Work:
    """Check a merge of two live chains."""
    (teacher, scope), (student, _) = _two("pir", size)
    report = yield lambda: check_merge(teacher, student, _FEEDS, scope)
    assert not report.errors


@cache
def _two(kind: str, first: str | int, second: str = "") -> tuple[_Side, _Side]:
    """Return a teacher and a student: networks by name, or a chain and one of a tenth of it."""
    if isinstance(first, str):
        return network(first, "image", kind), network(second, "data", kind)
    scope = static_paddle().static.Scope()
    return (chain(first, "image", kind), scope), (chain(first // 10, "data", kind), scope)


def _assert_joined(kind: str, sides: tuple[_Side, _Side], merged: Paddle) -> None:
    """Make sure that a Program has the operations of both.

    PIR has one for the teacher's feed, which is left out.
    """
    wanted = sum(len(program.global_block().ops) for program, _ in sides)
    assert len(merged.global_block().ops) == wanted - (kind == "pir")


def joining(kind: str, first: str | int, second: str = "", share: bool = False) -> Work:  # noqa: FBT001, FBT002  crosses a pipe
    """Merge a network or chain into another one, checks included."""
    sides = (teacher, held), (original, _) = _two(kind, first, second)
    student, scope = _clone(kind, original), static_paddle().static.Scope()
    scopes = {"scope": scope, "teacher_scope": held}
    merged = yield of_kind(kind)(lambda: merge(teacher, student, _FEEDS, **scopes, share=share))
    _assert_joined(kind, sides, student)
    names = [new for _, new in merged.plan.weights]
    assert all(scope.find_var(name).get_tensor()._is_initialized() for name in names)


def incumbent(first: str | int, second: str = "") -> Work:
    """Merge as PaddleSlim does, which knows one Scope alone: it gets the tensors of both."""
    import numpy as np

    paddle, slim = static_paddle(), importlib.import_module("paddleslim.dist")
    sides = (teacher, held), (original, kept) = _two("legacy", first, second)
    student, scope, place = original.clone(), paddle.static.Scope(), paddle.CPUPlace()
    for program, values in ((original, kept), (teacher, held)):
        for var in program.list_vars():
            if var.persistable:
                array = np.asarray(values.find_var(var.name).get_tensor())
                scope.var(var.name).get_tensor().set(array, place)
    yield lambda: slim.merge(teacher, student, _FEEDS, place, scope=scope)
    _assert_joined("legacy", sides, student)


def least(kind: str, first: str | int, second: str = "", share: bool = False) -> Work:  # noqa: FBT001, FBT002  crosses a pipe
    """Copy operations, freeze and prefix, walk both Programs once; copy weights if not shared."""
    sides = (teacher, held), (original, _) = _two(kind, first, second)
    student = _clone(kind, original)
    names = () if share or not second else _weights(teacher)
    bare = {"pir": _bare_pir, "legacy": _bare_legacy}[kind]

    def run() -> object:
        bare(teacher, student)
        return _copied(held, names)

    yield of_kind(kind)(collection_paused()(run))
    _assert_joined(kind, sides, student)


def copying(name: str) -> Work:
    """Copy all weights of a network, and nothing else."""
    program, scope = network(name, "image", "pir")
    names = _weights(program)
    arrays = yield lambda: _copied(scope, names)
    assert arrays


@cache
def _weights(program: Paddle) -> Any:
    return persistable_names(read(program))


def _copied(scope: Paddle, names: Any) -> list[Paddle]:
    return [copy_tensor(scope.find_var(name).get_tensor()) for name in names]


@collection_paused()
def _walked_pir(program: Paddle) -> list[Paddle]:
    """Take out what a check has to look at: types, attributes, operands, shapes."""
    ops = program.global_block().ops
    for op in ops:
        op.name()
        op.attrs()
        for value in op.operands_source():
            _ = value.initialized() and value.id
        for value in op.results():
            _ = value.initialized() and (value.id, value.shape, value.dtype)
    return ops


@collection_paused()
def _walked_legacy(program: Paddle) -> list[Paddle]:
    """Take out the same from descriptions, and that of all Variables."""
    block = program.desc.block(0)
    for var in block.all_vars():
        _ = var.name(), var.type(), var.persistable()
    ops = [block.op(index) for index in range(block.op_size())]
    for op in ops:
        _ = op.type(), [op.attr(name) for name in op.attr_names()]
        for slot in op.input_names():
            op.input(slot)
        for slot in op.output_names():
            op.output(slot)
    return ops


_WALKS = {"pir": _walked_pir, "legacy": _walked_legacy}


def _bare_pir(teacher: Paddle, student: Paddle) -> None:
    """Walk both Programs, copy the teacher's operations, freeze them and name parameters anew."""
    walked = [_walked_pir(program) for program in (teacher, student)]
    mapping, block = static_paddle().pir.IrMapping(), student.global_block()
    feeds = [next(op for op in ops if op.name() == "pd_op.data") for ops in walked]
    mapping.add(feeds[0].result(0), feeds[1].result(0))
    before = len(block.ops)
    teacher.copy_to_block(mapping, block)
    for op in block.ops[before:]:
        if op.has_attr("is_test"):
            op.set_bool_attr("is_test", True)  # noqa: FBT003
        for value in op.results():
            if value.initialized():
                value.stop_gradient = True
        if op.name() == "builtin.parameter":
            op.set_str_attr("parameter_name", _PREFIX + op.attrs()["parameter_name"])


def _bare_legacy(teacher: Paddle, student: Paddle) -> None:
    """Walk both Programs, append the teacher's descriptions under new names, in test mode."""
    _walked_legacy(student)
    ops, variables = _walked_legacy(teacher), teacher.desc.block(0).all_vars()
    block = student.desc.block(0)
    for old in variables:
        new = block.var(f"{_PREFIX}{old.name()}".encode())
        new.set_type(old.type())
        new.set_shape(old.shape())
        new.set_dtype(old.dtype())
        new.set_persistable(old.persistable())
        new.set_stop_gradient(True)
    for op in ops:
        copy = block.append_op()
        copy.copy_from(op)
        for old in op.input_arg_names():
            copy._rename_input(old, f"{_PREFIX}{old}")
        for old in op.output_arg_names():
            copy._rename_output(old, f"{_PREFIX}{old}")
        if copy.has_attr("is_test"):
            copy._set_bool_attr("is_test", True)  # noqa: FBT003
    student._sync_with_cpp()


_PEER = "paddleslim.dist.merge on Paddle 2.6.2"
_LEAST = "bare copy (of weights, unless shared), freeze and prefix loop, one walk of both Programs"
_FASTER = {"pir": 20, "legacy": 5}
_SIZES = (1_000, 10_000, 100_000)
# The incumbent's exponent is 2.4: it does not finish a chain of 10,000 in four minutes.
_SMALL_SIZES = (250, 500, 1_000)
_SMALL, _LARGE = ("resnet50", "mobilenet_v1"), ("resnet152", "resnet18")
_HEAVY = "vgg16", "mobilenet_v2"
_LINEAR = Target(1.1, "growth")


def _merged(kind: str, teacher: str, student: str, *, share: bool) -> Row:
    floor = Target(1.5, "floor", "cpu") if kind == "pir" else Target(None, "floor")
    python = "here" if kind == "pir" else "peer"
    arguments = kind, teacher, student, share
    weights = "shared" if share else "copied"
    return Row(
        f"merge-{kind}-{teacher}" + ("" if share else "-copied"),
        f"merge {teacher} into {student}, {kind}, weights {weights}, checks included",
        Case(joining, arguments, python=python),
        (Target(1 / _FASTER[kind], "peer"), floor),
        peer=Case(incumbent, (teacher, student), _PEER, python="peer"),
        floor=Case(least, arguments, _LEAST, python=python),
        quick=teacher == "resnet50" and share,
    )


NETWORKS = tuple(
    _merged(kind, *pair, share=share)
    for kind in ("pir", "legacy")
    for pair, share in ((_SMALL, True), (_SMALL, False), (_LARGE, True), (_HEAVY, True))
)
LIVE = (
    *(
        Row(
            f"read-live-{kind}",
            f"read a live {kind} Program",
            Case(reading, (kind,)),
            (Target(None, "floor"), _LINEAR),
            floor=Case(walking, (kind,), "one walk over it"),
            sizes=_SIZES,
            quick=kind == "pir",
        )
        for kind in ("pir", "legacy")
    ),
    Row(
        "check-growth",
        "check a merge of a live PIR chain into one of a tenth of its length",
        Case(checking),
        (Target(None, "absolute"), _LINEAR),
        sizes=_SIZES,
    ),
)
GROWTH = (
    *(
        Row(
            f"merge-{kind}-growth",
            f"merge a {kind} chain into one of a tenth of its length, checks included",
            Case(joining, (kind,)),
            (Target(1.5 if kind == "pir" else None, "floor", "cpu"), _LINEAR),
            floor=Case(least, (kind,), _LEAST),
            sizes=_SIZES,
            quick=kind == "pir",
        )
        for kind in ("pir", "legacy")
    ),
    Row(
        "merge-small-growth",
        "merge small legacy chains on Paddle 2.6.2, where PaddleSlim does it too",
        Case(joining, ("legacy",), python="peer"),
        (Target(1 / _FASTER["legacy"], "peer"), _LINEAR),
        peer=Case(incumbent, (), _PEER, python="peer"),
        sizes=_SMALL_SIZES,
        quick=False,
    ),
)
MEMORY = (
    Row(
        "merge-memory",
        "growth of the peak while vgg16 is merged into mobilenet_v2, weights shared",
        Case(joining, ("pir", *_HEAVY, True), fresh=True),
        (Target(0.05, "floor", "peak"),),
        peer=Case(incumbent, _HEAVY, _PEER, python="peer", fresh=True),
        floor=Case(copying, _HEAVY[:1], "a copy of the teacher's weights", fresh=True),
        quick=False,
    ),
)
