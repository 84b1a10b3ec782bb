"""Compare the shapes of a pair: their relation, the adapter and loss that follow, and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from graphtool.both import Both
from graphtool.graph import UNKNOWN_DIM, Shape, dims_agree
from graphtool.loss_specs import named_losses
from graphtool.matching.pairs import Kind, Pair, Relation
from graphtool.ops import ends_in_activation
from graphtool.structure import Role, Scale, Structure

__all__ = [
    "LOSS_OF_SIGMOID_SCORES",
    "AnalysedPair",
    "adapter_for",
    "adapter_of",
    "can_compare",
    "describe_both",
    "loss_of",
    "reasons",
    "relation_of",
    "warnings",
]

# A softmax over scores that a sigmoid normalises one by one means nothing.
LOSS_OF_SIGMOID_SCORES = "l2"
# Compares how similar the samples of a batch are in each network (Tung and Mori 2019).
_LOSS_OF_ANY_SHAPES = "similarity"
# Can split the width into other heads.
_LOSS_OF_PROJECTIONS = "attention_relation"
_LOSSES = {
    Kind.LOGITS: "soft_label",
    Kind.HEAD: "l2",
    Kind.EMBEDDING: "l2",
    Kind.STAGE: "l2",
    Kind.FEATURE: "l2",
    Kind.HIDDEN_STATE: "hidden_state",
    Kind.ATTENTION: "attention_scores",
}
_NOT_ONE_TO_ONE = frozenset({Relation.CLASSES, Relation.HEADS, Relation.SEQUENCE, Relation.TOKENS})
# What the channels of a kind are called; of other kinds, channels.
_CHANNEL_WORDS = {Kind.LOGITS: ("class", "classes"), Kind.ATTENTION: ("head", "heads")}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysedPair:
    """Two Values that may be paired, each with the analysis of its network."""

    kind: Kind
    teacher: Structure
    teacher_name: str
    student: Structure
    student_name: str

    @property
    def ends(self) -> Both[tuple[Structure, str]]:
        """Each network with the name of its Value."""
        return Both((self.teacher, self.teacher_name), (self.student, self.student_name))

    @property
    def shapes(self) -> Both[Shape]:
        """The shapes; a Value without one counts as rank 0."""
        return self.ends.map(lambda end: end[0].graph.values[end[1]].shape or ())

    @property
    def channels(self) -> Both[int]:
        """The channels of maps, the heads of attentions, the width of sequences and vectors."""
        shapes = self.shapes
        if self.kind is Kind.ATTENTION and all(len(shape) == 4 for shape in shapes):
            return shapes.map(lambda shape: shape[1])
        return self.ends.map(lambda end: end[0].channels(end[1]))

    @property
    def scales(self) -> Both[Scale | None]:
        """The resolutions relative to the input, None for Values that are not maps."""
        return self.ends.map(lambda end: end[0].scales.get(end[1]))

    @property
    def sizes(self) -> Both[tuple[int, int] | None]:
        """H × W of each map, None where it is unknown."""
        return self.ends.map(lambda end: end[0].sides(end[1]))

    @property
    def is_signal(self) -> bool:
        """Return whether both are the maps of 1-D convolutions, [N, C, L]."""
        shapes = self.shapes
        return all(
            len(shape) == 3 and structure.channel_axes.get(name) == 1
            for shape, (structure, name) in zip(shapes, self.ends, strict=True)
        )

    @property
    def is_projections(self) -> bool:
        """Return whether the Values are queries, keys or values, not attention scores."""
        role = self.teacher.role(self.teacher_name)
        return self.kind is Kind.ATTENTION and role is not Role.ATTENTION


def describe_both(teacher: str, student: str) -> str:
    """Describe both networks in one phrase, `4 heads in both`."""
    if teacher == student:
        return f"{teacher} in both"
    return f"{teacher} in the teacher, {student} in the student"


def relation_of(pair: AnalysedPair) -> Relation:
    """Compare two shapes, without the batch."""
    teacher, student = pair.shapes
    if not teacher or not student:
        return Relation.UNKNOWN
    if pair.kind is Kind.LOGITS:
        classes = _relation_of_dims(pair.channels, Relation.CLASSES)
        if classes is not Relation.EQUAL:
            return classes
    if pair.kind is Kind.ATTENTION:
        return _relation_of_attention(pair)
    ranks = len(teacher), len(student)
    if pair.kind is not Kind.EMBEDDING:
        if ranks == (4, 4):
            return _relation_of_maps(pair)
        if ranks[0] != ranks[1]:
            return Relation.TOKENS if set(ranks) == {3, 4} else Relation.SEQUENCE
    lengths = [shape[2 if pair.is_signal else 1] for shape in (teacher, student) if len(shape) == 3]
    if len(lengths) == 2 and not dims_agree(*lengths):
        return Relation.SEQUENCE
    return _relation_of_dims(pair.channels, Relation.CHANNELS)


def _relation_of_dims(dims: Both[int], otherwise: Relation) -> Relation:
    if UNKNOWN_DIM in dims:
        return Relation.UNKNOWN
    return Relation.EQUAL if dims.teacher == dims.student else otherwise


def _relation_of_attention(pair: AnalysedPair) -> Relation:
    """Compare scores [N, heads, L, L], or projections [N, heads, L, D]."""
    teacher, student = pair.shapes
    if len(teacher) != 4 or len(student) != 4:
        return Relation.UNKNOWN
    if pair.is_projections:
        if not dims_agree(teacher[2], student[2]):
            return Relation.SEQUENCE
        if not dims_agree(teacher[1], student[1]):
            return Relation.HEADS
        return Relation.EQUAL if dims_agree(teacher[3], student[3]) else Relation.CHANNELS
    if not dims_agree(teacher[1], student[1]):
        return Relation.HEADS
    is_equal = all(map(dims_agree, teacher[2:], student[2:]))
    return Relation.EQUAL if is_equal else Relation.SEQUENCE


def _relation_of_maps(pair: AnalysedPair) -> Relation:
    """Compare C and H × W; where H × W is unknown, the resolution relative to the input decides."""
    channels, sizes = pair.channels, pair.sizes
    compared = pair.scales if None in sizes else sizes
    if UNKNOWN_DIM in channels or None in compared:
        return Relation.UNKNOWN
    same_channels = channels.teacher == channels.student
    if compared.teacher == compared.student:
        return Relation.EQUAL if same_channels else Relation.CHANNELS
    return Relation.SPATIAL if same_channels else Relation.CHANNELS_SPATIAL


def adapter_of(pair: AnalysedPair, relation: Relation) -> str | None:
    """Return the adapter that the student needs before a loss can compare element by element."""
    if pair.kind is Kind.ATTENTION:
        return None
    teacher, student = pair.channels
    convolution = f"conv1x1({student}->{teacher})"
    if relation is Relation.CHANNELS and not pair.is_signal:
        is_map = len(pair.shapes.student) == 4 and pair.kind is not Kind.EMBEDDING
        return convolution if is_map else f"linear({student}->{teacher})"
    if relation is Relation.SPATIAL:
        return "resize"
    if relation is Relation.CHANNELS_SPATIAL:
        return f"{convolution}+resize"
    return None


def adapter_for(pair: Pair, loss: str) -> str | None:
    """Return the part of a pair's adapter that a loss needs.

    A loss that takes any channels needs no change of channels. One that takes any two shapes needs
    no adapter, one that takes equal ranks may still need a resize.
    """
    if pair.adapter is None:
        return None
    known = named_losses()[loss]
    if not known.needs_no_adapter:
        return pair.adapter
    return "resize" if known.takes.equal_ranks and "resize" in pair.adapter else None


def loss_of(pair: AnalysedPair, relation: Relation) -> str:
    """Return the loss for the kind of the pair, or one that can compare such shapes at all."""
    # There is no adapter of channels for [N, C, L].
    if relation in _NOT_ONE_TO_ONE or (relation is Relation.CHANNELS and pair.is_signal):
        return _LOSS_OF_ANY_SHAPES
    if pair.kind is Kind.LOGITS and _has_sigmoid_scores(pair):
        return LOSS_OF_SIGMOID_SCORES
    return _LOSS_OF_PROJECTIONS if pair.is_projections else _LOSSES[pair.kind]


def can_compare(loss: str, relation: Relation) -> bool:
    """Return whether a loss can compare shapes of a relation, once the pair's adapter is built."""
    if loss == _LOSS_OF_ANY_SHAPES or relation not in _NOT_ONE_TO_ONE:
        return True
    return loss == _LOSS_OF_PROJECTIONS and relation is Relation.HEADS


