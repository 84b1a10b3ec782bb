"""What both ways of merging, that of PIR and that of legacy Programs, take and give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphtool.readers._pir import ValueKey
from graphtool.readers.live import LiveProgram

__all__ = ["Joined", "Scopes"]

# Scopes and Places are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scopes:
    """The Scope that holds the teacher's weights, and the one that the student trains in."""

    teacher: _Paddle
    student: _Paddle

    @property
    def one(self) -> bool:
        """Tell whether both are the same Scope."""
        return self.teacher is self.student


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """Where the teacher's Values are in the merged Program, by their names in its own Graph.

    Either `keys` find them, which takes no walk over the merged Program (PIR), or `names` in the
    Graph of `live`. `operations` are the ids of the merged Program's top-level operations under
    PIR; they tell what was added since.
    """

    keys: Mapping[str, ValueKey] = field(default_factory=dict[str, ValueKey])
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    live: LiveProgram | None = None
    operations: frozenset[int] = frozenset()
