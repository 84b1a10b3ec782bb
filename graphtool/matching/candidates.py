"""Propose pairs as experts choose them: outputs, encoder layers, necks, stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from graphtool.both import Both
from graphtool.diagnostics import counted
from graphtool.graph import dims_agree
from graphtool.matching.pairs import Kind
from graphtool.matching.relations import describe_both
from graphtool.matching.score import Scorer
from graphtool.structure import (
    Encoder,
    Head,
    Neck,
    Role,
    Section,
    Structure,
    Tap,
    block_names,
    blocks_of,
    split_section,
)

__all__ = [
    "Candidate",
    "align",
    "attention_projections",
    "can_pair",
    "candidates",
    "common_pair_kind",
    "pair_kind",
    "unique",
]

_T = TypeVar("_T")

# A pair of sections must fit better than this to count: five pairs at different resolutions are
# worth less than four at equal ones.
_LEAST_FIT = 0.6
_LEAST_OF_A_LONG_STAGE = 4
# The rank of one vector per sample.
_VECTORS = 2
_MAPS = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two Values that may be paired, with the reasons of the rule that found them."""

    kind: Kind
    teacher: str
    student: str
    why: tuple[str, ...]


_KIND_BY_ROLE = {
    Role.LOGITS: Kind.LOGITS,
    Role.EMBEDDING: Kind.EMBEDDING,
    Role.STAGE_END: Kind.STAGE,
    Role.HIDDEN_STATE: Kind.HIDDEN_STATE,
    Role.ATTENTION: Kind.ATTENTION,
}


def pair_kind(structure: Structure, name: str) -> Kind:
    """Return the kind of pair that a Value can be in."""
    kind = _KIND_BY_ROLE.get(structure.role(name))
    if kind is not None:
        return kind
    rank = structure.graph.values[name].rank
    return Kind.HIDDEN_STATE if rank == 3 and structure.encoder is not None else Kind.FEATURE


def common_pair_kind(
    teacher: Structure, teacher_name: str, student: Structure, student_name: str
) -> Kind:
    """Return the kind of two Values where it is the same, else `feature`."""
    kind = pair_kind(teacher, teacher_name)
    return kind if kind is pair_kind(student, student_name) else Kind.FEATURE


def can_pair(teacher: Kind, student: Kind) -> bool:
    """Return whether Values of two kinds can form a pair; a stage end is also a feature map."""
    return teacher is student or {teacher, student} == {Kind.STAGE, Kind.FEATURE}


