"""Suggest pairs, and rerank them by CKA on data: it breaks ties and adds warnings, no more."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeAlias

from graphtool import matching
from graphtool.backend.paddle import Paddle
from graphtool.diagnostics import Report, counted
from graphtool.matching.explanation import Explanation, as_pair_set
from graphtool.matching.pairs import Pair, PairSet
from graphtool.matching.suggest import PresetName
from graphtool.sources import Source
from graphtool.structure import Structure, Tap, analyse

__all__ = [
    "BATCHES",
    "Evidence",
    "cka_text",
    "names_to_measure",
    "rerank",
    "suggest_pairs",
    "with_evidence",
]

# Whatever the user has: a path, arrays, a function, a DataLoader.
_Samples: TypeAlias = Any

BATCHES = 4
# A teacher map of another stage contradicts a pair if its CKA is at least this, and larger than the
# pair's by that margin; on noise, unrelated maps differ by as much.
_LEAST_CKA = 0.5
_MARGIN = 0.1
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """CKA of teacher and student Values by their names, from -1 to 1, and diagnostics.

    Pairs that could not be measured, or with a constant end, are absent.
    """

    batches: int
    samples: int
    scores: Mapping[tuple[str, str], float]
    report: Report = field(default_factory=Report)


def suggest_pairs(
    teacher: Source,
    student: Source,
    *,
    limit: int | None = None,
    tap: Tap | str | None = None,
    recipe: PresetName | str | None = None,
    evidence: _Samples | None = None,
    batches: int = BATCHES,
    allow_random: bool = False,
    scope: Paddle | None = None,
    teacher_scope: Paddle | None = None,
) -> PairSet:
    """Suggest which feature maps to pair, in the order in which experts prefer them.

    `teacher` and `student` are anything that `read` takes. The list is a menu: experts train with
    the logits, or with one to four of the maps. `limit` bounds the number of pairs; without it
    there are at most eight, or all layers of transformers and all heads of detectors. `tap` says
    where in its block each map is taken: `after-activation`, `before-activation`, `before-norm` or
    `last-convolution`. `recipe` selects a published form instead, with its losses and weights:
    `logits`, which gains most, `features`, `transformer`, `overhaul`, `attention`, `fitnet` or
    `minilm`. Its weights assume a weight of 1 for the task's own loss, 0.1 with `logits`.

    `evidence` is data that both networks run on, to measure how similar the ends of each pair are:
    the path of a `.npy` or `.npz`, `module:callable`, `random`, an array, a dict of arrays by feed
    name, a function that returns batches, or an iterable of them, such as a DataLoader. At most
    `batches` batches are used. Samples that come in batches keep their size; others are cut into
    batches of 32, or of the size that a network is fixed to. Each pair then has its `cka`. CKA
    orders pairs of one stage with equal scores, and adds warnings where it contradicts a pair; it
    changes nothing else. The networks need their weights, so each is a saved model with its
    parameters beside it, a live Program, a Network, or `module:callable` that loads what it builds;
    a Graph cannot run. As in `merge`, `scope` holds the parameters of a live student (the global
    Scope where None), `teacher_scope` those of a live teacher (the student's where None).
    `allow_random` accepts untrained networks. Nothing of the user's is written to.

    Raises ReadError where a source cannot be read, UsageError (GT248) for an invalid argument,
    PairError (GT305) where the networks lack what a `recipe` pairs. With `evidence`, raises
    UsageError (GT370) or PairError (GT370, GT372, GT256, GT258) for unusable samples; PairError:
    GT376 for parameters that were never loaded, GT384 for two Programs with parameters of one name
    in one Scope, GT242 for a saved model with side effects. The order follows published
    configurations (Romero et al. 2015, arXiv 1412.6550, for the middle stage; Jiao et al. 2020,
    arXiv 1909.10351, for transformers); CKA is that of Nguyen, Raghu and Kornblith 2021 (arXiv
    2010.15327).
    """
    if evidence is None:
        return matching.suggest_pairs(teacher, student, limit=limit, tap=tap, recipe=recipe)
    from graphtool.evidence.samples import check_samples

    check_samples(evidence)
    pairs = matching.suggest_pairs(teacher, student, limit=limit, tap=tap, recipe=recipe)
    from graphtool.evidence.cka import gather

    gathered = gather(
        teacher,
        student,
        names_to_measure(pairs),
        evidence,
        batches=batches,
        allow_random=allow_random,
        scopes=(teacher_scope, scope),
    )
    (latest,) = deque(gathered, maxlen=1)
    return rerank(pairs, latest)


def names_to_measure(pairs: PairSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the Values to measure in each network: the main line and the pairs."""
    teacher, student = analyse(pairs.teacher), analyse(pairs.student)
    return (
        tuple(dict.fromkeys((*teacher.main_line, *(pair.teacher.name for pair in pairs)))),
        tuple(dict.fromkeys((*student.main_line, *(pair.student.name for pair in pairs)))),
    )


def cka_text(cka: float) -> str:
    """Return a CKA as text: `0.97`."""
    return f"{round(cka, 2) + 0.0:.2f}"  # not -0.00


def rerank(pairs: PairSet, evidence: Evidence) -> PairSet:
    """Add its CKA to each pair, and break ties by it.

    Pairs of one kind and one teacher stage (or Value, outside of stages) that follow each other
    with equal scores are ordered by CKA, the largest first; those without one come last. Warnings
    name pairs that the data contradict: another stage of the teacher is much more similar to the
    student map. The report of the evidence comes after that of the pairs.
    """
    teacher = analyse(pairs.teacher)

    def tie(pair: Pair) -> tuple[object, ...]:
        stage = _stage(teacher, pair.teacher.name)
        return pair.kind, pair.score, pair.teacher.name if stage is None else stage

    def distance(pair: Pair) -> float:
        return -evidence.scores.get((pair.teacher.name, pair.student.name), -2.0)

    def with_cka(pair: Pair) -> Pair:
        cka = evidence.scores.get((pair.teacher.name, pair.student.name))
        if cka is None:
            return pair
        why = f"CKA {cka_text(cka)} on {counted(evidence.samples, 'sample')}"
        warnings = _contradictions(pair, evidence, teacher)
        return replace(
            pair,
            why=(*pair.why, why),
            warnings=(*pair.warnings, *warnings),
            cka=round(cka, _DIGITS),
        )

    ordered = [pair for _, tied in groupby(pairs, tie) for pair in sorted(tied, key=distance)]
    reranked = [
        with_cka(replace(pair, rank=place.rank)) for place, pair in zip(pairs, ordered, strict=True)
    ]
    report = Report.of((*pairs.report, *evidence.report))
    return replace(pairs, pairs=tuple(reranked), report=report)


def with_evidence(explanation: Explanation, evidence: Evidence) -> Explanation:
    """Add its CKA to an explained pair, and what the evidence says against it."""
    before = explanation.pair
    (pair,) = rerank(as_pair_set(explanation), evidence)
    return replace(
        explanation,
        pair=pair,
        against=(*explanation.against, *pair.warnings[len(before.warnings) :]),
        nearest=pair if explanation.nearest is before else explanation.nearest,
    )


def _stage(structure: Structure, name: str) -> int | None:
    """Return the stage of a Value: inside a block, the next that ends; None outside of stages."""
    number = structure.stage_of(name)
    if number is not None or structure.is_on_main_line(name):
        return number
    depths = structure.flow.depth
    ends = [depths[stage.end] for stage in structure.stages]
    index = bisect_left(ends, depths.get(name, 0))
    return index + structure.first_stage if index < len(ends) else None


def _contradictions(pair: Pair, evidence: Evidence, teacher: Structure) -> Iterator[str]:
    """Warn where a teacher Value of another stage, of equal rank, is much more similar."""
    own, student = pair.teacher.name, pair.student.name
    values, stage = teacher.graph.values, _stage(teacher, own)
    others: Iterable[str] = (
        name
        for name in teacher.main_line
        if values[name].rank == values[own].rank
        and (name, student) in evidence.scores
        and (stage is None or _stage(teacher, name) != stage)
    )
    best = max(others, key=lambda name: evidence.scores[name, student], default=own)
    cka, best_cka = evidence.scores[own, student], evidence.scores[best, student]
    if best_cka >= _LEAST_CKA and best_cka - cka >= _MARGIN:
        number = _stage(teacher, best)
        where = "" if number is None else f" of stage {number}" if number else " of the stem"
        scores = f"CKA {best_cka:.2f}, {cka:.2f} here"
        yield f"on data the student's Value is more like the teacher's `{best}`{where}: {scores}"
