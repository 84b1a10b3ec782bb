"""A Candidate: two Values that may be paired, and the kind of pair that each can be in."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.matching.pairs import Kind
from graphtool.structure import Role, Structure

__all__ = ["Candidate", "can_pair", "common_pair_kind", "pair_kind"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two Values that may be paired, with the reasons of the rule that found them."""

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


def pair_kind(structure: Structure, name: str) -> Kind:
    """Return the kind of pair that a Value can be in."""
    kind = _KIND_BY_ROLE.get(structure.role(name))
    if kind is not None:
        return kind
    rank = structure.graph.values[name].rank
    return Kind.HIDDEN_STATE if rank == 3 and structure.encoder is not None else Kind.FEATURE


def common_pair_kind(
    teacher: Structure, teacher_name: str, student: Structure, student_name: str
) -> Kind:
    """Return the kind of two Values where it is the same, else `feature`."""
    kind = pair_kind(teacher, teacher_name)
    return kind if kind is pair_kind(student, student_name) else Kind.FEATURE


def can_pair(teacher: Kind, student: Kind) -> bool:
    """Return whether Values of two kinds can form a pair; a stage end is also a feature map."""
    return teacher is student or {teacher, student} == {Kind.STAGE, Kind.FEATURE}
