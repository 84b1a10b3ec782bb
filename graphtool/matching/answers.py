"""What two networks answer: their outputs, and the vectors that classifiers read."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from graphtool.graph import dims_agree
from graphtool.matching.candidate import Candidate, whole
from graphtool.matching.pairs import Kind
from graphtool.structure import Head, Structure

__all__ = ["comparable", "embedding", "endings", "outputs"]

# The rank of one vector for each sample.
_VECTORS = 2


def comparable(teacher: Structure, student: Structure, pair: Candidate) -> bool:
    """Tell whether two answers compare one to one: logits of equally many classes."""
    if pair.kind is not Kind.LOGITS:
        return True
    return dims_agree(teacher.channels(pair.teacher), student.channels(pair.student))


def outputs(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the answers: the main logits, or all heads of detectors, then what else there is.

    Logits gain +1.8 to +2.0 where features give +0.9 to +1.4 (PaddleClas), so they come first.
    """
    if not (_detects(teacher) and _detects(student)) and teacher.heads and student.heads:
        left, right = teacher.heads[0], student.heads[0]
        if left.classifies and right.classifies:
            why = ("the output of the last weighted operator in both",)
            yield Candidate(Kind.LOGITS, left.logits, right.logits, why)
        elif left.joined and right.joined:
            why = ("all answers of both, as probabilities in one Value",)
            yield Candidate(Kind.HEAD, left.logits, right.logits, why)
        elif _end_in_vectors(teacher, student):
            why = ("the vector that both networks end in",)
            yield Candidate(Kind.EMBEDDING, left.logits, right.logits, why)
    yield from _heads(teacher, student)


def _end_in_vectors(teacher: Structure, student: Structure) -> bool:
    """Tell networks that embed (faces, sentences): what they answer are features."""
    return not any(
        side.heads[0].classifies or side.graph.values[side.heads[0].logits].rank != _VECTORS
        for side in (teacher, student)
    )


def endings(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair what two networks without a classifier end in, if it has as many axes."""
    if not teacher.heads or not student.heads:
        return
    left, right = teacher.heads[0], student.heads[0]
    ranks = teacher.graph.values[left.logits].rank, student.graph.values[right.logits].rank
    if not left.classifies and not right.classifies and ranks[0] == ranks[1]:
        why = ("what both networks end in",)
        yield Candidate(Kind.FEATURE, left.logits, right.logits, why)


def _detects(structure: Structure) -> bool:
    """Tell whether a network answers with several maps or sequences of different things.

    An auxiliary head of a segmenter answers with as many classes at the same resolution.
    """
    heads = structure.heads
    ranks = [structure.graph.values[head.logits].rank or 0 for head in heads]
    kinds = {(structure.scales.get(x.answer), structure.channels(x.logits)) for x in heads}
    return len(kinds) > 1 and min(ranks) > 2


def embedding(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the vectors that the classifiers read, the next most common choice after the logits."""
    if teacher.heads and student.heads:
        ends = teacher.heads[0].embedding, student.heads[0].embedding
        yield from whole(Kind.EMBEDDING, ends, ("the input of the classifier in both",))


def _heads(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair several outputs in order, or by resolution and channels where those say otherwise.

    That is where their numbers differ, where both have the same ones in another order, and where
    one fetches nothing, so that its outputs have no order: the main ones are paired first then.
    """
    left, right = _in_order(teacher), _in_order(student)
    if len(left) == len(right) == 1:
        return
    looks = [_look(teacher, head) for head in left], [_look(student, head) for head in right]
    are_in_order = looks[0] == looks[1] and teacher.graph.fetches and student.graph.fetches
    are_same = Counter(looks[0]) == Counter(looks[1])
    matched = (
        _alike(teacher, left, student, right)
        if len(left) != len(right) or (are_same and not are_in_order)
        else list(zip(left, right, strict=True))
    )
    for ours, theirs in matched:
        places = f"output {ours.index + 1} of {len(left)}", f"{theirs.index + 1} of {len(right)}"
        why = (f"{places[0]} in the teacher, {places[1]} in the student",)
        if len(left) == len(right) and ours.index == theirs.index:
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
) -> Sequence[tuple[Head, Head]]:
    """Take for each student head the first teacher head left with its resolution and channels.

    The main heads choose first: an auxiliary one may look the same.
    """
    spare: dict[tuple[object, ...], deque[Head]] = {}
    for ours in sorted(left, key=lambda head: head != teacher.heads[0]):
        spare.setdefault(_look(teacher, ours), deque()).append(ours)
    found: list[tuple[Head, Head]] = []
    for theirs in sorted(right, key=lambda head: head != student.heads[0]):
        queue = spare.get(_look(student, theirs))
        if queue:
            found.append((queue.popleft(), theirs))
    return sorted(found, key=lambda pair: pair[1].index)


def _look(structure: Structure, head: Head) -> tuple[object, ...]:
    name = head.logits
    return structure.scales.get(name), structure.channels(name), structure.graph.values[name].rank


def _in_order(structure: Structure) -> Sequence[Head]:
    return sorted(structure.heads, key=lambda head: head.index)
