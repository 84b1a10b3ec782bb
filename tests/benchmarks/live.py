"""Reading and checking live chains, beside one walk over each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from graphtool.backend.live import LiveProgram
from graphtool.diagnostics import Report
from graphtool.merging import check_merge
from tests.benchmarks import floors
from tests.benchmarks.programs import chain, of_kind, static_paddle
from tests.benchmarks.row import Case, Of, Prepare, Row, Target, Work

__all__ = ["ROWS"]

# Programs are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_SIZES = (1_000, 10_000, 100_000)


def checking(size: int) -> Prepare:
    """Check a merge of two live chains."""
    teacher, student = chain(size, "image", "pir"), chain(size // 10, "data", "pir")
    scope = static_paddle().static.Scope()

    def run() -> Report:
        return check_merge(teacher, student, {"image": "data"}, scope)

    def check(report: object) -> None:
        assert isinstance(report, Report)
        assert not report.errors

    return lambda: Work(run, check)


def reading(kind: str, size: int) -> Prepare:
    """Read a live chain."""
    return _looking(kind, size, LiveProgram.of)


def walking(kind: str, size: int) -> Prepare:
    """Walk over a live chain once."""
    return _looking(kind, size, {"pir": floors.walked_pir, "legacy": floors.walked_legacy}[kind])


def _looking(kind: str, size: int, look: Callable[[_Paddle], _Paddle]) -> Prepare:
    program = chain(size, "image", kind)

    def check(found: _Paddle) -> None:
        assert len(found.graph.operators if look == LiveProgram.of else found) >= size - 1

    def prepare() -> Work:
        # A clone, for nothing may be known of it from before.
        with of_kind(kind):
            copy = program.clone()

        def run() -> object:
            with of_kind(kind):
                return look(copy)

        return Work(run, check)

    return prepare


def _row(kind: str) -> Row:
    return Row(
        name=f"read-live-{kind}",
        about=f"read a live {kind} Program",
        ours=Case(about="read", make=reading, arguments=(kind,)),
        floor=Case(about="one walk over it", make=walking, arguments=(kind,)),
        targets=(Target(None, Of.FLOOR), Target(1.1, Of.GROWTH)),
        sizes=_SIZES,
        quick=kind == "pir",
    )


ROWS = (
    _row("pir"),
    _row("legacy"),
    Row(
        name="check-growth",
        about="check a merge of a live PIR chain into one of a tenth of its length",
        ours=Case(about="gt.check_merge", make=checking),
        targets=(Target(None, Of.ABSOLUTE), Target(1.1, Of.GROWTH)),
        sizes=_SIZES,
    ),
)
