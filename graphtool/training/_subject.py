"""What a call is handed over: a Program, a Network or a Merged, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.arguments import bad_argument
from graphtool.diagnostics import UsageError
from graphtool.graph import Graph, ProgramKind
from graphtool.merging import Merged, merged_of
from graphtool.merging.merged import inherited_by, value_of
from graphtool.readers._paddle import is_legacy
from graphtool.readers._pir import walk_pir
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram, is_live, program_of
from graphtool.training.trainable import Trainable

__all__ = ["Subject", "check_program", "check_scope"]

# Programs and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A Program as it is now, its merges in order, and what it was before them.

    Merges into the Program of which it is a clone are merges into it as well.

    `addresses` leads from PIR's Values to their names in the Graph. `own` is the student before the
    first merge, or the network as it was built; its Graph may know what it answers.
    """

    live: LiveProgram
    addresses: Mapping[str, str]
    merges: tuple[Merged, ...]
    own: LiveProgram
    network: Network | None

    @classmethod
    def of(cls, source: _Paddle) -> Subject:
        """Look at a Program, or at what holds one.

        Raises UsageError: GT248 for anything else.
        """
        check_program(source)
        program = program_of(source)
        live, addresses = _read(program)
        last = merged_of(program)
        merges = last.teachers if last else inherited_by(live)
        network = source if isinstance(source, Network) else None
        return cls(
            live=live,
            addresses=addresses,
            merges=merges,
            own=_own(source, merges) or live,
            network=network or next((one.network for one in merges if one.network), None),
        )

    @property
    def program(self) -> _Paddle:
        """The Program."""
        return self.live.program

    @property
    def graph(self) -> Graph:
        """The Graph of the Program as it is now."""
        return self.live.graph

    def value(self, selector: str) -> _Paddle:
        """Return the Paddle Value, or Variable, that a selector means.

        With a teacher's prefix it is that teacher's, if it has one of that name. Else names as they
        were before the merge, or as they were built, come before those of the Program as it is now.

        Raises ReadError: GT101, GT102, GT031.
        """
        return value_of(selector, self.merges, self.own.value, self.live.value)

    def name_of(self, value: _Paddle) -> str | None:
        """Return the name of a Value of this very Program in its Graph, None for any other.

        It is asked for its address and nothing else: a Value whose Program died crashes the process
        otherwise.
        """
        if self.live.kind is ProgramKind.PIR:
            return self.addresses.get(getattr(value, "id", ""))
        name = getattr(value, "name", None)
        return name if name in self.graph.values else None


def check_program(source: object) -> None:
    """Refuse what is no Program and has none.

    Raises UsageError: GT248.
    """
    if not is_live(source):
        wanted = "a Program, a Network or a Merged"
        raise UsageError(bad_argument("program", source, wanted, "merged.program"))


def check_scope(scope: object) -> None:
    """Refuse what is neither a Scope nor None.

    Raises UsageError: GT248.
    """
    if scope is not None and not hasattr(scope, "find_var"):
        wanted = "a Scope or None"
        raise UsageError(bad_argument("scope", scope, wanted, "scope=paddle.static.global_scope()"))


def _read(program: _Paddle) -> tuple[LiveProgram, Mapping[str, str]]:
    if is_legacy(program):
        return LiveProgram.of(program), {}
    walk = walk_pir(program)
    return LiveProgram(program=program, graph=walk.graph, keys=walk.keys), walk.names


def _own(source: _Paddle, merges: tuple[Merged, ...]) -> LiveProgram | None:
    if merges:
        return merges[0].before
    if isinstance(source, Network | Trainable):
        return source.live
    return source if isinstance(source, LiveProgram) else None
