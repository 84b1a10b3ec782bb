"""What may go together: outputs, layers, necks, stages, and the reason for each pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphtool.diagnostics import counted
from graphtool.matching.align import align
from graphtool.matching.answers import comparable, embedding, endings, outputs
from graphtool.matching.candidate import Candidate, whole
from graphtool.matching.pairs import Kind
from graphtool.matching.relations import in_both
from graphtool.matching.score import Comparison
from graphtool.structure import (
    Neck,
    Section,
    Structure,
    Tap,
    block_names,
    blocks_of,
    divided,
)

__all__ = ["candidates", "relations", "unique"]

# A pair of sections has to fit better than this to be worth more than none: five pairs at other
# resolutions are worth less than four at equal ones.
_LEAST_FIT = 0.6


def candidates(comparison: Comparison) -> tuple[Candidate, ...]:
    """Return what experts pair, best first, each pair of Values once.

    Logits, layers of transformers, embedding, necks, ends of stages, other places in the stages.
    What cannot be compared one to one, as logits of other classes, comes last.
    """
    teacher, student = comparison.teacher, comparison.student
    answers = tuple(outputs(teacher, student))
    found = (
        *(pair for pair in answers if comparable(teacher, student, pair)),
        *_layers(teacher, student),
        *embedding(teacher, student),
        *_necks(comparison),
        *_sections(comparison),
        *answers,
        *endings(teacher, student),
    )
    return unique(pair for pair in found if _is_comparable(teacher, student, pair))


def _is_comparable(teacher: Structure, student: Structure, pair: Candidate) -> bool:
    """Return whether a loss compares Values of these ranks.

    None compares scalars, one per batch or per sample, as losses are, nor attention whose heads
    are part of the batch: [N × heads, L, L] in Bloom.
    """
    ranks = teacher.graph.values[pair.teacher].rank, student.graph.values[pair.student].rank
    if pair.kind is Kind.ATTENTION:
        return all(rank in (None, 4) for rank in ranks)
    return all(rank is None or rank >= 2 for rank in ranks)


def unique(found: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Keep the first of several Candidates with the same two Values."""
    kept: dict[tuple[str, str], Candidate] = {}
    for candidate in found:
        kept.setdefault((candidate.teacher, candidate.student), candidate)
    return tuple(kept.values())


def relations(comparison: Comparison) -> tuple[Candidate, ...]:
    """Return what the last layers' attentions multiply: MiniLM compares how tokens relate there."""
    left, right = comparison.teacher.encoder, comparison.student.encoder
    if not (left and right and left.projections and right.projections):
        return ()
    ours, theirs = left.projections, right.projections
    ends = {
        "queries": (ours.queries, theirs.queries),
        "keys": (ours.keys, theirs.keys),
        "values": (ours.values, theirs.values),
    }
    found = (
        Candidate(Kind.ATTENTION, *pair, why=(f"{what} of the last layer in both",))
        for what, pair in ends.items()
    )
    teacher, student = comparison.teacher, comparison.student
    return tuple(pair for pair in found if _is_comparable(teacher, student, pair))


def _necks(comparison: Comparison) -> Iterator[Candidate]:
    """Pair what the heads read: the levels of a pyramid one to one, from the coarsest up."""
    left, right = comparison.teacher.necks, comparison.student.necks

    def gain(ours: Neck, theirs: Neck) -> float:
        return comparison.fit(ours.value, theirs.value) - _LEAST_FIT

    for ours, theirs in align(left, right, gain):
        why = (in_both(ours.what, theirs.what),)
        yield Candidate(Kind.FEATURE, ours.value, theirs.value, why)


@dataclass(frozen=True, slots=True)
class _Match:
    """Two sections that go together, each with its place in words."""

    left: Section
    right: Section
    place: str


