"""Rank the student Values that could be paired with one teacher Value."""

from __future__ import annotations

from dataclasses import replace

from graphtool.diagnostics import PairError, Report
from graphtool.matching import problems
from graphtool.matching.candidates import Candidate, can_pair, pair_kind
from graphtool.matching.pairs import PairSet
from graphtool.matching.score import Scorer
from graphtool.matching.suggest import check_limit, pair_of, pairs_of
from graphtool.selectors import find_for_role
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import analyse

__all__ = ["partners"]


def partners(teacher: Source, student: Source, selector: str, *, limit: int | None = 8) -> PairSet:
    """Rank the student Values that could be paired with one teacher Value.

    `selector` names the teacher Value in any spelling that `find` takes. The partners that
    `suggest_pairs` gives it come first, then block outputs of the student, best fit first. `limit`
    bounds their number; None returns all.

    Raises ReadError where a source cannot be read or the selector means no Value, or several,
    UsageError (GT248) where `limit` is no whole number, and PairError (GT303) if the Value is not a
    feature map.
    """
    check_limit(limit, 'gt.partners(teacher, student, "relu_48", limit=8)')
    teacher_structure, student_structure = (
        analyse(read_without_teachers(teacher)),
        analyse(read_without_teachers(student)),
    )
    name = find_for_role("teacher", teacher_structure.graph, student_structure.graph, selector).name
    if name not in teacher_structure.flow.features:
        raise PairError(problems.no_feature_map(teacher_structure, name, "teacher"))
    suggested = [
        pair for pair in pairs_of(teacher_structure, student_structure) if pair.teacher.name == name
    ]
    paired = {pair.student.name for pair in suggested}
    comparison = Scorer(teacher_structure, student_structure)
    kind = pair_kind(teacher_structure, name)
    ranked = sorted(
        (
            other
            for other in student_structure.main_line
            if other not in paired and can_pair(kind, pair_kind(student_structure, other))
        ),
        key=lambda other: -comparison.fit(name, other),
    )
    pairs = [replace(pair, rank=rank) for rank, pair in enumerate(suggested, 1)]
    for rank, other in enumerate(ranked, len(suggested) + 1):
        why = ("the one that fits best",) if rank == 1 else ()
        pairs.append(pair_of(rank, Candidate(kind, name, other, why), comparison))
    graphs = teacher_structure.graph, student_structure.graph
    diagnostics = () if pairs else (problems.nothing_in_common(*graphs, 0),)
    return PairSet(
        teacher=graphs[0],
        student=graphs[1],
        pairs=tuple(pairs[:limit]),
        report=Report.of(diagnostics),
    )
