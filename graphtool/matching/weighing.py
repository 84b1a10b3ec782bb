"""Rerank suggested pairs by evidence from data: it breaks ties and adds warnings, no more."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from graphtool.diagnostics import Report, counted
from graphtool.matching.evidence import Evidence
from graphtool.matching.pairs import Pair, PairSet
from graphtool.structure import Structure, analyse

__all__ = ["names_to_measure", "rerank"]

# A teacher map of another stage contradicts a pair if its CKA is at least this, and larger than the
# pair's by that margin; on noise, unrelated maps differ by as much.
_LEAST_CKA = 0.5
_MARGIN = 0.1
_DIGITS = 4


def names_to_measure(pairs: PairSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the Values to measure in each network: the main line and the pairs."""
    teacher, student = analyse(pairs.teacher), analyse(pairs.student)
    return (
        tuple(dict.fromkeys((*teacher.main_line, *(pair.teacher.name for pair in pairs)))),
        tuple(dict.fromkeys((*student.main_line, *(pair.student.name for pair in pairs)))),
    )


def rerank(pairs: PairSet, evidence: Evidence) -> PairSet:
    """Add its CKA to each pair, and break ties by it.

    Pairs of one kind and one teacher stage (or Value, outside of stages) that follow each other
    with equal scores are ordered by CKA, the largest first. Warnings name scores that outliers
    decide, and pairs that the data contradict: another stage of the teacher is much more similar to
    the student map. The report of the evidence comes after that of the pairs.
    """
    stages = _TeacherStages(analyse(pairs.teacher))
    reranked = tuple(
        _with_evidence(replace(pair, rank=place.rank), evidence, stages)
        for place, pair in zip(pairs, _ties_broken(pairs, evidence, stages), strict=True)
    )
    report = Report.of((*pairs.report, *evidence.report))
    return replace(pairs, pairs=reranked, report=report)


@dataclass(frozen=True)
class _TeacherStages:
    """The stages of a teacher, numbered as in the reasons of pairs."""

    structure: Structure

    def index(self, name: str) -> int | None:
        """Return the stage of a Value, None outside of stages; a tap belongs to its block."""
        if name in self._by_name:
            return self._by_name[name]
        if self.structure.is_on_main_line(name):
            return None
        depths = self.structure.flow.depth
        ends = [depths[stage.end] for stage in self.structure.stages]
        index = bisect_left(ends, depths.get(name, 0))
        return index if index < len(ends) else None

    @cached_property
    def _by_name(self) -> dict[str, int]:
        indices: dict[str, int] = {}
        for index, stage in enumerate(self.structure.stages):
            indices.update(dict.fromkeys(stage.values, index))
            for block in stage.blocks:
                indices.update(dict.fromkeys(self.structure.taps(block).values(), index))
        return indices

    def text(self, name: str) -> str:
        """Return the stage of a Value as text: ` of stage 2`, or nothing."""
        index = self.index(name)
        if index is None:
            return ""
        number = index + self.structure.first_stage
        return f" of stage {number}" if number else " of the stem"


def _ties_broken(
    pairs: Iterable[Pair], evidence: Evidence, stages: _TeacherStages
) -> Iterator[Pair]:
    def tie(pair: Pair) -> tuple[object, ...]:
        stage = stages.index(pair.teacher.name)
        return pair.kind, pair.score, pair.teacher.name if stage is None else stage

    for _, tied in groupby(pairs, key=tie):
        yield from sorted(tied, key=lambda pair: -_cka(pair, evidence))


def _cka(pair: Pair, evidence: Evidence) -> float:
    """Return the CKA of a pair; pairs without one come last."""
    cka = evidence.score(pair.teacher.name, pair.student.name)
    return -2.0 if cka is None else cka


def _with_evidence(pair: Pair, evidence: Evidence, stages: _TeacherStages) -> Pair:
    names = pair.teacher.name, pair.student.name
    similarity = evidence.scores.get(names)
    if similarity is None:
        return pair
    why = f"CKA {similarity} on {counted(evidence.samples, 'sample')}"
    warnings = (*evidence.remarks(*names), *_contradictions(evidence, stages, *names))
    return replace(
        pair,
        why=(*pair.why, why),
        warnings=(*pair.warnings, *warnings),
        cka=round(similarity.cka, _DIGITS),
    )


def _contradictions(
    evidence: Evidence, stages: _TeacherStages, teacher: str, student: str
) -> Iterator[str]:
    """Warn where a teacher Value of another stage, of equal rank, is much more similar."""
    values = stages.structure.graph.values
    rank, stage = values[teacher].rank, stages.index(teacher)
    others = [
        name
        for name in stages.structure.main_line
        if values[name].rank == rank and (stage is None or stages.index(name) != stage)
    ]
    best, cka = evidence.best(student, others), evidence.scores[teacher, student].cka
    best_cka = cka if best is None else evidence.scores[best, student].cka
    if best is None or best_cka < _LEAST_CKA or best_cka - cka < _MARGIN:
        return
    where, scores = stages.text(best), f"CKA {best_cka:.2f}, {cka:.2f} here"
    yield f"on data the student's Value is more like the teacher's `{best}`{where}: {scores}"
