"""Say how two shapes differ, what follows for adapter and loss, and what can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from graphtool.graph import UNKNOWN, Shape, dims_agree
from graphtool.matching.pairs import Kind, Relation
from graphtool.structure import Role, Structure, ends_in_activation

__all__ = [
    "LOSS_OF_INDEPENDENT",
    "Sides",
    "adapter_of",
    "can_compare",
    "in_both",
    "loss_of",
    "reasons",
    "relation_of",
    "warnings",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Two Values that may be paired, each with the analysis of its network."""

    kind: Kind
    teacher: Structure
    teacher_name: str
    student: Structure
    student_name: str

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        """Both shapes; a Value without one counts as rank 0."""
        teacher = self.teacher.graph.values[self.teacher_name].shape
        student = self.student.graph.values[self.student_name].shape
        return teacher or (), student or ()

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of both maps, heads of attentions, the width of sequences and vectors."""
        if self.kind is Kind.ATTENTION and all(len(shape) == 4 for shape in self.shapes):
            return self.shapes[0][1], self.shapes[1][1]
        return self.teacher.channels(self.teacher_name), self.student.channels(self.student_name)


def in_both(teacher: str, student: str) -> str:
    """Say something of each network, once where it is the same."""
    if teacher == student:
        return f"{teacher} in both"
    return f"{teacher} in the teacher, {student} in the student"


def relation_of(sides: Sides) -> Relation:
    """Compare two shapes, the batch left out."""
    a, b = sides.shapes
    if not a or not b:
        return Relation.UNKNOWN
    if sides.kind is Kind.LOGITS:
        classes = _by_dims(sides.channels, Relation.CLASSES)
        if classes is not Relation.EQUAL:
            return classes
    if sides.kind is Kind.ATTENTION:
        return _of_projections(a, b) if _are_projections(sides) else _of_attention(a, b)
    if len(a) == len(b) == 4 and sides.kind is not Kind.EMBEDDING:
        return _of_maps(sides)
    if sides.kind is not Kind.EMBEDDING and len(a) != len(b):
        return Relation.TOKENS if {len(a), len(b)} == {3, 4} else Relation.SEQUENCE
    if len(a) == len(b) == 3 and not dims_agree(a[1], b[1]):
        return Relation.SEQUENCE
    return _by_dims(sides.channels, Relation.CHANNELS)


def _by_dims(dims: tuple[int, int], otherwise: Relation) -> Relation:
    if UNKNOWN in dims:
        return Relation.UNKNOWN
    return Relation.EQUAL if dims[0] == dims[1] else otherwise


def _of_attention(a: Shape, b: Shape) -> Relation:
    if len(a) != 4 or len(b) != 4:
        return Relation.UNKNOWN
    if not dims_agree(a[1], b[1]):
        return Relation.HEADS
    return Relation.EQUAL if all(map(dims_agree, a[2:], b[2:])) else Relation.SEQUENCE


def _of_projections(a: Shape, b: Shape) -> Relation:
    """Compare [N, heads, L, D]; relations between tokens have no width."""
    if len(a) != 4 or len(b) != 4:
        return Relation.UNKNOWN
    if not dims_agree(a[2], b[2]):
        return Relation.SEQUENCE
    if not dims_agree(a[1], b[1]):
        return Relation.HEADS
    return Relation.EQUAL if dims_agree(a[3], b[3]) else Relation.CHANNELS


def _of_maps(sides: Sides) -> Relation:
    if UNKNOWN in sides.channels:
        return Relation.UNKNOWN
    same_channels = sides.channels[0] == sides.channels[1]
    same_places = _same_places(sides)
    if same_places is None:
        return Relation.UNKNOWN
    if same_places:
        return Relation.EQUAL if same_channels else Relation.CHANNELS
    return Relation.SPATIAL if same_channels else Relation.CHANNELS_SPATIAL


def _same_places(sides: Sides) -> bool | None:
    """Compare H × W; where they are unknown, the resolution relative to the input decides."""
    a = sides.teacher.sides(sides.teacher_name)
    b = sides.student.sides(sides.student_name)
    if a is not None and b is not None:
        return a == b
    scales = (
        sides.teacher.scales.get(sides.teacher_name),
        sides.student.scales.get(sides.student_name),
    )
    return None if None in scales else scales[0] == scales[1]


def adapter_of(sides: Sides, relation: Relation) -> str | None:
    """Name what the student's side needs before a loss can compare the two element by element."""
    if sides.kind is Kind.ATTENTION:
        return None
    teacher, student = sides.channels
    convolve = f"conv1x1({student}->{teacher})"
    if relation is Relation.CHANNELS:
        is_map = len(sides.shapes[1]) == 4 and sides.kind is not Kind.EMBEDDING
        return convolve if is_map else f"linear({student}->{teacher})"
    if relation is Relation.SPATIAL:
        return "resize"
    if relation is Relation.CHANNELS_SPATIAL:
        return f"{convolve}+resize"
    return None


def loss_of(sides: Sides, relation: Relation) -> str:
    """Name the loss that fits the kind of the pair, or that can compare such shapes at all."""
    if relation in _NOT_ONE_TO_ONE:
        return _LOSS_OF_ANY_SHAPES
    if sides.kind is Kind.LOGITS and _are_independent(sides):
        return LOSS_OF_INDEPENDENT
    return _LOSS_OF_PROJECTIONS if _are_projections(sides) else _LOSS[sides.kind]


def can_compare(loss: str, relation: Relation) -> bool:
    """Tell whether a loss can compare shapes that differ so, once the pair's adapter is built."""
    if loss == _LOSS_OF_ANY_SHAPES or relation not in _NOT_ONE_TO_ONE:
        return True
    return loss == _LOSS_OF_PROJECTIONS and relation is Relation.HEADS


