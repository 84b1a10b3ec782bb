"""Suggest which Values to pair, in the order in which an expert would list them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from graphtool.arguments import bad_argument
from graphtool.backend.paddle import Paddle
from graphtool.diagnostics import Diagnostic, PairError, Report, Severity, UsageError, counted
from graphtool.matching import problems
from graphtool.matching.candidates import Candidate, attention_projections, candidates, unique
from graphtool.matching.evidence import BATCHES, check_samples, gather
from graphtool.matching.pairs import Alternative, Kind, Pair, PairSet, end_of
from graphtool.matching.presets import PRESETS, PresetName
from graphtool.matching.relations import (
    AnalysedPair,
    adapter_of,
    loss_of,
    reasons,
    relation_of,
    warnings,
)
from graphtool.matching.score import Scorer
from graphtool.matching.weighing import names_to_measure, rerank
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import Structure, Tap, analyse

__all__ = ["check_limit", "pair_of", "pairs_of", "suggest_pairs"]

# Experts publish one to four pairs of maps, with logits and embedding at most 8 in all; and every
# layer of a transformer, every head and pyramid level of a detector.
_MOST = 8
_UNLIMITED = frozenset({Kind.LOGITS, Kind.EMBEDDING, Kind.HIDDEN_STATE, Kind.ATTENTION, Kind.HEAD})
_KINDS_WITH_TAPS = frozenset({Kind.STAGE, Kind.FEATURE, Kind.HIDDEN_STATE})
_CALL = 'gt.suggest_pairs(teacher, student, limit=4, tap="before-activation", recipe="fitnet")'

_Choice = TypeVar("_Choice", bound=Enum)
# Whatever the user has: a path, arrays, a function, a DataLoader.
_Samples: TypeAlias = Any


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
    samples as `gather` of `graphtool.matching.evidence` takes them, at most `batches` batches of
    32. Each pair then has its `cka`. CKA orders pairs of one stage with equal scores, and adds
    warnings where it contradicts a pair; it changes nothing else. The networks need their weights,
    so each is a saved model with its parameters beside it, a live Program, a Network, or
    `module:callable` that loads what it builds; a Graph cannot run. As in `merge`, `scope` holds
    the parameters of a live student (the global Scope where None), `teacher_scope` those of a live
    teacher (the student's where None). `allow_random` accepts untrained networks.

    Raises ReadError where a source cannot be read, UsageError (GT248) for an invalid `limit`, `tap`
    or `recipe`, PairError (GT305) where the networks lack what a `recipe` pairs, and as `gather`
    does. The order follows published configurations (Romero et al. 2015, arXiv 1412.6550, for the
    middle stage; Jiao et al. 2020, arXiv 1909.10351, for transformers).
    """
    check_limit(limit, _CALL)
    tap = None if tap is None else _choice(Tap, "tap", tap)
    preset = None if recipe is None else _choice(PresetName, "recipe", recipe)
    check_samples(evidence)
    teacher_structure, student_structure = (
        analyse(read_without_teachers(teacher)),
        analyse(read_without_teachers(student)),
    )
    pairs = pairs_of(teacher_structure, student_structure, limit=limit, tap=tap, recipe=preset)
    if evidence is None:
        return pairs
    names = names_to_measure(pairs)
    gathered = gather(
        teacher,
        student,
        names,
        evidence,
        batches=batches,
        allow_random=allow_random,
        scopes=(teacher_scope, scope),
    )
    (latest,) = deque(gathered, maxlen=1)
    return rerank(pairs, latest)


def check_limit(limit: object, call: str) -> None:
    """Refuse a limit that is no number of pairs; the help is `call`, which shows a valid one.

    Raises UsageError: GT248.
    """
    is_whole = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    if limit is not None and not is_whole:
        raise UsageError(bad_argument("limit", limit, "a whole number, or None", call))


def _choice(choices: type[_Choice], name: str, given: object) -> _Choice:
    """Return the member of an Enum that an argument is, or spells."""
    try:
        return choices(given)
    except ValueError:
        values = ", ".join(f"`{member.value}`" for member in choices)
    raise UsageError(bad_argument(name, given, f"one of {values}", _CALL))


