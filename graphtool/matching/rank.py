"""Which Values go together, and in what order an expert would list them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from graphtool.diagnostics import Diagnostic, Report
from graphtool.graph import dims_agree
from graphtool.matching import problems
from graphtool.matching.align import align
from graphtool.matching.explain import (
    Sides,
    adapter_of,
    in_both,
    loss_of,
    reasons,
    relation_of,
    warnings,
)
from graphtool.matching.pairs import Kind, Pair, PairSet, end_of
from graphtool.readers import Source, read
from graphtool.structure import Encoder, Head, Stage, Structure, analyse

__all__ = ["Candidate", "pair_of", "pairs_of", "suggest_pairs"]

# Experts publish one to four pairs of maps; with logits and embedding that makes at most 8.
_MOST_STAGES = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two Values that go together, with the reasons of the rule that found them."""

    kind: Kind
    teacher: str
    student: str
    why: tuple[str, ...]


def suggest_pairs(teacher: Source, student: Source, *, limit: int | None = None) -> PairSet:
    """Suggest which feature maps to pair, in the order in which experts prefer them.

    `teacher` and `student` are anything that `read` takes. `limit` bounds the number of pairs;
    without it there are at most six stages, all layers of transformers, and all heads.

    Raises ReadError where a source cannot be read. The reasons behind the order are those of
    published configurations (Romero et al. 2015, arXiv 1412.6550, for the middle stage; Jiao et
    al. 2020, arXiv 1909.10351, for the layers of transformers).
    """
    return pairs_of(analyse(read(teacher)), analyse(read(student)), limit=limit)


def pairs_of(teacher: Structure, student: Structure, *, limit: int | None = None) -> PairSet:
    """Suggest pairs of two networks that were analysed already."""
    found = _unique(_candidates(teacher, student))
    pairs = tuple(
        pair_of(rank, candidate, teacher, student)
        for rank, candidate in enumerate(islice(found, limit), 1)
    )
    return PairSet(
        teacher=teacher.graph,
        student=student.graph,
        pairs=pairs,
        report=Report.of(_remarks(teacher, student, pairs)),
    )


