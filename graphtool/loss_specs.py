"""What each loss takes: the operands and options of all losses, as data.

Recipes and checks judge pairs by this table alone and build nothing; `graphtool.losses` has a
formula of the same name for each entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

__all__ = [
    "LossSpec",
    "MinElements",
    "OperandSpec",
    "Option",
    "channel_axis",
    "group_flows",
    "named_losses",
    "spec_of",
]


def channel_axis(rank: int) -> int:
    """Return the channel axis: the second of a map [N, C, H, W], else the last."""
    return 1 if rank == 4 else rank - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MinElements:
    """The least `count` of elements that a loss needs; with fewer it is constant.

    Counted are the elements of the dims from `start` to before `stop`; `of` names them.
    """

    count: int
    of: tuple[str, str]
    start: int = -1
    stop: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandSpec:
    """The shapes and kinds of operands that a loss takes.

    `ranks` are the least and the largest number of dims, the same on both sides if `equal_ranks`.
    Dims from `start` to before `stop` must be equal; if it `adapts`, not the channels, which a
    trained adapter makes equal. `known` are the axes, by role, whose dims must be known. A loss of
    `logits` applies softmax itself, so its operands must not be probabilities; one that
    `prefers_logits` teaches little from them. A loss of `flows` takes two pairs, a start and an
    end. A loss of `heads` takes attention tensors, [N, heads, L, L] or [N, heads, L, D]. With fewer
    elements than `least` the loss is constant.
    """

    ranks: tuple[int, int | None] = (1, None)
    equal_ranks: bool = True
    start: int = 1
    stop: int | None = None
    adapts: bool = False
    known: tuple[tuple[str, int], ...] = ()
    logits: bool = False
    prefers_logits: bool = False
    flows: bool = False
    heads: bool = False
    least: MinElements | None = None

    def accepts_rank(self, rank: int) -> bool:
        """Return whether the loss is defined for Values of a rank."""
        lowest, highest = self.ranks
        return lowest <= rank and (highest is None or rank <= highest)

    def equal_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes whose dims must be equal in teacher and student."""
        axes = range(rank)[self.start : self.stop]
        return tuple(axis for axis in axes if not self.adapts or axis != channel_axis(rank))

    def known_axes(self, role: str, rank: int) -> tuple[int, ...]:
        """Return the axes of a role's Value whose dims must be known."""
        axes = [axis % rank for known_role, axis in self.known if known_role == role]
        return (*axes, channel_axis(rank)) if self.adapts else tuple(axes)

    @property
    def ranks_text(self) -> str:
        """The ranks that a loss takes, as text."""
        lowest, highest = self.ranks
        if lowest == highest:
            return f"rank {lowest}"
        span = "or more" if highest is None else f"to {highest}"
        return f"the same rank, {lowest} {span}" if self.equal_ranks else f"rank {lowest} {span}"

    def dims_text(self, rank: int) -> str:
        """Return the dims that must be equal, as text."""
        axes = self.equal_axes(rank)
        if axes == tuple(range(1, rank)):
            return "equal shapes"
        return f"{'dim' if len(axes) == 1 else 'dims'} {', '.join(map(str, axes))} to be equal"


class Option(Enum):
    """What an option of a loss takes."""

    POSITIVE = "a finite number above 0"
    POSITIVE_OR_NONE = "a finite number above 0, or None"
    WEIGHT = "a finite number of 0 or more"  # of a term; not all terms have the weight 0
    AXIS = "the axis of the classes"
    FROM_PROBS = '"teacher", "student", "both" or None'
    LABELS = "class numbers"
    MASK = "a number, or bool, per token"
    HEADS = "a number of heads"
    BY = '"squares" or "divergence"'


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec:
    """What a loss takes.

    A `is_class_softmax` applies softmax over the classes. One that `needs_no_adapter` takes any
    channels; an adapter would learn in the student's place. `otherwise` are the operands with an
    option, by `option` or `option=value`. `token_axes` of the student are as long as a mask. Pairs
    cannot name a loss that is `only_called`.
    """

    takes: OperandSpec
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    otherwise: Mapping[str, OperandSpec] = field(default_factory=dict[str, OperandSpec])
    token_axes: tuple[int, ...] = ()
    is_class_softmax: bool = False
    needs_no_adapter: bool = False
    only_called: bool = False

    @property
    def needs_class_axis(self) -> bool:
        """Whether the loss takes a softmax over an axis that has to be determined."""
        return self.is_class_softmax and self.takes.ranks[1] is None

    def takes_with(self, options: Mapping[str, object]) -> OperandSpec:
        """Return the operand constraints with these options."""
        for key, takes in self.otherwise.items():
            name, _, value = key.partition("=")
            given = options.get(name)
            # Comparing a PIR Value would build an operator.
            if given is not None and (not value or (isinstance(given, str) and given == value)):
                return takes
        return self.takes


_TWO_CLASSES = MinElements(count=2, of=("class", "classes"))
# Two standardised logits are always +1 and -1.
_THREE_CLASSES = replace(_TWO_CLASSES, count=3)
_TWO_POSITIONS = MinElements(count=2, of=("place", "places"), start=2)
_TWO_KEYS = MinElements(count=2, of=("key", "keys"), start=2, stop=3)
_WIDTHS = (("teacher", 3), ("student", 3))
_KNOWN_CLASSES = (("teacher", -1),)

