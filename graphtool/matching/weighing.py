"""Weigh suggested pairs by evidence from data: it settles ties and warns, and never overrules."""

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

__all__ = ["names_of", "weigh"]

# A teacher map of another stage speaks against a pair where it is alike at all, and its CKA is
# larger by this much; on noise, maps that have nothing to do with each other differ by as much.
_ALIKE = 0.5
_MUCH = 0.1
_DIGITS = 4


def names_of(pairs: PairSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is to be measured of the teacher and the student: main lines and pairs."""
    teacher, student = analyse(pairs.teacher), analyse(pairs.student)
    return (
        tuple(dict.fromkeys((*teacher.main_line, *(pair.teacher.name for pair in pairs)))),
        tuple(dict.fromkeys((*student.main_line, *(pair.student.name for pair in pairs)))),
    )


def weigh(pairs: PairSet, evidence: Evidence) -> PairSet:
    """Say with each pair how alike its ends are on data, and settle ties by that.

    Pairs of one kind and one teacher stage (or Value, outside of stages) that follow each other
    with equal scores change places, so that the one that is more alike comes first. Warnings say
    where outliers decide a score, and where data speak against a pair: another stage of the teacher
    is much more like its student map. The report of the evidence comes after that of the pairs.
    """
    teacher = _Stages(analyse(pairs.teacher))
    weighed = tuple(
        _said(replace(pair, rank=place.rank), evidence, teacher)
        for place, pair in zip(pairs, _settled(pairs, evidence, teacher), strict=True)
    )
    report = Report.of((*pairs.report, *evidence.report))
    return replace(pairs, pairs=weighed, report=report)


@dataclass(frozen=True)
class _Stages:
    """The stages of a teacher, numbered as the reasons of pairs do it."""

    structure: Structure

    def index(self, name: str) -> int | None:
        """Return which stage a Value lies in, None outside of stages; a tap is with its block."""
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
        found: dict[str, int] = {}
        for index, stage in enumerate(self.structure.stages):
            found.update(dict.fromkeys(stage.values, index))
            for block in stage.blocks:
                found.update(dict.fromkeys(self.structure.taps(block).values(), index))
        return found

    def said(self, name: str) -> str:
        """Say which stage a Value lies in: ` of stage 2`, or nothing."""
        index = self.index(name)
        if index is None:
            return ""
        number = index + self.structure.first_stage
        return f" of stage {number}" if number else " of the stem"


def _settled(pairs: Iterable[Pair], evidence: Evidence, teacher: _Stages) -> Iterator[Pair]:
    def place(pair: Pair) -> tuple[object, ...]:
        stage = teacher.index(pair.teacher.name)
        return pair.kind, pair.score, pair.teacher.name if stage is None else stage

    for _, tied in groupby(pairs, key=place):
        yield from sorted(tied, key=lambda pair: -_cka(pair, evidence))


def _cka(pair: Pair, evidence: Evidence) -> float:
    """Return the CKA of a pair; one without any is behind all others."""
    score = evidence.score(pair.teacher.name, pair.student.name)
    return -2.0 if score is None else score


def _said(pair: Pair, evidence: Evidence, teacher: _Stages) -> Pair:
    ends = pair.teacher.name, pair.student.name
    score = evidence.scores.get(ends)
    if score is None:
        return pair
    why = f"CKA {score} on {counted(evidence.samples, 'sample')}"
    against = (*evidence.remarks(*ends), *_contradictions(evidence, teacher, *ends))
    return replace(
        pair,
        why=(*pair.why, why),
        warnings=(*pair.warnings, *against),
        cka=round(score.cka, _DIGITS),
    )


def _contradictions(evidence: Evidence, teacher: _Stages, ours: str, theirs: str) -> Iterator[str]:
    """Yield what is much more like the student map: a Value of another stage with as many axes."""
    values = teacher.structure.graph.values
    rank, stage = values[ours].rank, teacher.index(ours)
    others = [
        name
        for name in teacher.structure.main_line
        if values[name].rank == rank and (stage is None or teacher.index(name) != stage)
    ]
    best, score = evidence.best(theirs, others), evidence.scores[ours, theirs].cka
    other = score if best is None else evidence.scores[best, theirs].cka
    if best is None or other < _ALIKE or other - score < _MUCH:
        return
    where, scores = teacher.said(best), f"CKA {other:.2f}, {score:.2f} here"
    yield f"on data the student's Value is more like the teacher's `{best}`{where}: {scores}"
