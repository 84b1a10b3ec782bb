"""Suggest which Values to pair, in the order in which an expert would list them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, PairError, Report, Severity, UsageError, counted
from graphtool.matching import problems
from graphtool.matching.candidates import Candidate, attention_projections, candidates, unique
from graphtool.matching.pairs import Alternative, Kind, Pair, PairSet, end_of
from graphtool.matching.relations import (
    LOSS_OF_SIGMOID_SCORES,
    AnalysedPair,
    adapter_for,
    adapter_of,
    can_compare,
    loss_of,
    reasons,
    relation_of,
    warnings,
)
from graphtool.matching.score import Scorer
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import Structure, Tap, analyse

__all__ = ["PresetName", "check_limit", "pair_of", "pairs_of", "suggest_pairs"]

# Experts publish one to four pairs of maps, with logits and embedding at most 8 in all; and every
# layer of a transformer, every head and pyramid level of a detector.
_MOST = 8
_UNLIMITED = frozenset({Kind.LOGITS, Kind.EMBEDDING, Kind.HIDDEN_STATE, Kind.ATTENTION, Kind.HEAD})
_KINDS_WITH_TAPS = frozenset({Kind.STAGE, Kind.FEATURE, Kind.HIDDEN_STATE})
_CALL = 'gt.suggest_pairs(teacher, student, limit=4, tap="before-activation", recipe="fitnet")'

_Choice = TypeVar("_Choice", bound=Enum)


class PresetName(str, Enum):
    """The published forms, the one that gains most first.

    For one teacher and student (resnet34 and resnet18 on ImageNet, PaddleClas), losses on logits
    gain 1.8 to 2.0 points of accuracy, losses on feature maps 0.9 to 1.4.
    """

    LOGITS = "logits"
    FEATURES = "features"
    TRANSFORMER = "transformer"
    OVERHAUL = "overhaul"
    ATTENTION = "attention"
    FITNET = "fitnet"
    MINILM = "minilm"


class _Stages(Enum):
    """Which of the stages a preset takes."""

    ALL = "all"
    LAST = "last"
    MIDDLE = "middle"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preset:
    """What a published form pairs (`what`, as text): the loss and weight of each kind, and the tap.

    Sigmoid scores keep the loss suggested for them, with weight 1: a softmax over them means
    nothing, and over a single one is constant.
    """

    what: str
    losses: Mapping[Kind, tuple[str, float]]
    stages: _Stages = _Stages.ALL
    tap: Tap | None = None

    def choose(self, pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], list[Pair]]:
        """Return the pairs of the preset, with its losses and weights, and those without.

        These are of its kinds, but their shapes differ so that its losses cannot compare them.
        """
        fitting: list[Pair] = []
        unfit: list[Pair] = []
        for pair in pairs:
            if pair.kind not in self.losses:
                continue
            loss, weight = self.losses[pair.kind]
            if pair.kind is Kind.LOGITS and pair.loss == LOSS_OF_SIGMOID_SCORES:
                why = f"scores that are judged one by one: `{pair.loss}` in place of `{loss}`"
                pair = replace(pair, why=(*pair.why, why))
                loss, weight = pair.loss, 1.0
            pair = replace(pair, loss=loss, weight=weight, adapter=adapter_for(pair, loss))
            (fitting if can_compare(loss, pair.relation) else unfit).append(pair)
        # In program order.
        stages = sorted(
            (pair for pair in fitting if pair.kind is Kind.STAGE),
            key=lambda pair: pair.teacher.op_index or 0,
        )
        if stages and self.stages is not _Stages.ALL:
            stages = [stages[-1 if self.stages is _Stages.LAST else (len(stages) - 1) // 2]]
        chosen = [pair for pair in fitting if pair.kind is not Kind.STAGE or pair in stages]
        return tuple(replace(pair, rank=rank) for rank, pair in enumerate(chosen, 1)), unfit


_CLASSES, _STAGES = "classes at the end", "stages of feature maps"
_LAYERS = "layers of a transformer"
# Weights for a task loss of weight 1, as in a comparison of many methods (Tian et al. 2020, arXiv
# 1910.10699, and its code). The 0.9 of logits goes with 0.1 for the task: the sum keeps its size,
# and the learning rate its meaning.
_PRESETS: Mapping[PresetName, _Preset] = {
    # Hinton et al. 2015, arXiv 1503.02531; at a temperature of 4, the default of `kl`.
    PresetName.LOGITS: _Preset(what=_CLASSES, losses={Kind.LOGITS: ("kl", 0.9)}),
    # Tung and Mori 2019, arXiv 1907.09682: the similarity of samples in the last stage.
    PresetName.FEATURES: _Preset(
        what=_STAGES, losses={Kind.STAGE: ("similarity", 3000.0)}, stages=_Stages.LAST
    ),
    # TinyBERT (Jiao et al. 2020, arXiv 1909.10351): all parts have equal weights.
    PresetName.TRANSFORMER: _Preset(
        what=_LAYERS,
        losses={
            Kind.HIDDEN_STATE: ("hidden_state", 1.0),
            Kind.ATTENTION: ("attention_scores", 1.0),
        },
    ),
    # The taps of Heo et al. 2019 (arXiv 1904.01866); graphtool has no loss with their margin ReLU.
    # Their code divides sums by 10,000, and by 2 from stage to stage towards the input: for a
    # ResNet50 at 224 pixels that is the mean times 10 at each stage.
    PresetName.OVERHAUL: _Preset(
        what=_STAGES, losses={Kind.STAGE: ("hint", 10.0)}, tap=Tap.BEFORE_ACTIVATION
    ),
    # Zagoruyko and Komodakis 2017, arXiv 1612.03928.
    PresetName.ATTENTION: _Preset(what=_STAGES, losses={Kind.STAGE: ("attention", 1000.0)}),
    # Romero et al. 2015, arXiv 1412.6550: one hint, in the middle.
    PresetName.FITNET: _Preset(
        what=_STAGES, losses={Kind.STAGE: ("hint", 100.0)}, stages=_Stages.MIDDLE
    ),
    # Wang et al. 2021, arXiv 2012.15828: relations inside the last layer's attention. Their
    # `heads`, 48 or 64, divide a width of 768 or 1024, but not any: they are an option of the loss.
    PresetName.MINILM: _Preset(what=_LAYERS, losses={Kind.ATTENTION: ("attention_relation", 1.0)}),
}


def suggest_pairs(
    teacher: Source,
    student: Source,
    *,
    limit: int | None = None,
    tap: Tap | str | None = None,
    recipe: PresetName | str | None = None,
) -> PairSet:
    """Suggest which feature maps to pair, as `graphtool.suggest_pairs` does without evidence.

    Raises ReadError where a source cannot be read, UsageError (GT248) for an invalid `limit`, `tap`
    or `recipe`, PairError (GT305) where the networks lack what a `recipe` pairs.
    """
    check_limit(limit, _CALL)
    tap = None if tap is None else _choice(Tap, "tap", tap)
    preset = None if recipe is None else _choice(PresetName, "recipe", recipe)
    teacher_structure = analyse(read_without_teachers(teacher))
    student_structure = analyse(read_without_teachers(student))
    return pairs_of(teacher_structure, student_structure, limit=limit, tap=tap, recipe=preset)


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
    preset = None if recipe is None else _PRESETS[recipe]
    comparison = Scorer(teacher, student)
    find = attention_projections if recipe is PresetName.MINILM else candidates
    found, diagnostics = find(comparison), list[Diagnostic]()
    if tap is None and preset is not None:
        tap = preset.tap
    if tap is not None:
        found = _at_tap(found, tap, comparison, diagnostics)
    chosen = found[:limit]
    if limit is None or preset is not None:
        chosen = _most_preferred(found, teacher, student)
    pairs = tuple(pair_of(rank, candidate, comparison) for rank, candidate in enumerate(chosen, 1))
    if recipe is not None and preset is not None:
        graphs = teacher.graph, student.graph
        pairs, unfit = preset.choose(pairs)
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
    diagnostics += [
        problems.unclear_prediction(role, teacher, student)
        for role, side in (("teacher", teacher), ("student", student))
        if not all(head.is_clear for head in side.heads)
    ]
    return PairSet(
        teacher=teacher.graph,
        student=student.graph,
        pairs=pairs[:limit],
        report=Report.of(diagnostics),
    )


def _most_preferred(
    found: Sequence[Candidate], teacher: Structure, student: Structure
) -> tuple[Candidate, ...]:
    """Take the first ones, and all logits: those of other classes come behind the maps."""
    most = max(_MOST, sum(pair.kind in _UNLIMITED for pair in found) + len(teacher.necks))
    if teacher.is_u_shaped and student.is_u_shaped:
        steps = (len(side.sections) + len(side.decoder) for side in (teacher, student))
        most = max(most, 1 + min(steps))
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
        yield problems.nothing_in_common(teacher, student, len(found))
    is_smaller = teacher.parameters < student.parameters
    if is_smaller and teacher.multiply_adds < student.multiply_adds:
        sizes = f"{teacher.parameters:,}", f"{student.parameters:,}"
        yield problems.teacher_is_smaller(teacher.graph, student.graph, sizes)
    heads = len(teacher.heads), len(student.heads)
    if heads[0] != heads[1] and min(heads) > 0 and max(heads) > 1:
        yield problems.unequal_heads(teacher.graph, student.graph, heads)
