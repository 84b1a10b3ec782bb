"""Data that the PIR and the legacy merge share, and helpers for Programs of either kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, is_legacy
from graphtool.backend.pir import ValueKey
from graphtool.graph import Graph

__all__ = ["BlockSnapshot", "Scopes", "ValueMap", "drop_lr_schedule", "fetched_value"]


_FETCH_KINDS = frozenset({"fetch", "shadow_output"})
_SCHEDULE_ATTRIBUTES = ("lr_scheduler", "lr_name", "lr_var")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scopes:
    """The Scope that holds the teacher's weights, and the one the student trains in.

    `share`: nothing writes the teacher's tensors any more, so both Scopes may use one buffer.
    """

    teacher: Paddle
    student: Paddle
    share: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSnapshot:
    """Snapshot of a Program's global block, to find what was added later.

    Under PIR it holds operation ids; for a legacy Program, operators and the names of Variables.
    """

    ids: frozenset[int] = frozenset()
    operators: frozenset[Paddle] = frozenset()
    variables: frozenset[str] = frozenset()

    @classmethod
    def of(cls, program: Paddle) -> BlockSnapshot:
        """Take a snapshot."""
        block = program.global_block()
        if is_legacy(program):
            return cls(operators=frozenset(block.ops), variables=frozenset(block.vars))
        return cls(ids=frozenset([op.id() for op in block.ops]))

    def contains(self, op: Paddle) -> bool:
        """Return whether an operation of the global block is in the snapshot."""
        return op in self.operators if hasattr(op, "desc") else op.id() in self.ids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueMap:
    """Where the teacher's Values are in the merged Program, by their names in the teacher's Graph.

    They are found by `keys`, without reading the merged Program (PIR), or by `names` in the Graph
    of `live`. `extent` is the merged Program's global block right after the merge.
    """

    keys: Mapping[str, ValueKey] = field(default_factory=dict[str, ValueKey])
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    live: LiveProgram | None = None
    extent: BlockSnapshot


def drop_lr_schedule(clone: Paddle) -> None:
    """Remove the learning-rate schedule that Paddle copied into a clone.

    Otherwise an Executor sets the rate in the global Scope before each run, and fails if the rate
    Variable was removed.
    """
    for attribute in _SCHEDULE_ATTRIBUTES:
        if hasattr(clone, attribute):
            delattr(clone, attribute)


def fetched_value(graph: Graph, name: str) -> str:
    """Return the operand of the fetch operator that produces a Value, or the name unchanged.

    A merge drops the teacher's fetches. In a translated legacy Program an output's legacy name is
    that of the fetch's result.
    """
    producer = graph.producer(name)
    operand = producer.operands[0] if producer and producer.kind in _FETCH_KINDS else None
    return name if operand is None else operand
