"""What joining two Programs takes and gives, for PIR and legacy alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, is_legacy
from graphtool.backend.pir import ValueKey

__all__ = ["BlockSnapshot", "NewNames", "ValueMap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNames:
    """Old and new names of the teacher, in pairs.

    `replacements` are student Values used instead of the teacher's: those of `feed_map`, and shared
    parameters. `renames` are persistables (in legacy Programs all Variables), `unmapped_feeds` the
    feeds that stay the teacher's own. `prefix` names every other legacy Variable.
    """

    feed_map: tuple[tuple[str, str], ...]
    replacements: tuple[tuple[str, str], ...]
    renames: tuple[tuple[str, str], ...]
    unmapped_feeds: tuple[tuple[str, str], ...]
    prefix: str


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