def _has_sigmoid_scores(pair: AnalysedPair) -> bool:
    """Return whether a sigmoid normalises the scores, as in text maps; a softmax of one is 1."""
    kinds = (
        structure.graph.operators[head.softmax].kind
        for structure, name in pair.ends
        if (head := structure.head_of(name)) is not None and head.softmax is not None
    )
    return 1 in pair.channels or "sigmoid" in kinds


def reasons(pair: AnalysedPair) -> Iterator[str]:
    """Yield the reasons that hold for any kind of pair: resolution, channels and depth."""
    scales, sizes, channels = pair.scales, pair.sizes, pair.channels
    is_map = pair.kind in (Kind.STAGE, Kind.FEATURE)
    if is_map and scales.teacher is not None and scales.teacher == scales.student:
        if sizes.teacher and sizes.teacher == sizes.student:
            yield f"both {sizes.teacher[0]}×{sizes.teacher[1]}"
        else:
            yield f"both at {scales.teacher} of the input"
    if channels.teacher == channels.student != UNKNOWN_DIM:
        singular, plural = _CHANNEL_WORDS.get(pair.kind, ("channel", "channels"))
        yield f"both {channels.teacher} {singular if channels.teacher == 1 else plural}"
    for role, (structure, name) in zip(("teacher", "student"), pair.ends, strict=True):
        head = structure.head_of(name)
        if head is not None and head.softmax is not None:
            # Losses take the logits.
            yield f"before the {role}'s output `{head.output}` becomes probabilities"
    if pair.kind is not Kind.LOGITS:
        depths = pair.ends.map(lambda end: end[0].depth(end[1]))
        yield describe_both(f"{depths.teacher:.0%} deep", f"{depths.student:.0%} deep")


