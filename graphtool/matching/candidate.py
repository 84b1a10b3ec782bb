"""A Candidate: two Values that may be paired, and the kinds of pairs that there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphtool.matching.pairs import Kind
from graphtool.structure import Role, Structure

__all__ = ["Candidate", "are_alike", "kind_of", "kind_of_both", "whole"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two Values that go together, with the reasons of the rule that found them."""

    kind: Kind
    teacher: str
    student: str
    why: tuple[str, ...]


_KIND_BY_ROLE = {
    Role.LOGITS: Kind.LOGITS,
    Role.EMBEDDING: Kind.EMBEDDING,
    Role.STAGE_END: Kind.STAGE,
    Role.HIDDEN_STATE: Kind.HIDDEN_STATE,
    Role.ATTENTION: Kind.ATTENTION,
}


def kind_of(structure: Structure, name: str) -> Kind:
    """Return the kind of pair that a Value can be in."""
    kind = _KIND_BY_ROLE.get(structure.role(name))
    if kind is not None:
        return kind
    rank = structure.graph.values[name].rank
    return Kind.HIDDEN_STATE if rank == 3 and structure.encoder is not None else Kind.FEATURE


def kind_of_both(teacher: Structure, ours: str, student: Structure, theirs: str) -> Kind:
    """Return the kind of the pair of two Values: theirs if it's one, else feature maps."""
    kinds = {kind_of(teacher, ours), kind_of(student, theirs)}
    return kinds.pop() if len(kinds) == 1 else Kind.FEATURE


def are_alike(a: Kind, b: Kind) -> bool:
    """Tell whether Values of two kinds can be in one pair; the end of a stage is a feature map."""
    return a is b or {a, b} == {Kind.STAGE, Kind.FEATURE}


def whole(
    kind: Kind, ends: tuple[str | None, str | None], why: tuple[str, ...]
) -> Iterator[Candidate]:
    """Yield a Candidate where both ends are there."""
    if ends[0] is not None and ends[1] is not None:
        yield Candidate(kind, ends[0], ends[1], why)
