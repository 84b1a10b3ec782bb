"""Which student Values could go with one teacher Value, nearest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log2

from graphtool.diagnostics import PairError, Report
from graphtool.matching import problems
from graphtool.matching.pairs import Kind, Pair, PairSet
from graphtool.matching.rank import Candidate, pair_of, pairs_of
from graphtool.readers import Source, read
from graphtool.selectors import find
from graphtool.structure import GLOBAL, Role, Structure, analyse

__all__ = ["partners"]

_KIND_BY_ROLE = {
    Role.LOGITS: Kind.LOGITS,
    Role.EMBEDDING: Kind.EMBEDDING,
    Role.HIDDEN_STATE: Kind.HIDDEN_STATE,
    Role.ATTENTION: Kind.ATTENTION,
}
# A factor of two in each of H and W speaks as much against a pair as half of the depth.
_GAP_PER_OCTAVE_OF_AREA = 0.25


def partners(teacher: Source, student: Source, selector: str, *, limit: int = 8) -> PairSet:
    """Rank the student Values that could be paired with one teacher Value.

    `selector` names the teacher Value in any spelling that `find` takes. What `suggest_pairs` pairs
    with it comes first; then block outputs of the student, by resolution and depth.

    Raises ReadError where a source cannot be read or the selector means no Value, or several, and
    PairError (GT303) where the Value is no feature map.
    """
    left, right = analyse(read(teacher)), analyse(read(student))
    name = find(left.graph, selector).name
    if name not in left.flow.features:
        raise PairError(problems.no_feature_map(left.graph, name, left.role(name).value))
    suggested = [pair for pair in pairs_of(left, right) if pair.teacher.name == name]
    first = {pair.student.name for pair in suggested}
    others = [other for other in right.main_line if other not in first]
    ranked = sorted(
        (other for other in others if _same_kind(left, name, right, other)),
        key=lambda other: _gap(left, name, right, other),
    )
    pairs = [*_again(suggested), *_nearest(left, name, right, ranked, start=len(suggested) + 1)]
    nothing = () if pairs else (problems.nothing_in_common(left.graph, right.graph, 0),)
    return PairSet(
        teacher=left.graph,
        student=right.graph,
        pairs=tuple(pairs[:limit]),
        report=Report.of(nothing),
    )


def _kind(structure: Structure, name: str) -> Kind:
    kind = _KIND_BY_ROLE.get(structure.role(name))
    if kind is not None:
        return kind
    rank = len(structure.graph.values[name].shape or ())
    return Kind.HIDDEN_STATE if rank == 3 and structure.encoder is not None else Kind.FEATURE


def _same_kind(teacher: Structure, left: str, student: Structure, right: str) -> bool:
    return _kind(teacher, left) is _kind(student, right)


def _gap(teacher: Structure, left: str, student: Structure, right: str) -> float:
    """Tell how far two Values are apart: octaves of resolution, and fractions of depth."""
    scales = teacher.scales.get(left, GLOBAL), student.scales.get(right, GLOBAL)
    depth = abs(teacher.depth(left) - student.depth(right))
    if GLOBAL in scales:
        return depth + (scales[0] != scales[1])
    return depth + _GAP_PER_OCTAVE_OF_AREA * abs(log2(scales[0].area / scales[1].area))


def _again(suggested: list[Pair]) -> Iterator[Pair]:
    for rank, pair in enumerate(suggested, 1):
        yield replace(pair, rank=rank)


def _nearest(
    teacher: Structure, name: str, student: Structure, ranked: list[str], *, start: int
) -> Iterator[Pair]:
    kind = _kind(teacher, name)
    for rank, other in enumerate(ranked, start):
        gap = _gap(teacher, name, student, other)
        why = ("the nearest in resolution and depth",) if rank == 1 else ()
        candidate = Candidate(kind=kind, teacher=name, student=other, why=why)
        yield replace(pair_of(rank, candidate, teacher, student), score=round(1 / (1 + gap), 3))
