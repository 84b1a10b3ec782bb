"""Which student Values could go with one teacher Value, best first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphtool.diagnostics import PairError, Report
from graphtool.matching import problems
from graphtool.matching.candidate import Candidate, are_alike, kind_of
from graphtool.matching.pairs import Pair, PairSet
from graphtool.matching.rank import check_limit, pair_of, pairs_of
from graphtool.matching.score import Comparison
from graphtool.readers import Source, read_own
from graphtool.selectors import find_in
from graphtool.structure import analyse

__all__ = ["partners"]


def partners(teacher: Source, student: Source, selector: str, *, limit: int | None = 8) -> PairSet:
    """Rank the student Values that could be paired with one teacher Value.

    `selector` names the teacher Value in any spelling that `find` takes. What `suggest_pairs` pairs
    with it comes first; then block outputs of the student, by how well they fit. There are `limit`
    at most, and all of them for None.

    Raises ReadError where a source cannot be read or the selector means no Value, or several,
    UsageError (GT248) where `limit` is no whole number, and PairError (GT303) where the Value is no
    feature map.
    """
    check_limit(limit, 'gt.partners(teacher, student, "relu_48", limit=8)')
    left, right = analyse(read_own(teacher)), analyse(read_own(student))
    name = find_in("teacher", left.graph, right.graph, selector).name
    if name not in left.flow.features:
        raise PairError(problems.no_feature_map(left, name, "teacher"))
    suggested = [pair for pair in pairs_of(left, right) if pair.teacher.name == name]
    first = {pair.student.name for pair in suggested}
    others = [other for other in right.main_line if other not in first]
    comparison = Comparison(left, right)
    kind = kind_of(left, name)
    ranked = sorted(
        (other for other in others if are_alike(kind, kind_of(right, other))),
        key=lambda other: -comparison.fit(name, other),
    )
    pairs = [*_again(suggested), *_best(comparison, name, ranked, start=len(suggested) + 1)]
    nothing = () if pairs else (problems.nothing_in_common(left.graph, right.graph, 0),)
    return PairSet(
        teacher=left.graph,
        student=right.graph,
        pairs=tuple(pairs[:limit]),
        report=Report.of(nothing),
    )


def _again(suggested: list[Pair]) -> Iterator[Pair]:
    for rank, pair in enumerate(suggested, 1):
        yield replace(pair, rank=rank)


def _best(comparison: Comparison, name: str, ranked: list[str], *, start: int) -> Iterator[Pair]:
    kind = kind_of(comparison.teacher, name)
    for rank, other in enumerate(ranked, start):
        why = ("the one that fits best",) if rank == 1 else ()
        candidate = Candidate(kind=kind, teacher=name, student=other, why=why)
        yield pair_of(rank, candidate, comparison)