def pairs_of(
    teacher: Structure,
    student: Structure,
    *,
    limit: int | None = None,
    tap: Tap | None = None,
    recipe: PresetName | None = None,
) -> PairSet:
    """Suggest pairs for two networks that are already analysed."""
    preset = None if recipe is None else PRESETS[recipe]
    comparison = Scorer(teacher, student)
    find = attention_projections if recipe is PresetName.MINILM else candidates
    found, diagnostics = find(comparison), list[Diagnostic]()
    if tap is None and preset is not None:
        tap = preset.tap
    if tap is not None:
        found = _at_tap(found, tap, comparison, diagnostics)
    chosen = found[:limit]
    if limit is None or preset is not None:
        chosen = _most_preferred(found, teacher)
    pairs = tuple(pair_of(rank, candidate, comparison) for rank, candidate in enumerate(chosen, 1))
    if recipe is not None and preset is not None:
        graphs = teacher.graph, student.graph
        unfit, pairs = preset.unfit(pairs), preset.choose(pairs)
        reasons_unfit = tuple(dict.fromkeys(pair.warnings[0] for pair in unfit))
        if not pairs:
            why = "its loss cannot compare these" if unfit else "the networks do not both have them"
            message = f"`{recipe.value}` pairs {preset.what}; {why}"
            raise PairError(problems.form_without_pairs(message, *graphs, reasons_unfit))
        if unfit:
            left_out = counted(len(unfit), "pair")
            message = f"`{recipe.value}` leaves out {left_out} that its loss cannot compare"
            diagnostics.append(
                problems.form_without_pairs(message, *graphs, reasons_unfit, Severity.WARNING)
            )
    else:
        diagnostics += _network_diagnostics(teacher, student, found)
    diagnostics += _unclear_outputs(teacher, student)
    return PairSet(
        teacher=teacher.graph,
        student=student.graph,
        pairs=pairs[:limit],
        report=Report.of(diagnostics),
    )


def _most_preferred(found: Sequence[Candidate], teacher: Structure) -> tuple[Candidate, ...]:
    """Take the first ones, and all logits: those of other classes come behind the maps."""
    most = max(_MOST, sum(pair.kind in _UNLIMITED for pair in found) + len(teacher.necks))
    cut_logits = [pair for pair in found[most:] if pair.kind is Kind.LOGITS]
    return (*found[: most - len(cut_logits)], *cut_logits)


def _at_tap(
    found: Sequence[Candidate], tap: Tap, comparison: Scorer, diagnostics: list[Diagnostic]
) -> tuple[Candidate, ...]:
    """Move candidates to a tap where both blocks have it; report how many stay where they are."""
    moved = [_moved(tap, candidate, comparison) for candidate in found]
    unmoved = moved.count(None)
    if unmoved:
        graphs = comparison.teacher.graph, comparison.student.graph
        diagnostics.append(problems.no_such_tap(tap.value, unmoved, *graphs))
    return unique(new or old for new, old in zip(moved, found, strict=True))


def _moved(tap: Tap, candidate: Candidate, comparison: Scorer) -> Candidate | None:
    if candidate.kind not in _KINDS_WITH_TAPS:
        return candidate
    teacher = comparison.teacher.taps(candidate.teacher).get(tap)
    student = comparison.student.taps(candidate.student).get(tap)
    if teacher is None or student is None:
        return None
    return replace(candidate, teacher=teacher, student=student)


def pair_of(rank: int, candidate: Candidate, comparison: Scorer) -> Pair:
    """Make a Pair of a Candidate: score, relation, adapter, loss, reasons, warnings, other taps."""
    teacher, student = comparison.teacher, comparison.student
    sides = AnalysedPair(
        kind=candidate.kind,
        teacher=teacher,
        teacher_name=candidate.teacher,
        student=student,
        student_name=candidate.student,
    )
    relation = relation_of(sides)
    return Pair(
        rank=rank,
        score=comparison.fit(candidate.teacher, candidate.student),
        kind=candidate.kind,
        teacher=end_of(teacher.graph, teacher.graph.values[candidate.teacher]),
        student=end_of(student.graph, student.graph.values[candidate.student]),
        relation=relation,
        adapter=adapter_of(sides, relation),
        loss=loss_of(sides, relation),
        why=candidate.why + tuple(reasons(sides)),
        warnings=tuple(warnings(sides, relation)),
        alternatives=tuple(_alternatives(candidate, comparison)),
    )


def _alternatives(candidate: Candidate, comparison: Scorer) -> Iterator[Alternative]:
    """Yield the other taps that both blocks have."""
    teacher, student = comparison.teacher.graph, comparison.student.graph
    for tap in Tap if candidate.kind in _KINDS_WITH_TAPS else ():
        moved = _moved(tap, candidate, comparison)
        if moved is not None and moved != candidate:
            yield Alternative(
                tap=tap,
                teacher=end_of(teacher, teacher.values[moved.teacher]),
                student=end_of(student, student.values[moved.student]),
            )


def _network_diagnostics(
    teacher: Structure, student: Structure, found: Sequence[Candidate]
) -> Iterator[Diagnostic]:
    if all(pair.kind in (Kind.LOGITS, Kind.EMBEDDING) for pair in found):
        yield problems.nothing_in_common(teacher.graph, student.graph, len(found))
    is_smaller = teacher.parameters < student.parameters
    if is_smaller and teacher.multiply_adds < student.multiply_adds:
        sizes = f"{teacher.parameters:,}", f"{student.parameters:,}"
        yield problems.teacher_is_smaller(teacher.graph, student.graph, sizes)
    heads = len(teacher.heads), len(student.heads)
    if heads[0] != heads[1] and min(heads) > 0 and max(heads) > 1:
        yield problems.unequal_heads(teacher.graph, student.graph, heads)


def _unclear_outputs(teacher: Structure, student: Structure) -> Iterator[Diagnostic]:
    for role, side in (("teacher", teacher), ("student", student)):
        if any(not head.is_clear for head in side.heads):
            yield problems.unclear_prediction(role, teacher, student)
