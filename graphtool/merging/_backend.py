"""What both ways of merging, that of PIR and that of legacy Programs, take and give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphtool.graph import Graph
from graphtool.readers._paddle import is_legacy
from graphtool.readers._pir import ValueKey
from graphtool.readers.live import LiveProgram

__all__ = ["Extent", "Joined", "Scopes", "drop_schedule", "handed_out"]

# Scopes and Places are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any

_ENDS = frozenset({"fetch", "shadow_output"})
_SCHEDULE = ("lr_scheduler", "lr_name", "lr_var")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scopes:
    """The Scope that holds the teacher's weights, and the one that the student trains in.

    `share` says that nothing writes the teacher's tensors any more, so that both may have them.
    """

    teacher: _Paddle
    student: _Paddle
    share: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What the first Block of a merged Program holds right after the merge.

    Operations by their ids under PIR; operators themselves and the names of Variables else.
    """

    ids: frozenset[int] = frozenset()
    operators: frozenset[_Paddle] = frozenset()
    variables: frozenset[str] = frozenset()

    @classmethod
    def of(cls, program: _Paddle) -> Extent:
        """Note what there is now."""
        block = program.global_block()
        if is_legacy(program):
            return cls(operators=frozenset(block.ops), variables=frozenset(block.vars))
        return cls(ids=frozenset([op.id() for op in block.ops]))

    def has(self, op: _Paddle) -> bool:
        """Tell an operation of the first Block that was there."""
        return op in self.operators if hasattr(op, "desc") else op.id() in self.ids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """Where the teacher's Values are in the merged Program, by their names in its own Graph.

    Either `keys` find them, which takes no walk over the merged Program (PIR), or `names` in the
    Graph of `live`. `extent` tells what was added since.
    """

    keys: Mapping[str, ValueKey] = field(default_factory=dict[str, ValueKey])
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    live: LiveProgram | None = None
    extent: Extent


def drop_schedule(clone: _Paddle) -> None:
    """Take the schedule of the learning rate from a clone: Paddle copies what a Program has.

    An Executor that sees one sets the rate before each run, in the global Scope, and fails where
    the rate was removed.
    """
    for attribute in _SCHEDULE:
        if hasattr(clone, attribute):
            delattr(clone, attribute)


def handed_out(graph: Graph, name: str) -> str:
    """Return what a fetch operation hands out where a Value is its result, else the same name.

    A merge leaves out the teacher's fetches. Where a legacy Program is translated, the legacy name
    of an output is that of the fetch's result.
    """
    operator = graph.producer(name)
    given = operator.operands[0] if operator and operator.kind in _ENDS else None
    return name if given is None else given