def _are_independent(sides: Sides) -> bool:
    """Tell scores that a sigmoid judges one by one, as text maps are: a softmax of one is 1."""
    ends = (sides.teacher, sides.teacher_name), (sides.student, sides.student_name)
    operators = (
        structure.graph.operators[head.normalised].kind
        for structure, name in ends
        if (head := structure.head_of(name)) is not None and head.normalised is not None
    )
    return 1 in sides.channels or "sigmoid" in operators


def _are_projections(sides: Sides) -> bool:
    """Tell queries, keys and values from attention scores."""
    role = sides.teacher.role(sides.teacher_name)
    return sides.kind is Kind.ATTENTION and role is not Role.ATTENTION


# A softmax over scores that are judged one by one means nothing.
LOSS_OF_INDEPENDENT = "l2"
# Compares how alike the samples of a batch are in each network (Tung and Mori 2019).
_LOSS_OF_ANY_SHAPES = "similarity"
# Splits the width into heads anew, on demand.
_LOSS_OF_PROJECTIONS = "attention_relation"
_NOT_ONE_TO_ONE = frozenset({Relation.CLASSES, Relation.HEADS, Relation.SEQUENCE, Relation.TOKENS})
_LOSS = {
    Kind.LOGITS: "soft_label",
    Kind.HEAD: "l2",
    Kind.EMBEDDING: "l2",
    Kind.STAGE: "l2",
    Kind.FEATURE: "l2",
    Kind.HIDDEN_STATE: "hidden_state",
    Kind.ATTENTION: "attention_scores",
}


def reasons(sides: Sides) -> Iterator[str]:
    """Give the reasons that hold for any kind of pair: resolution, channels and depth."""
    scales = (
        sides.teacher.scales.get(sides.teacher_name),
        sides.student.scales.get(sides.student_name),
    )
    if (
        sides.kind in (Kind.STAGE, Kind.FEATURE)
        and scales[0] is not None
        and scales[0] == scales[1]
    ):
        places = sides.teacher.sides(sides.teacher_name)
        known = places is not None and places == sides.student.sides(sides.student_name)
        yield (
            f"both {places[0]}×{places[1]}"
            if known and places
            else f"both at {scales[0]} of the input"
        )
    if sides.channels[0] == sides.channels[1] != UNKNOWN:
        one, several = _COUNTED.get(sides.kind, ("channel", "channels"))
        yield f"both {sides.channels[0]} {one if sides.channels[0] == 1 else several}"
    yield from _before_probabilities(sides)
    if sides.kind is not Kind.LOGITS:
        depths = sides.teacher.depth(sides.teacher_name), sides.student.depth(sides.student_name)
        yield in_both(*(f"{depth:.0%} deep" for depth in depths))


_COUNTED = {Kind.LOGITS: ("class", "classes"), Kind.ATTENTION: ("head", "heads")}


def _before_probabilities(sides: Sides) -> Iterator[str]:
    """Say where an output ends in probabilities: losses take the logits, which are before them."""
    for role, structure, name in (
        ("teacher", sides.teacher, sides.teacher_name),
        ("student", sides.student, sides.student_name),
    ):
        head = structure.head_of(name)
        if head is not None and head.normalised is not None:
            yield f"before the {role}'s output `{head.output}` becomes probabilities"


def warnings(sides: Sides, relation: Relation) -> Iterator[str]:
    """Say what can go wrong with a pair, first how its shapes stand against it."""
    teacher, student = sides.channels
    if relation is Relation.CLASSES:
        yield f"{teacher} against {student} classes: the logits cannot be compared one to one"
    if relation in (Relation.SPATIAL, Relation.CHANNELS_SPATIAL):
        yield "the resolutions differ: such pairs can hurt, compare with training on logits alone"
    if relation is Relation.HEADS and _are_projections(sides):
        option = f'options={{"{_LOSS_OF_PROJECTIONS}": {{"heads": {gcd(teacher, student)}}}}}'
        yield f"{teacher} against {student} heads: split both anew, distill_loss(..., {option})"
    elif relation is Relation.HEADS:
        yield "the numbers of heads differ: scores cannot be compared one to one"
    if relation in (Relation.SEQUENCE, Relation.TOKENS):
        yield "the lengths differ: Values cannot be compared one to one"
    yield from _coincidence(sides, relation)
    yield from _fused(sides)
    if relation is Relation.UNKNOWN:
        yield "dims that decide are not known: read the models with the size of their input"


def _coincidence(sides: Sides, relation: Relation) -> Iterator[str]:
    """Say where shapes are equal and yet stand at other resolutions of other inputs."""
    scales = (
        sides.teacher.scales.get(sides.teacher_name),
        sides.student.scales.get(sides.student_name),
    )
    known = sides.teacher.sides(sides.teacher_name) is not None
    if relation is Relation.EQUAL and known and scales[0] != scales[1]:
        where = f"{scales[0]} of the input in the teacher, {scales[1]} in the student"
        yield f"the shapes are equal by coincidence: {where}"


def _fused(sides: Sides) -> Iterator[str]:
    """Say where an activation is part of the operator, so that nothing can be taken before it."""
    for role, structure, name in (
        ("teacher", sides.teacher, sides.teacher_name),
        ("student", sides.student, sides.student_name),
    ):
        operator = structure.graph.producer(name)
        if operator is not None and ends_in_activation(operator):
            yield f"the {role}'s comes from a fused `{operator.type}`: it has no other taps"