def candidates(comparison: Scorer) -> tuple[Candidate, ...]:
    """Return the pairs that experts choose, best first, each pair of Values once.

    The order is logits, encoder layers, embedding, necks, stage ends, other Values of the stages.
    Outputs that cannot be compared one to one, such as logits of other classes, come last.
    """
    teacher, student = comparison.teacher, comparison.student
    outputs = tuple(_outputs(teacher, student))
    has_heads = bool(teacher.heads and student.heads)
    # The inputs of the classifiers are the next most common choice after the logits.
    embeddings = [side.heads[0].embedding if has_heads else None for side in (teacher, student)]
    necks = tuple(_necks(comparison))
    # Logits compare one to one where there are equally many classes.
    heads = [
        pair
        for pair in outputs
        if pair.kind is not Kind.LOGITS
        or dims_agree(teacher.channels(pair.teacher), student.channels(pair.student))
    ]
    # One head over the levels of a pyramid is one choice, and its maps are many.
    pyramid = necks if len(necks) > 1 and teacher.has_pyramid and student.has_pyramid else ()
    found = (
        *(pair for pair in heads if not pyramid or pair.kind is not Kind.HEAD),
        *pyramid,
        *heads,
        *_feature_outputs(teacher, student),
        *_encoder_layers(teacher, student),
        *_if_known(Kind.EMBEDDING, *embeddings, why=("the input of the classifier in both",)),
        *necks,
        *_sections(comparison),
        *outputs,
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
    return all(rank is None or rank >= _VECTORS for rank in ranks)


def unique(found: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Keep the first of several Candidates with the same two Values."""
    kept: dict[tuple[str, str], Candidate] = {}
    for candidate in found:
        kept.setdefault((candidate.teacher, candidate.student), candidate)
    return tuple(kept.values())


def attention_projections(comparison: Scorer) -> tuple[Candidate, ...]:
    """Pair the queries, keys and values of the last layers, as MiniLM does."""
    encoders = comparison.teacher.encoder, comparison.student.encoder
    teacher, student = (encoder.projections if encoder else None for encoder in encoders)
    if teacher is None or student is None:
        return ()
    ends = {
        "queries": (teacher.queries, student.queries),
        "keys": (teacher.keys, student.keys),
        "values": (teacher.values, student.values),
    }
    found = (
        Candidate(Kind.ATTENTION, *pair, why=(f"{what} of the last layer in both",))
        for what, pair in ends.items()
    )
    networks = comparison.teacher, comparison.student
    return tuple(pair for pair in found if _is_comparable(*networks, pair))


def _if_known(
    kind: Kind, teacher: str | None, student: str | None, why: tuple[str, ...]
) -> Iterator[Candidate]:
    """Yield a Candidate where both ends exist."""
    if teacher is not None and student is not None:
        yield Candidate(kind, teacher, student, why)


def _outputs(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the outputs: the main logits, or all heads of detectors, then the other outputs.

    Logits gain +1.8 to +2.0 where features give +0.9 to +1.4 (PaddleClas), so they come first.
    """
    if not (_is_detector(teacher) and _is_detector(student)) and teacher.heads and student.heads:
        main = Both(teacher.heads[0], student.heads[0])
        logits = main.teacher.logits, main.student.logits
        if teacher.answers_image and student.answers_image:
            answers = main.teacher.prediction, main.student.prediction
            yield Candidate(Kind.HEAD, *answers, ("the image that both answer",))
        elif all(head.classifies for head in main):
            why = ("the output of the last weighted operator in both",)
            yield Candidate(Kind.LOGITS, *logits, why)
        elif all(head.joins_probabilities for head in main):
            why = ("all answers of both, as probabilities in one Value",)
            yield Candidate(Kind.HEAD, *logits, why)
        elif _is_embedder(teacher) and _is_embedder(student):
            why = ("the vector that both networks end in",)
            yield Candidate(Kind.EMBEDDING, *logits, why)
    yield from _heads(teacher, student)


def _is_detector(structure: Structure) -> bool:
    """Return whether the outputs are several maps or sequences of different things.

    The auxiliary head of a segmenter has as many classes as the main one, at the same resolution.
    """
    heads = structure.heads
    ranks = [structure.graph.values[head.logits].rank or 0 for head in heads]
    kinds = {(structure.scales.get(x.prediction), structure.channels(x.logits)) for x in heads}
    return len(kinds) > 1 and min(ranks) > _VECTORS


def _is_embedder(structure: Structure) -> bool:
    """Return whether the main output is an embedding (faces, sentences), a vector but no logits."""
    head = structure.heads[0]
    return not head.classifies and structure.graph.values[head.logits].rank == _VECTORS


def _feature_outputs(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair the main outputs of two networks without a classifier, if they have equal ranks."""
    if not teacher.heads or not student.heads:
        return
    main = Both(teacher.heads[0], student.heads[0])
    names = main.teacher.logits, main.student.logits
    ranks = teacher.graph.values[names[0]].rank, student.graph.values[names[1]].rank
    if all(map(_ends_a_stage, (teacher, student), names)):
        return
    is_whole = all(len(side.heads) == 1 for side in (teacher, student))
    if is_whole and not any(head.classifies for head in main) and ranks[0] == ranks[1] != _VECTORS:
        yield Candidate(Kind.FEATURE, *names, ("what both networks end in",))


def _ends_a_stage(structure: Structure, name: str) -> bool:
    return any(name == stage.end for stage in structure.stages)


def _heads(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Pair several outputs in order, or by resolution and channels where their order differs.

    It may differ where the networks have different numbers of outputs, or the same outputs in
    another order, or where one fetches nothing; the main outputs are then paired first.
    """
    heads = Both(teacher, student).map(lambda side: sorted(side.heads, key=lambda head: head.index))
    counts = heads.map(len)
    if counts == Both(1, 1):
        return
    returns_features = all(
        _is_map(side, head) for side in (teacher, student) for head in side.heads
    )
    teacher_signatures = [_signature(teacher, head) for head in heads.teacher]
    student_signatures = [_signature(student, head) for head in heads.student]
    is_fetched = bool(teacher.graph.fetches and student.graph.fetches)
    is_same_order = teacher_signatures == student_signatures and is_fetched
    is_same_set = Counter(teacher_signatures) == Counter(student_signatures)
    if counts.teacher != counts.student or (is_same_set and not is_same_order):
        matched = _matched_heads(teacher, student)
    else:
        matched = list(zip(heads.teacher, heads.student, strict=True))
        # Of the maps that two backbones return, those that need no adapter come first.
        if returns_features:
            matched.sort(
                key=lambda pair: _signature(teacher, pair[0]) != _signature(student, pair[1])
            )
    for teacher_head, student_head in matched:
        place = f"output {teacher_head.index + 1} of {counts.teacher}"
        if counts.teacher == counts.student and teacher_head.index == student_head.index:
            why = f"{place} in both"
        else:
            student_place = f"{student_head.index + 1} of {counts.student}"
            why = f"{place} in the teacher, {student_place} in the student"
        ends = teacher_head.logits, student_head.logits
        ranks = teacher.graph.values[ends[0]].rank, student.graph.values[ends[1]].rank
        # One vector of class scores per sample is logits; a map may be anything.
        kind = Kind.LOGITS if ranks == (_VECTORS, _VECTORS) else Kind.HEAD
        if returns_features:
            kind = Kind.FEATURE
        yield Candidate(kind, *ends, (why,))


def _is_map(structure: Structure, head: Head) -> bool:
    """Return whether a head is a feature map that a backbone returns."""
    is_feature = not (head.classifies or head.softmax or head.joins_probabilities)
    return is_feature and structure.graph.values[head.logits].rank == _MAPS


def _matched_heads(teacher: Structure, student: Structure) -> Sequence[tuple[Head, Head]]:
    """Match each student head with the first unmatched teacher head of its resolution and channels.

    The main heads choose first: an auxiliary one may have the same shape. Where the networks have
    several answers of one shape (deep supervision), but not as many, the teacher's best one, its
    last, teaches all of the student's.
    """

    def by_signature(structure: Structure) -> Mapping[tuple[object, ...], Sequence[Head]]:
        groups: dict[tuple[object, ...], list[Head]] = {}
        for head in sorted(
            structure.heads, key=lambda head: (head != structure.heads[0], head.index)
        ):
            groups.setdefault(_signature(structure, head), []).append(head)
        return groups

    teachers = by_signature(teacher)
    matched: list[tuple[Head, Head]] = []
    for signature, heads in by_signature(student).items():
        choices = teachers.get(signature, ())
        # An auxiliary head of one network alone has no partner.
        if len(choices) != len(heads) and min(len(choices), len(heads)) > 1:
            choices = [*choices[:1]] * len(heads)
        matched += zip(choices, heads, strict=False)
    return sorted(matched, key=lambda pair: pair[1].index)


def _signature(structure: Structure, head: Head) -> tuple[object, ...]:
    name = head.logits
    return structure.scales.get(name), structure.channels(name), structure.graph.values[name].rank


def _encoder_layers(teacher: Structure, student: Structure) -> Iterator[Candidate]:
    """Yield hidden states, then attention scores; a decoder and its encoder take turns."""
    if _is_hierarchical(teacher) or _is_hierarchical(student):
        return
    if len(teacher.encoders) != len(student.encoders):
        return
    stacks = [Both(*pair) for pair in zip(teacher.encoders, student.encoders, strict=True)]
    for find in (_hidden_states, _attention_scores):
        rounds = zip_longest(*(find(stack) for stack in stacks))
        yield from (pair for pairs in rounds for pair in pairs if pair is not None)


def _hidden_states(encoders: Both[Encoder]) -> Iterator[Candidate]:
    """Pair layer i of the student with i·k of the teacher.

    k is the ratio of their numbers of layers; state 0 is the embeddings (TinyBERT). Where the
    student has more layers, the roles are exchanged.
    """
    counts = encoders.map(lambda encoder: len(encoder.scores))
    for index in _coarse_to_fine(min(counts)):
        layers = _proportional(index, counts)
        ends = (x.states[layer] for x, layer in zip(encoders, layers, strict=True))
        why = (_layers_text("hidden state", encoders.student.what, layers, counts),)
        yield from _if_known(Kind.HIDDEN_STATE, *ends, why=why)


def _attention_scores(encoders: Both[Encoder]) -> Iterator[Candidate]:
    """Pair the attention scores of the same layers, the last first; then those across."""
    for what, scores in (
        ("attention scores", encoders.map(lambda encoder: encoder.scores)),
        ("cross-attention scores", encoders.map(lambda encoder: encoder.cross_scores)),
    ):
        counts = scores.map(len)
        for index in range(min(counts), 0, -1):
            layers = _proportional(index, counts)
            ends = (names[layer - 1] for names, layer in zip(scores, layers, strict=True))
            text = _layers_text(what, encoders.student.what, layers, counts)
            yield from _if_known(Kind.ATTENTION, *ends, why=(text, "before the softmax"))


def _proportional(index: int, counts: Both[int]) -> Both[int]:
    """Return proportional indices into two sequences; `index` is that of the shorter one."""
    return counts.map(lambda count: round(index * count / min(counts)))


def _is_hierarchical(structure: Structure) -> bool:
    """Return whether the layers have several resolutions, as in Swin and MobileViT.

    Such networks are paired by their stages.
    """
    states = () if structure.encoder is None else structure.encoder.hidden_states
    return len({structure.scales.get(name) for name in states}) > 1


def _coarse_to_fine(count: int) -> Sequence[int]:
    """Order layers so that any first few are spread evenly, then from the last to the first.

    That is the last, the thirds, the middle, the quarters, the first; 0 are the embeddings.
    """
    even = (round(count * part) for part in (1, 2 / 3, 1 / 3, 1 / 2, 3 / 4, 1 / 4))
    return tuple(dict.fromkeys((*even, 1, *range(count, -1, -1))))


def _layers_text(what: str, layer: str, layers: Both[int], counts: Both[int]) -> str:
    if layers.student == 0:
        return f"the embeddings, before the first {layer} in both"
    texts = (f"{layer} {one} of {count}" for one, count in zip(layers, counts, strict=True))
    return f"{what} of {describe_both(*texts)}"


def _necks(comparison: Scorer) -> Iterator[Candidate]:
    """Pair what the heads read: the levels of a pyramid one to one, the finest first."""

    def gain(teacher: Neck, student: Neck) -> float:
        return comparison.fit(teacher.value, student.value) - _LEAST_FIT

    # The last step up is what the head reads.
    if comparison.teacher.decoder and comparison.student.decoder:
        return
    for teacher, student in align(comparison.teacher.necks, comparison.student.necks, gain):
        why = (describe_both(teacher.description, student.description),)
        yield Candidate(Kind.FEATURE, teacher.value, student.value, why)


@dataclass(frozen=True, slots=True)
class _SectionPair:
    """Two matched sections, and their positions as text."""

    teacher: Section
    student: Section
    place: str


def _sections(comparison: Scorer) -> Iterator[Candidate]:
    """Yield the ends of matched sections, then pairs inside the stages.

    Ends go from the last to the first. In networks for small inputs the middle one comes first:
    hint losses (FitNets) compare there.
    """
    teacher, student = comparison.teacher, comparison.student
    matched = _matched_sections(comparison)[::-1]
    teacher_blocks = block_names(teacher.graph, blocks_of(teacher))
    student_blocks = block_names(student.graph, blocks_of(student))
    rising = _aligned(comparison, teacher.decoder, student.decoder)
    if rising:
        rising.insert(0, rising.pop())
    hint_first = comparison.is_small and len(matched) > 2 and not rising
    ordered = list(matched)
    if hint_first:
        ordered.insert(0, ordered.pop(len(ordered) // 2))
    # What the head reads, then from the inside out: experts pair as many stages up as down.
    ordered = [pair for both in zip_longest(rising, ordered) for pair in both if pair is not None]
    for pair in ordered:
        blocks = describe_both(
            _block_counts(pair.teacher, teacher_blocks), _block_counts(pair.student, student_blocks)
        )
        why = [f"end of {pair.place}", f"output of {blocks}"]
        if hint_first and pair is ordered[0]:
            why.append("the middle, where hint losses look")
        yield Candidate(Kind.STAGE, pair.teacher.end, pair.student.end, tuple(why))
        if _is_most(teacher, pair.teacher) and _is_most(student, pair.student):
            yield from _along_stage(teacher, student, pair)
    if matched and not (matched[0].teacher.is_layers or matched[0].student.is_layers):
        yield from _last_convolutions(teacher, student, matched[0])
    for pair in matched:
        # A first stage begins with the stem.
        if pair.teacher != teacher.sections[0] and pair.student != student.sections[0]:
            yield from _inside_stages(teacher, student, pair)


def _is_most(structure: Structure, section: Section) -> bool:
    """Return whether an image comes from a stage of more blocks than all others together."""
    others = sum(len(one.blocks) for one in (*structure.sections, *structure.decoder))
    is_long = len(section.blocks) >= max(_LEAST_OF_A_LONG_STAGE, others - len(section.blocks))
    return is_long and structure.answers_image


def _along_stage(teacher: Structure, student: Structure, pair: _SectionPair) -> Iterator[Candidate]:
    """Pair blocks inside a long run of them, as networks for super-resolution have."""

    def residual_blocks(structure: Structure, section: Section) -> Sequence[str]:
        joins = [name for name in section.blocks if structure.is_join(name)]
        return joins if len(joins) >= _LEAST_OF_A_LONG_STAGE else section.blocks

    blocks = Both(residual_blocks(teacher, pair.teacher), residual_blocks(student, pair.student))
    for part, text in ((2 / 3, "two thirds"), (1 / 3, "a third"), (1 / 2, "half")):
        ends = (names[round(len(names) * part) - 1] for names in blocks)
        yield Candidate(Kind.FEATURE, *ends, why=(f"{text} of the way through {pair.place}",))


def _last_convolutions(
    teacher: Structure, student: Structure, pair: _SectionPair
) -> Iterator[Candidate]:
    """Pair the last convolutions of two stages, as factor transfer and others do."""
    taps = teacher.taps(pair.teacher.end), student.taps(pair.student.end)
    ends = taps[0].get(Tap.LAST_CONVOLUTION), taps[1].get(Tap.LAST_CONVOLUTION)
    normalised = all(Tap.BEFORE_NORM in of_block for of_block in taps)
    why = f"last convolution of {pair.place}{', before its normalisation' if normalised else ''}"
    yield from _if_known(Kind.FEATURE, *ends, (why,))


def _inside_stages(
    teacher: Structure, student: Structure, pair: _SectionPair
) -> Iterator[Candidate]:
    """Pair the first blocks of residual stages, as FSP does; plain convolutions in proportion."""
    blocks = Both(pair.teacher.blocks, pair.student.blocks)
    counts = blocks.map(len)
    if min(counts) < 2 or pair.teacher.is_layers or pair.student.is_layers:
        return
    if any(map(teacher.is_join, blocks.teacher)) or any(map(student.is_join, blocks.student)):
        why = (f"first block of {pair.place}, where the flow of FSP begins",)
        yield Candidate(Kind.FEATURE, blocks.teacher[0], blocks.student[0], why)
        return
    for index in range(min(counts) - 1, 0, -1):
        numbers = _proportional(index, counts)
        ends = blocks.teacher[numbers.teacher - 1], blocks.student[numbers.student - 1]
        in_teacher = f"convolution {numbers.teacher} of {counts.teacher} in the teacher"
        in_student = f"{numbers.student} of {counts.student} in the student"
        yield Candidate(Kind.FEATURE, *ends, (f"{in_teacher}, {in_student}, of {pair.place}",))


def _matched_sections(comparison: Scorer) -> list[_SectionPair]:
    """Match sections in order; a ViT's layers are divided among the stages of the other network."""
    teacher, student = comparison.teacher.sections, comparison.student.sections
    if _is_isotropic(teacher) and _is_isotropic(student):
        return []
    if not (_has_maps(comparison.teacher) and _has_maps(comparison.student)):
        return []
    if _is_isotropic(teacher):
        teacher = split_section(teacher[0], len(student))
    elif _is_isotropic(student):
        student = split_section(student[0], len(teacher))
    return _aligned(comparison, teacher, student)


def _aligned(
    comparison: Scorer, teacher: Sequence[Section], student: Sequence[Section]
) -> list[_SectionPair]:
    def gain(of_teacher: Section, of_student: Section) -> float:
        return comparison.fit(of_teacher.end, of_student.end) - _LEAST_FIT

    def place(sections: Sequence[Section], section: Section) -> str:
        if section.kind == "middle":
            return "the middle"
        what = "step up" if section.kind == "step up" else "stage"
        alike = [one for one in sections if one.kind != "middle"]
        return f"{what} {alike.index(section) + 1} of {len(alike)}"

    return [
        _SectionPair(
            ends[0], ends[1], describe_both(place(teacher, ends[0]), place(student, ends[1]))
        )
        for ends in align(teacher, student, gain)
    ]


def _is_isotropic(sections: Sequence[Section]) -> bool:
    """Return whether a network is one row of equal layers, like ViT and BERT."""
    return len(sections) == 1 and sections[0].is_layers


def _has_maps(structure: Structure) -> bool:
    """Return whether a network is for images: its tokens are positions of a map, not of a text."""
    return bool(structure.sections) and structure.sections[-1].end in structure.scales


def _block_counts(section: Section, names: Mapping[str, str]) -> str:
    """Return the blocks of a section as text, `3 × bottleneck`; of many kinds, only how many."""
    kinds = Counter(names[end] for end in section.blocks)
    if len(kinds) > 2:
        return counted(len(section.blocks), "block")
    return " and ".join(f"{count} × {kind[:1].lower()}{kind[1:]}" for kind, count in kinds.items())


def align(
    teacher: Sequence[_T], student: Sequence[_T], gain: Callable[[_T, _T], float]
) -> list[tuple[_T, _T]]:
    """Match two sequences in order so that the sum of gains is largest.

    Items without a positive gain stay unmatched. Computes len(teacher) · len(student) gains
    (Needleman and Wunsch 1970). Among equal sums the later items match, the student's before the
    teacher's.
    """
    gains = [
        [max(0.0, gain(of_teacher, of_student)) for of_student in student] for of_teacher in teacher
    ]
    # The largest sums of gains over the first `row` and `column` items.
    best = [[0.0] * (len(student) + 1) for _ in range(len(teacher) + 1)]
    for row, line in enumerate(gains, 1):
        for column, here in enumerate(line, 1):
            matched = best[row - 1][column - 1] + here
            best[row][column] = max(best[row - 1][column], best[row][column - 1], matched)
    pairs: list[tuple[_T, _T]] = []
    row, column = len(teacher), len(student)
    while row and column:
        here = gains[row - 1][column - 1]
        if here and best[row][column] == best[row - 1][column - 1] + here:
            row, column = row - 1, column - 1
            pairs.append((teacher[row], student[column]))
        elif best[row][column] == best[row - 1][column]:
            row -= 1
        else:
            column -= 1
    return pairs[::-1]
