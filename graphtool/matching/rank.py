"""Which Values go together, and in what order an expert would list them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from graphtool.diagnostics import Diagnostic, Report
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

__all__ = ["Candidate", "pair_of", "suggest_pairs"]

# Experts publish one to four pairs of maps, beside them the logits and the embedding.
_MOST_PAIRS_OF_MAPS = 8


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
    without it there are at most 8 where the networks have maps, and all layers of transformers.

    Raises ReadError where a source cannot be read. The reasons behind the order are those of
    published configurations (Romero et al. 2015, arXiv 1412.6550, for the middle stage; Jiao et
    al. 2020, arXiv 1909.10351, for the layers of transformers).
    """
    left, right = analyse(read(teacher)), analyse(read(student))
    found = _unique(_candidates(left, right))
    most = (
        limit
        if limit is not None
        else None
        if left.encoder and right.encoder
        else _MOST_PAIRS_OF_MAPS
    )
    pairs = tuple(
        pair_of(rank, candidate, left, right)
        for rank, candidate in enumerate(islice(found, most), 1)
    )
    return PairSet(
        teacher=left.graph,
        student=right.graph,
        pairs=pairs,
        report=Report.of(_remarks(left, right, pairs)),
    )


def _candidates(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Yield all pairs, best first: logits, layers of transformers, embedding, stages."""
    detectors = _detects(teacher) and _detects(student)
    yield from _heads(teacher, student) if detectors else _logits(teacher, student)
    if teacher.encoder is not None and student.encoder is not None:
        yield from _layers(teacher.encoder, student.encoder)
    yield from _embedding(teacher, student)
    yield from _stages(teacher, student)
    yield from _heads(teacher, student)


def _detects(structure: Structure) -> bool:
    """Tell whether a network answers with several maps, as detectors do."""
    shapes = [structure.graph.values[head.logits].shape or () for head in structure.heads]
    return len(shapes) > 1 and all(len(shape) > 2 for shape in shapes)


def _unique(candidates: Iterator[Candidate]) -> Iterator[Candidate]:
    seen: set[tuple[str, str]] = set()
    for candidate in candidates:
        ends = (candidate.teacher, candidate.student)
        if ends not in seen:
            seen.add(ends)
            yield candidate


def _logits(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the logits first: +1.8 to +2.0 where features give +0.9 to +1.4 (PaddleClas)."""
    if teacher.heads and student.heads:
        why = ("the output of the last weighted operator in both",)
        yield Candidate(Kind.LOGITS, teacher.heads[0].logits, student.heads[0].logits, why)


def _embedding(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the vectors that the classifiers read, the next most common choice after the logits."""
    if teacher.heads and student.heads:
        ends = teacher.heads[0].embedding, student.heads[0].embedding
        yield from _whole(Kind.EMBEDDING, ends, ("the input of the classifier in both",))


def _heads(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the outputs in order where both networks have as many."""
    if len(teacher.heads) != len(student.heads):
        return
    left, right = _in_order(teacher), _in_order(student)
    for index, (ours, theirs) in enumerate(zip(left, right, strict=True), 1):
        why = (f"output {index} of {len(left)} in both",)
        yield Candidate(Kind.HEAD, ours.logits, theirs.logits, why)


def _in_order(structure: Structure) -> Sequence[Head]:
    return sorted(structure.heads, key=lambda head: head.index)


def _stages(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Yield the ends of matched stages from the last to the first.

    Where exactly three match, the middle one comes first: it's where hint losses look (FitNets).
    """
    matched = align(_without_stem(teacher), _without_stem(student), _Gain(teacher, student))
    ordered = matched[::-1]
    if len(ordered) == 3:
        ordered = [ordered[1], ordered[0], ordered[2]]
    for left, right in ordered:
        why = (
            f"end of {in_both(_place(teacher, left), _place(student, right))}",
            f"last of {in_both(_count(left), _count(right))}",
        )
        yield Candidate(Kind.STAGE, left.end, right.end, why)


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
    """What a match of two stages is worth: one more pair, equal resolution, similar depth."""

    teacher: Structure
    student: Structure

    def __call__(self, left: Stage, right: Stage) -> tuple[float, ...]:
        depth = abs(self.teacher.depth(left.end) - self.student.depth(right.end))
        return 1.0, float(left.scale == right.scale), -depth


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
        loss=loss_of(sides),
        why=candidate.why + tuple(reasons(sides)),
        warnings=tuple(warnings(sides, relation)),
    )


def _score(rank: int) -> float:
    return round(1 / (1 + 0.05 * (rank - 1)), 3)


def _remarks(teacher: Structure, student: Structure, pairs: Sequence[Pair]) -> Iterator[Diagnostic]:
    if not any(pair.kind is not Kind.LOGITS for pair in pairs):
        yield problems.nothing_in_common(teacher.graph, student.graph, len(pairs))