def warnings(pair: AnalysedPair, relation: Relation) -> Iterator[str]:
    """Yield what can go wrong with a pair, differences of shape first."""
    teacher, student = pair.channels
    if relation is Relation.CLASSES:
        yield f"{teacher} against {student} classes: the logits cannot be compared one to one"
    if relation in (Relation.SPATIAL, Relation.CHANNELS_SPATIAL):
        yield "the resolutions differ: such pairs can hurt, compare with training on logits alone"
    if relation is Relation.HEADS and pair.is_projections:
        option = f'options={{"{_LOSS_OF_PROJECTIONS}": {{"heads": {gcd(teacher, student)}}}}}'
        yield f"{teacher} against {student} heads: split both anew, distill_loss(..., {option})"
    elif relation is Relation.HEADS:
        yield "the numbers of heads differ: scores cannot be compared one to one"
    if relation in (Relation.SEQUENCE, Relation.TOKENS):
        yield "the lengths differ: Values cannot be compared one to one"
    scales = pair.scales
    is_known = pair.sizes.teacher is not None
    if relation is Relation.EQUAL and is_known and scales.teacher != scales.student:
        # The inputs have different sizes.
        where = f"{scales.teacher} of the input in the teacher, {scales.student} in the student"
        yield f"the shapes are equal by coincidence: {where}"
    for role, (structure, name) in zip(("teacher", "student"), pair.ends, strict=True):
        operator = structure.graph.producer(name)
        if operator is not None and ends_in_activation(operator):
            # Nothing can be taken before the activation.
            yield f"the {role}'s comes from a fused `{operator.type}`: it has no other taps"
    if relation is Relation.UNKNOWN:
        yield "dims that decide are not known: read the models with the size of their input"