# Logits [N, classes], and with more dims, of which one has the classes.
_LOGITS = OperandSpec(ranks=(2, None), logits=True, least=_TWO_CLASSES)
_VECTOR_LOGITS = replace(_LOGITS, ranks=(2, 2))
# No dims are compared. The batch alone is common, and is compared at run time.
_ANY_SHAPES = OperandSpec(ranks=(2, None), equal_ranks=False, stop=1)
_SCORES = OperandSpec(ranks=(4, 4), logits=True, heads=True)
_RELATIONS = OperandSpec(ranks=(4, 4), stop=3, known=_WIDTHS, heads=True, least=_TWO_KEYS)

_TEMPERATURE = {"temperature": Option.POSITIVE}
_FROM_PROBS = {"from_probs": Option.FROM_PROBS}
_AXIS = {"axis": Option.AXIS, **_FROM_PROBS}
_MASK = {"mask": Option.MASK}

_LOSSES: Mapping[str, LossSpec] = {
    "attention": LossSpec(
        takes=OperandSpec(ranks=(3, 5), start=2, least=_TWO_POSITIONS), needs_no_adapter=True
    ),
    "attention_relation": LossSpec(
        takes=_RELATIONS,
        options={"heads": Option.HEADS, **_MASK},
        # The networks may have different numbers of heads.
        otherwise={
            "heads": replace(_RELATIONS, start=2, known=(("teacher", 1), ("student", 1), *_WIDTHS))
        },
        token_axes=(2,),
    ),
    "attention_scores": LossSpec(
        takes=_SCORES,
        options={**_MASK, "by": Option.BY},
        otherwise={"by=divergence": replace(_SCORES, least=replace(_TWO_KEYS, start=3, stop=4))},
        token_axes=(2, 3),
    ),
    "channel_wise": LossSpec(
        takes=OperandSpec(ranks=(3, 5), least=_TWO_POSITIONS), options=_TEMPERATURE
    ),
    "dist": LossSpec(
        takes=_VECTOR_LOGITS,
        options={"beta": Option.WEIGHT, "gamma": Option.WEIGHT, **_TEMPERATURE, **_FROM_PROBS},
        is_class_softmax=True,
    ),
    "dkd": LossSpec(
        takes=replace(_VECTOR_LOGITS, known=_KNOWN_CLASSES),
        options={
            "labels": Option.LABELS,
            "alpha": Option.WEIGHT,
            "beta": Option.WEIGHT,
            **_TEMPERATURE,
            **_FROM_PROBS,
        },
        is_class_softmax=True,
    ),
    "fsp": LossSpec(takes=OperandSpec(ranks=(4, 4), stop=2, flows=True)),
    "hidden_state": LossSpec(
        takes=OperandSpec(ranks=(3, 3), adapts=True), options=_MASK, token_axes=(1,)
    ),
    "hint": LossSpec(takes=OperandSpec(ranks=(2, 4), adapts=True)),
    "kl": LossSpec(takes=_LOGITS, options={**_TEMPERATURE, **_AXIS}, is_class_softmax=True),
    "l2": LossSpec(takes=OperandSpec(prefers_logits=True)),
    "lskd": LossSpec(
        takes=replace(_LOGITS, known=_KNOWN_CLASSES, least=_THREE_CLASSES),
        options={**_TEMPERATURE, **_AXIS},
        is_class_softmax=True,
    ),
    "pkd": LossSpec(takes=OperandSpec(ranks=(2, 4))),
    "relational": LossSpec(
        takes=_ANY_SHAPES,
        options={"distance": Option.WEIGHT, "angle": Option.WEIGHT},
        needs_no_adapter=True,
    ),
    "relational_angle": LossSpec(takes=_ANY_SHAPES, only_called=True),
    "relational_distance": LossSpec(takes=_ANY_SHAPES, only_called=True),
    "similarity": LossSpec(takes=_ANY_SHAPES, needs_no_adapter=True),
    "skd": LossSpec(
        takes=replace(_VECTOR_LOGITS, known=_KNOWN_CLASSES, least=_THREE_CLASSES),
        options={"multiplier": Option.POSITIVE_OR_NONE, **_FROM_PROBS},
        is_class_softmax=True,
    ),
    "soft_label": LossSpec(
        takes=_LOGITS,
        options={
            "teacher_temperature": Option.POSITIVE,
            "student_temperature": Option.POSITIVE,
            **_AXIS,
        },
        is_class_softmax=True,
    ),
}
_NAMED = MappingProxyType({name: spec for name, spec in _LOSSES.items() if not spec.only_called})


def spec_of(name: str) -> LossSpec:
    """Return what a loss takes, by the name of its formula in `graphtool.losses`."""
    return _LOSSES[name]


def named_losses() -> Mapping[str, LossSpec]:
    """Return what the losses that pairs can name take, sorted by name."""
    return _NAMED


def group_flows(losses: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the pairs of each loss, ordered by their last: a flow has two.

    Unfinished flows, with one index, come last.
    """
    starts: dict[str, int] = {}
    for index, loss in enumerate(losses):
        if loss not in _NAMED or not _NAMED[loss].takes.flows:
            yield (index,)
        elif loss in starts:
            yield starts.pop(loss), index
        else:
            starts[loss] = index
    yield from ((index,) for index in starts.values())