def _candidates(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Yield all pairs, best first: logits, layers of transformers, embedding, stages.

    What cannot be compared one to one, as logits of other classes, comes last.
    """
    outputs = list(_outputs(teacher, student))
    alike = [pair for pair in outputs if _comparable(teacher, student, pair)]
    yield from alike
    if teacher.encoder is not None and student.encoder is not None:
        yield from _layers(teacher.encoder, student.encoder)
    yield from _embedding(teacher, student)
    yield from _stages(teacher, student)
    yield from (pair for pair in outputs if pair not in alike)
    yield from _ends(teacher, student)


def _comparable(teacher: Structure, student: Structure, pair: Candidate) -> bool:
    if pair.kind is not Kind.LOGITS:
        return True
    classes = teacher.channels(pair.teacher), student.channels(pair.student)
    return dims_agree(*classes)


def _outputs(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the answers: the main logits, or all heads of detectors, then what else there is.

    Logits gain +1.8 to +2.0 where features give +0.9 to +1.4 (PaddleClas), so they come first.
    """
    if not (_detects(teacher) and _detects(student)) and teacher.heads and student.heads:
        left, right = teacher.heads[0], student.heads[0]
        if left.classifies and right.classifies:
            why = ("the output of the last weighted operator in both",)
            yield Candidate(Kind.LOGITS, left.logits, right.logits, why)
    yield from _heads(teacher, student)


def _ends(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair what two networks without a classifier end in, if it has as many axes."""
    if not teacher.heads or not student.heads:
        return
    left, right = teacher.heads[0], student.heads[0]
    ranks = teacher.graph.values[left.logits].rank, student.graph.values[right.logits].rank
    if not left.classifies and not right.classifies and ranks[0] == ranks[1]:
        why = ("what both networks end in",)
        yield Candidate(Kind.FEATURE, left.logits, right.logits, why)


def _detects(structure: Structure) -> bool:
    """Tell whether a network answers with several maps, as detectors do."""
    ranks = [structure.graph.values[head.logits].rank or 0 for head in structure.heads]
    return len(ranks) > 1 and min(ranks) > 2


def _unique(candidates: Iterator[Candidate]) -> Iterator[Candidate]:
    seen: set[tuple[str, str]] = set()
    for candidate in candidates:
        ends = (candidate.teacher, candidate.student)
        if ends not in seen:
            seen.add(ends)
            yield candidate


def _embedding(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the vectors that the classifiers read, the next most common choice after the logits."""
    if teacher.heads and student.heads:
        ends = teacher.heads[0].embedding, student.heads[0].embedding
        yield from _whole(Kind.EMBEDDING, ends, ("the input of the classifier in both",))


def _heads(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair several outputs in order, or where their numbers differ by resolution and channels."""
    left, right = _in_order(teacher), _in_order(student)
    if len(left) == len(right) == 1:
        return
    matched = (
        list(zip(left, right, strict=True))
        if len(left) == len(right)
        else _alike(teacher, left, student, right)
    )
    for ours, theirs in matched:
        places = f"output {ours.index + 1} of {len(left)}", f"{theirs.index + 1} of {len(right)}"
        why = (f"{places[0]} in the teacher, {places[1]} in the student",)
        if len(left) == len(right):
            why = (f"{places[0]} in both",)
        yield Candidate(
            _kind_of_head(teacher, ours, student, theirs), ours.logits, theirs.logits, why
        )


def _kind_of_head(teacher: Structure, ours: Head, student: Structure, theirs: Head) -> Kind:
    """One vector of class scores per sample is logits; a map may be anything."""
    ranks = teacher.graph.values[ours.logits].rank, student.graph.values[theirs.logits].rank
    return Kind.LOGITS if ranks == (2, 2) else Kind.HEAD


def _alike(
    teacher: Structure, left: Sequence[Head], student: Structure, right: Sequence[Head]
) -> Iterator[tuple[Head, Head]]:
    """Take for each student head the first teacher head left with its resolution and channels."""
    spare = list(left)
    for theirs in right:
        ours = next((one for one in spare if _look(teacher, one) == _look(student, theirs)), None)
        if ours is not None:
            spare.remove(ours)
            yield ours, theirs


def _look(structure: Structure, head: Head) -> tuple[object, ...]:
    name = head.logits
    return structure.scales.get(name), structure.channels(name), structure.graph.values[name].rank


def _in_order(structure: Structure) -> Sequence[Head]:
    return sorted(structure.heads, key=lambda head: head.index)


def _stages(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Yield the ends of matched stages from the last to the first.

    Where exactly three match, the middle one comes first: it's where hint losses look (FitNets).
    """
    ordered = _matched(teacher, student)[::-1][:_MOST_STAGES]
    hint = ordered[1] if len(ordered) == 3 else None
    if hint is not None:
        ordered = [hint, ordered[0], ordered[2]]
    for left, right in ordered:
        why = [
            f"end of {in_both(_place(teacher, left), _place(student, right))}",
            f"last of {in_both(_count(left), _count(right))}",
        ]
        if (left, right) == hint:
            why.append("the middle of three, where hint losses look")
        yield Candidate(Kind.STAGE, left.end, right.end, tuple(why))


def _matched(teacher: Structure, student: Structure) -> list[tuple[Stage, Stage]]:
    """Match stages in order: one by one where there are as many, else by resolution.

    Networks for small inputs have as many stages at resolutions that differ by a factor; their
    authors pair by index.
    """
    left, right = _without_stem(teacher), _without_stem(student)
    if len(left) == len(right):
        return list(zip(left, right, strict=True))
    return align(left, right, _Gain(teacher, student))


def _place(structure: Structure, stage: Stage) -> str:
    return f"stage {structure.stages.index(stage) + 1} of {len(structure.stages)}"


def _count(stage: Stage) -> str:
    return f"{len(stage.blocks)} block{'s' * (len(stage.blocks) != 1)}"


def _without_stem(structure: Structure) -> Sequence[Stage]:
    """Leave out a first stage of one block: that is the stem, which nobody pairs."""
    stages = structure.stages
    return stages[1:] if len(stages) > 3 and len(stages[0].blocks) == 1 else stages


@dataclass(frozen=True, slots=True)
class _Gain:
    """What a match of two stages is worth: equal resolution, one more pair, similar depth."""

    teacher: Structure
    student: Structure

    def __call__(self, left: Stage, right: Stage) -> tuple[float, ...]:
        depth = abs(self.teacher.depth(left.end) - self.student.depth(right.end))
        return float(left.scale == right.scale), 1.0, -depth


def _layers(teacher: Encoder, student: Encoder) -> Iterator[Candidate]:
    """Yield hidden states, then attention scores: layer i of the student with i·k of the teacher.

    k is the ratio of their numbers of layers; state 0 is the embeddings (TinyBERT).
    """
    depth, count = len(teacher.scores), len(student.scores)
    for layer in range(count, -1, -1):
        partner = round(layer * depth / count)
        ends = teacher.states[partner], student.states[layer]
        why = (_of_layers("hidden state", partner, depth, layer, count),)
        yield from _whole(Kind.HIDDEN_STATE, ends, why)
    for layer in range(count, 0, -1):
        partner = max(1, round(layer * depth / count))
        ends = teacher.scores[partner - 1], student.scores[layer - 1]
        why = (_of_layers("attention scores", partner, depth, layer, count), "before the softmax")
        yield from _whole(Kind.ATTENTION, ends, why)


def _whole(
    kind: Kind, ends: tuple[str | None, str | None], why: tuple[str, ...]
) -> Iterator[Candidate]:
    """Yield a Candidate where both ends are there."""
    if ends[0] is not None and ends[1] is not None:
        yield Candidate(kind, ends[0], ends[1], why)


def _of_layers(what: str, partner: int, depth: int, layer: int, count: int) -> str:
    if layer == 0:
        return "the embeddings, before the first layer in both"
    return f"{what} of {in_both(f'layer {partner} of {depth}', f'layer {layer} of {count}')}"


def pair_of(rank: int, candidate: Candidate, teacher: Structure, student: Structure) -> Pair:
    """Make a Pair of a Candidate: relation, adapter, loss, all reasons and warnings."""
    sides = Sides(
        kind=candidate.kind,
        teacher=teacher,
        teacher_name=candidate.teacher,
        student=student,
        student_name=candidate.student,
    )
    relation = relation_of(sides)
    return Pair(
        rank=rank,
        score=_score(rank),
        kind=candidate.kind,
        teacher=end_of(teacher.graph, teacher.graph.values[candidate.teacher]),
        student=end_of(student.graph, student.graph.values[candidate.student]),
        relation=relation,
        adapter=adapter_of(sides, relation),
        loss=loss_of(sides, relation),
        why=candidate.why + tuple(reasons(sides)),
        warnings=tuple(warnings(sides, relation)),
    )


def _score(rank: int) -> float:
    return round(1 / (1 + 0.05 * (rank - 1)), 3)


def _remarks(teacher: Structure, student: Structure, pairs: Sequence[Pair]) -> Iterator[Diagnostic]:
    if all(pair.kind in (Kind.LOGITS, Kind.EMBEDDING) for pair in pairs):
        yield problems.nothing_in_common(teacher.graph, student.graph, len(pairs))
    heads = len(teacher.heads), len(student.heads)
    if heads[0] != heads[1] and min(heads) > 0 and max(heads) > 1:
        yield problems.unequal_heads(teacher.graph, student.graph, heads)