def _sections(comparison: Comparison) -> Iterator[Candidate]:
    """Yield the ends of matched sections, then what else is paired inside the stages.

    Ends go from the last to the first. In networks for small inputs the middle comes first: it's
    where hint losses look (FitNets).
    """
    teacher, student = comparison.teacher, comparison.student
    matched = _matched(comparison)[::-1]
    names = [block_names(side.graph, blocks_of(side)) for side in (teacher, student)]
    ordered = list(matched)
    small = comparison.is_small and len(matched) > 2
    if small:
        ordered.insert(0, ordered.pop(len(ordered) // 2))
    for match in ordered:
        why = [
            f"end of {match.place}",
            f"output of {in_both(*map(_made_of, (match.left, match.right), names))}",
        ]
        if small and match is ordered[0]:
            why.append("the middle, where hint losses look")
        yield Candidate(Kind.STAGE, match.left.end, match.right.end, tuple(why))
    if matched and not (matched[0].left.is_layers or matched[0].right.is_layers):
        yield from _last_convolution(teacher, student, matched[0])
    for match in matched:
        if match.left != teacher.sections[0] and match.right != student.sections[0]:
            yield from _inside(teacher, student, match)


def _last_convolution(teacher: Structure, student: Structure, match: _Match) -> Iterator[Candidate]:
    """Pair the last convolutions of the last stage, as factor transfer and others take it."""
    taps = teacher.taps(match.left.end), student.taps(match.right.end)
    ours, theirs = (found.get(Tap.LAST_CONVOLUTION) for found in taps)
    normalised = all(Tap.BEFORE_NORM in found for found in taps)
    why = f"last convolution of {match.place}{', before its normalisation' if normalised else ''}"
    yield from whole(Kind.FEATURE, (ours, theirs), (why,))


def _inside(teacher: Structure, student: Structure, match: _Match) -> Iterator[Candidate]:
    """Pair where residual stages begin, which FSP takes; plain convolutions in proportion.

    Not in a first stage: what it begins with is the stem.
    """
    left, right = match.left.blocks, match.right.blocks
    if min(len(left), len(right)) < 2 or match.left.is_layers or match.right.is_layers:
        return
    if any(map(teacher.joins, left)) or any(map(student.joins, right)):
        why = (f"first block of {match.place}, where the flow of FSP begins",)
        yield Candidate(Kind.FEATURE, left[0], right[0], why)
        return
    for index in range(min(len(left), len(right)) - 1, 0, -1):
        ours, theirs = _spread(index, len(left), len(right))
        places = f"convolution {ours} of {len(left)}", f"{theirs} of {len(right)}"
        why = (f"{places[0]} in the teacher, {places[1]} in the student, of {match.place}",)
        yield Candidate(Kind.FEATURE, left[ours - 1], right[theirs - 1], why)


def _matched(comparison: Comparison) -> list[_Match]:
    """Match sections in order; the layers of a ViT are divided among the stages of the other."""
    left, right = comparison.teacher.sections, comparison.student.sections
    if _are_layers(left) and _are_layers(right):
        return []
    if not (_sees_maps(comparison.teacher) and _sees_maps(comparison.student)):
        return []
    if _are_layers(left):
        left = divided(left[0], len(right))
    elif _are_layers(right):
        right = divided(right[0], len(left))

    def gain(ours: Section, theirs: Section) -> float:
        return comparison.fit(ours.end, theirs.end) - _LEAST_FIT

    return [
        _Match(ours, theirs, in_both(_place(left, ours), _place(right, theirs)))
        for ours, theirs in align(left, right, gain)
    ]


def _are_layers(sections: Sequence[Section]) -> bool:
    """Tell a ViT or BERT, all of whose layers are alike."""
    return len(sections) == 1 and sections[0].is_layers


def _sees_maps(structure: Structure) -> bool:
    """Tell a network for images, whose tokens are places of a map, from one for text."""
    return bool(structure.sections) and structure.sections[-1].end in structure.scales


def _place(sections: Sequence[Section], section: Section) -> str:
    return f"stage {sections.index(section) + 1} of {len(sections)}"


def _made_of(section: Section, names: Mapping[str, str]) -> str:
    """Say which blocks a section has, `3 × bottleneck`; only how many if of many kinds."""
    kinds = Counter(names[end] for end in section.blocks)
    if len(kinds) > 2:
        return counted(len(section.blocks), "block")
    return " and ".join(f"{count} × {kind[:1].lower()}{kind[1:]}" for kind, count in kinds.items())


def _layers(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Yield hidden states, then attention scores: layer i of the student with i·k of the teacher.

    k is the ratio of their numbers of layers; state 0 is the embeddings (TinyBERT). Where the
    student has more of them it's the other way round.
    """
    left, right = teacher.encoder, student.encoder
    if left is None or right is None or _is_staged(teacher) or _is_staged(student):
        return
    depth, count = len(left.scores), len(right.scores)
    for layer in _coarse_first(min(depth, count)):
        ours, theirs = _spread(layer, depth, count)
        why = (_of_layers("hidden state", ours, depth, theirs, count),)
        yield from whole(Kind.HIDDEN_STATE, (left.states[ours], right.states[theirs]), why)
    for layer in range(min(depth, count), 0, -1):
        ours, theirs = _spread(layer, depth, count)
        ends = left.scores[ours - 1], right.scores[theirs - 1]
        why = (_of_layers("attention scores", ours, depth, theirs, count), "before the softmax")
        yield from whole(Kind.ATTENTION, ends, why)


def _spread(layer: int, depth: int, count: int) -> tuple[int, int]:
    """Return which of `depth` and of `count` in a row go together, for each of the fewer."""
    fewer = min(depth, count)
    return round(layer * depth / fewer), round(layer * count / fewer)


def _is_staged(structure: Structure) -> bool:
    """Tell a Swin, whose layers come in stages, and which is paired by those."""
    return len(structure.sections) > 1 and all(x.is_layers for x in structure.sections)


def _coarse_first(count: int) -> Sequence[int]:
    """Order layers so that the first few of them lie evenly: the last, the middle, the quarters."""
    even = (round(count * part) for part in (1, 1 / 2, 3 / 4, 1 / 4))
    return tuple(dict.fromkeys((*even, *range(count, -1, -1))))


def _of_layers(what: str, partner: int, depth: int, layer: int, count: int) -> str:
    if layer == 0:
        return "the embeddings, before the first layer in both"
    return f"{what} of {in_both(f'layer {partner} of {depth}', f'layer {layer} of {count}')}"
