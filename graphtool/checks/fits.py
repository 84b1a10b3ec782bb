"""Whether a loss can compare Values, and how they are aligned before: decided once, from facts.

The facts are plain data: `check_pairs` has them from two Graphs, `gt.losses` from live Values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Protocol, TypeGuard, TypeVar

from graphtool.both import Both
from graphtool.checks.adapters import (
    ADAPTER_CALL,
    TRAINABLE_INPUT,
    Adapter,
    adapted_shapes,
    adapter_misfit,
    check_adapter,
    misapplied,
    parse_adapter,
    resized,
)
from graphtool.checks.rules import format_shape
from graphtool.diagnostics import Diagnostic, PairError, Severity, Where, rule
from graphtool.dtypes import FLOAT_DTYPES, HALF_DTYPES
from graphtool.graph import UNKNOWN_DIM, Shape, dims_agree
from graphtool.loss_specs import LossSpec, MinElements, OperandSpec, channel_axis
from graphtool.ops import ZERO_GRADIENT, Probabilities
from graphtool.text import string_literal

__all__ = [
    "ROLES_OF",
    "Alignment",
    "Compared",
    "Fit",
    "Fixes",
    "LossUse",
    "Operand",
    "Side",
    "channels_first_order",
    "fit",
    "is_axis",
    "moveaxis_order",
    "passes_gradient",
    "probabilities",
    "reaches_parameter",
]

_Value = TypeVar("_Value")

_MAP = 4
# The roles that each value of `from_probs` names.
ROLES_OF: Mapping[str | None, tuple[str, ...]] = {
    None: (),
    "teacher": ("teacher",),
    "student": ("student",),
    "both": ("teacher", "student"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """What decides whether a loss can compare a Value.

    `code` is code for it, in a pair or in a call. `axis` is that of the channels of a map, or of
    the classes, None if it is unknown or does not matter; `usual_axis` is assumed then. Its
    gradient reaches a parameter if it `is_trainable`. `logits` are what it is the softmax or
    sigmoid of.
    """

    where: Where
    code: str
    shape: Shape | None
    dtype: str | None
    axis: int | None = None
    usual_axis: int | None = None
    is_trainable: bool = True
    is_feed: bool = False
    logits: Probabilities[str] | None = None

    @property
    def rank(self) -> int:
        """The number of dims, 0 if it is unknown."""
        return len(self.shape or ())


@dataclass(frozen=True, slots=True)
class Side:
    """An operand with the shape that the loss compares, after an adapter if there is one.

    `order` are the axes of the operand's own shape that the dims come from.
    """

    operand: Operand
    shape: Shape
    order: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a loss compares: the teacher's and the student's, or the start and end of a flow."""

    loss: str
    sides: tuple[Side, Side]
    axes: Both[int | None]
    adapter: str | None = None

    @property
    def where(self) -> tuple[Where, Where]:
        """The places of both."""
        return self.sides[0].operand.where, self.sides[1].operand.where

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        """The shapes of both."""
        return self.sides[0].shape, self.sides[1].shape

    @property
    def codes(self) -> tuple[str, str]:
        """Code for both."""
        return self.sides[0].operand.code, self.sides[1].operand.code

    @property
    def names(self) -> str:
        """Both names."""
        return " and ".join(f"`{where.value}`" for where in self.where)


class Fixes(Protocol):
    """Code to type where a loss cannot compare its operands, for pairs or for calls."""

    def with_loss(self, loss: str, codes: Iterable[str], /, **options: object) -> str:
        """Return the code of another loss."""
        ...

    def with_options(self, loss: str, codes: Iterable[str], /, **options: object) -> str:
        """Return the code of the same loss with options."""
        ...

    def for_shapes(self, compared: Compared, axes: Sequence[int]) -> str:
        """Return code for shapes that differ in these axes, or in their ranks if there are none."""
        ...

    def swapped(self, loss: str, /) -> str | None:
        """Return the code with teacher and student swapped, if they seem to be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LossUse:
    """A loss with its options, and the code that fixes a problem."""

    name: str
    spec: LossSpec
    options: Mapping[str, object]
    fixes: Fixes

    @property
    def takes(self) -> OperandSpec:
        """What the loss takes with its options."""
        return self.spec.takes_with(self.options)


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the Values of a pair become comparable: axes are moved, then an adapter is applied.

    `axes` are those of the channels or classes, None where nothing is moved. `unchanged` says which
    elements, the teacher's and the student's, the adapter leaves as they are.
    """

    axes: Both[int | None]
    adapter: Adapter | None = None
    unchanged: tuple[bool, bool] = (True, True)


@dataclass(frozen=True, slots=True)
class Fit:
    """The problems of a loss, and the alignment of each of its pairs."""

    diagnostics: tuple[Diagnostic, ...]
    alignments: tuple[Alignment, ...] = ()


def fit(
    use: LossUse, pairs: Sequence[Both[Operand]], adapters: Sequence[str | None] | None = None
) -> Fit:
    """Decide whether a loss can compare pairs of operands; it has two pairs if it takes flows."""
    takes, texts = use.takes, adapters or [None] * len(pairs)
    found = list(_check_dtypes(use, pairs))
    alignments: list[Alignment] = []
    all_compared: list[Compared] = []
    for pair, text in zip(pairs, texts, strict=True):
        alignment, problems, compared = _fit_pair(use, pair, text)
        alignments.append(alignment)
        found += problems
        if compared is not None:
            all_compared.append(compared)
            found += _check_shapes(use, takes, compared)
    if takes.flows and len(all_compared) == len(pairs):
        start, end = all_compared
        for sides in zip(start.sides, end.sides, strict=True):
            within = Compared(loss=use.name, sides=sides, axes=Both(None, None))
            found += _check_shapes(use, takes.within_network, within)
    if not any(texts) and not any(pair.student.is_trainable for pair in pairs):
        found.append(frozen_student(use.name, pairs[0].student, use.fixes.swapped(use.name)))
    for pair, alignment in zip(pairs, alignments, strict=True):
        found += _check_probabilities(use, pair, alignment)
    return Fit(tuple(found), tuple(alignments))


def _fit_pair(
    use: LossUse, pair: Both[Operand], text: str | None
) -> tuple[Alignment, list[Diagnostic], Compared | None]:
    """Align a pair; nothing is compared if a shape is unknown or the adapter cannot be built."""
    axes, adapter, problems = _axes(use, pair), None, list[Diagnostic]()
    orders = (
        channels_first_order(pair.teacher.rank, axes.teacher),
        channels_first_order(pair.student.rank, axes.student),
    )
    shapes = None
    if pair.teacher.shape is not None and pair.student.shape is not None:
        shapes = _picked(pair.teacher.shape, orders[0]), _picked(pair.student.shape, orders[1])
    if text is not None:
        try:
            adapter = parse_adapter(text)
            problems += _check_adapter(use, pair, text, adapter, shapes)
        except PairError as error:
            problems += error.report
    alignment = Alignment(axes, adapter, _are_unchanged(adapter, shapes))
    if shapes is None or any(one.severity is Severity.ERROR for one in problems):
        return alignment, problems, None
    if adapter is not None:
        shapes = adapted_shapes(adapter, *shapes)
    last = [_classes_last_order(use, len(shape), axes) for shape in shapes]
    sides = (
        Side(pair.teacher, _picked(shapes[0], last[0]), _picked(orders[0], last[0])),
        Side(pair.student, _picked(shapes[1], last[1]), _picked(orders[1], last[1])),
    )
    return alignment, problems, Compared(loss=use.name, sides=sides, axes=axes, adapter=text)


def _check_dtypes(use: LossUse, pairs: Sequence[Both[Operand]]) -> Iterator[Diagnostic]:
    known = [(one, one.dtype) for pair in pairs for one in pair if one.dtype is not None]
    computed = {"float32" if dtype in HALF_DTYPES else dtype for _, dtype in known}
    if len(computed) > 1 or not FLOAT_DTYPES.issuperset(computed):
        dtypes = [dtype for _, dtype in known]
        to = dtypes[-1] if dtypes[-1] in FLOAT_DTYPES else "float32"
        # The first that is not of this dtype already.
        first = next((one for one, dtype in known if dtype != to), known[0][0])
        role = "student" if first.where.role == "student" else "teacher"
        value = f"merged.{role}({first.code})" if first.code.startswith('"') else first.code
        yield pair_dtype(use.name, [one.where for one, _ in known], dtypes, value, to)


def is_axis(given: object, rank: int) -> TypeGuard[int]:
    """Return whether an axis, which may be negative, is valid for a rank and not the batch axis."""
    if isinstance(given, bool) or not isinstance(given, Integral):
        return False
    return -rank < int(given) < rank and int(given) != 0


def _axes(use: LossUse, pair: Both[Operand]) -> Both[int | None]:
    """Return the axes of the channels, or of the classes: one is the other's if it is unknown."""
    teacher, student = pair.teacher.axis, pair.student.axis
    if not use.spec.needs_class_axis:
        return Both(teacher, student)
    given = use.options.get("axis")
    if given is not None:
        return pair.map(
            lambda one: int(given) % one.rank if is_axis(given, one.rank) else one.rank - 1
        )
    if pair.teacher.rank == pair.student.rank:
        teacher, student = (
            student if teacher is None else teacher,
            teacher if student is None else student,
        )
    return Both(
        pair.teacher.usual_axis if teacher is None else teacher,
        pair.student.usual_axis if student is None else student,
    )


def moveaxis_order(rank: int, source: int, destination: int) -> list[int]:
    """Return the permutation that moves one axis to another position."""
    order = [other for other in range(rank) if other != source]
    order.insert(destination, source)
    return order


def channels_first_order(rank: int, axis: int | None) -> list[int]:
    """Return the permutation that moves the channels of a map to axis 1, of other Values last."""
    if axis is None or not rank:
        return list(range(rank))
    return moveaxis_order(rank, axis, 1 if rank == _MAP else rank - 1)


def _classes_last_order(use: LossUse, rank: int, axes: Both[int | None]) -> list[int]:
    """Return the permutation that a softmax over axis 1 of a map needs: the classes are last."""
    if rank != _MAP or not use.spec.is_class_softmax or None in (axes.teacher, axes.student):
        return list(range(rank))
    return moveaxis_order(rank, 1, rank - 1)


def _picked(items: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    # A linear layer on a pooled map leaves fewer dims than it had.
    return tuple(items[at] for at in order)


def _check_adapter(
    use: LossUse,
    pair: Both[Operand],
    text: str,
    adapter: Adapter,
    shapes: tuple[Shape, Shape] | None,
) -> Iterator[Diagnostic]:
    """Yield why the adapter of a pair cannot be built, or is not needed."""
    where = pair.teacher.where, pair.student.where
    if not pair.student.is_trainable:
        yield misapplied(text, where[1], TRAINABLE_INPUT, help=ADAPTER_CALL)
    if shapes is not None:
        yield from check_adapter(text, adapter, shapes, where)
    if use.spec.needs_no_adapter and adapter.layer is not None:
        yield adapter_misfit(
            f"`{use.name}` of {' and '.join(f'`{one.value}`' for one in where)} does not need the "
            f"adapter `{text}`",
            severity=Severity.WARNING,
            help="delete the pair's `adapter`",
        )


def _check_shapes(use: LossUse, takes: OperandSpec, compared: Compared) -> Iterator[Diagnostic]:
    """Yield the problems of the shapes of two operands."""
    teacher, student = compared.shapes
    rank = len(teacher)
    ranks_differ = takes.equal_ranks and rank != len(student)
    if ranks_differ or not (takes.accepts_rank(rank) and takes.accepts_rank(len(student))):
        message = (
            f"{compared.names} have ranks {rank} and {len(student)}; `{use.name}` wants "
            f"{takes.ranks_text}"
        )
        fix = use.fixes.for_shapes(compared, ())
        yield pair_shape(message, compared.where, fix)
        return
    is_axis_known = None not in (compared.axes.teacher, compared.axes.student)
    if use.spec.needs_class_axis and not is_axis_known:
        yield _unknown_class_axis(use, compared)
        return
    equal_axes = takes.equal_axes(rank) if rank == len(student) else ()
    unequal = [axis for axis in equal_axes if not dims_agree(teacher[axis], student[axis])]
    few = _insufficient_count(takes, compared.shapes)
    if unequal:
        # Paddle would broadcast one to the other silently.
        broadcasts = all(1 in (teacher[axis], student[axis]) for axis in unequal)
        shapes = f"{compared.names} are {format_shape(teacher)} and {format_shape(student)}"
        behind = f" behind `{compared.adapter}`" if compared.adapter else ""
        wanted = "would broadcast one to the other"
        if not broadcasts:
            wanted = f"wants {takes.dims_text(rank)}"
        fix = use.fixes.for_shapes(compared, unequal)
        yield pair_shape(f"{shapes}{behind}; `{use.name}` {wanted}", compared.where, fix)
    elif takes.least is not None and few is not None:
        other = use.fixes.with_loss("l2" if teacher == student else "similarity", compared.codes)
        yield constant_loss(use.name, compared.where, takes.least, few, other)
    for role, side in zip(ROLES_OF["both"], compared.sides, strict=True):
        for axis in takes.known_axes(role, len(side.shape)):
            if side.shape[axis] == UNKNOWN_DIM:
                yield _unknown_dim(use.name, side.operand.where, side.order[axis])


def _insufficient_count(takes: OperandSpec, shapes: Iterable[Shape]) -> int | None:
    """Return the number of elements of the first operand with too few for a loss, else None.

    Unknown dims are taken to be large enough.
    """
    least = takes.least
    if least is None:
        return None
    known = [
        dims for shape in shapes if UNKNOWN_DIM not in (dims := shape[least.start : least.stop])
    ]
    return next((count for count in map(prod, known) if count < least.count), None)


def _are_unchanged(
    adapter: Adapter | None, shapes: tuple[Shape, Shape] | None
) -> tuple[bool, bool]:
    """Return whether an adapter leaves the elements of either Value as they are."""
    if adapter is None or shapes is None:
        return True, True
    same = [True, True]
    if adapter.resizes:
        same = [
            old == new and UNKNOWN_DIM not in old[2:]
            for old, new in zip(shapes, resized(*shapes), strict=True)
        ]
    return same[0], same[1] and adapter.layer is None


def _check_probabilities(
    use: LossUse, pair: Both[Operand], alignment: Alignment
) -> Iterator[Diagnostic]:
    """Yield the operands that hold probabilities, unless an adapter changes them."""
    takes, from_probs = use.takes, use.options.get("from_probs")
    logits = [one.code if one.logits is None else string_literal(one.logits.logits) for one in pair]
    found = [
        (role, one.where, one.logits)
        for role, one, same in zip(ROLES_OF["both"], pair, alignment.unchanged, strict=True)
        if same and one.logits is not None
    ]
    if takes.prefers_logits:
        places = [where for _, where, source in found if source.function == "softmax"]
        if places:
            names = " and ".join(f"`{place.value}`" for place in places)
            yield probabilities(
                f"{names} {'hold' if len(places) > 1 else 'holds'} probabilities, and "
                f"`{use.name}` of them teaches next to nothing",
                severity=Severity.WARNING,
                where=places,
                help=use.fixes.with_loss("kl", logits, temperature=4.0),
            )
    if not takes.logits or not (from_probs is None or isinstance(from_probs, str)):
        return
    declared = ROLES_OF.get(from_probs)
    if declared is None:
        return  # the loss refuses it
    # Scores after a sigmoid are never a distribution over classes.
    undeclared = [
        (role, where, source)
        for role, where, source in found
        if source.function == "sigmoid" or role not in declared
    ]
    if not undeclared:
        return
    roles = "both" if from_probs or len(undeclared) > 1 else undeclared[0][0]
    if use.spec.options.get("from_probs") is None:
        fix = f"help(gt.losses.{use.name})"
    elif any(source.function == "sigmoid" for _, _, source in undeclared):
        fix = use.fixes.with_loss("l2", logits)
    else:
        codes = [one.code for one in pair]
        fix = use.fixes.with_options(use.name, codes, from_probs=roles)
    for _, where, source in undeclared:
        yield probabilities(
            f"`{where.value}` holds probabilities, and `{use.name}` takes the logits before "
            f"{source.function}",
            where=(where,),
            notes=(f"the input of {source.function} is `{source.logits}`",),
            help=fix,
        )


_DISCRETE_DTYPES = ("bool", "int", "uint")


def passes_gradient(kind: str, dtype: str | None) -> bool:
    """Return whether a gradient passes through a result, by its operator's kind and its dtype."""
    return kind not in ZERO_GRADIENT and not (dtype or "").startswith(_DISCRETE_DTYPES)


def reaches_parameter(
    value: _Value,
    gradient_sources: Callable[[_Value], Iterable[_Value] | None],
    key: Callable[[_Value], Hashable],
) -> bool:
    """Return whether the gradient of a Value reaches a trainable parameter or a feed.

    `gradient_sources` returns the Values that a gradient flows to, None if the Value is or may be
    trainable itself; `key` identifies a Value.
    """
    pending, seen = [value], {key(value)}
    while pending:
        sources = gradient_sources(pending.pop())
        if sources is None:
            return True
        new = {key(one): one for one in sources if key(one) not in seen}
        seen |= new.keys()
        pending += new.values()
    return False


@rule("GT228", replaces=("GT349", "GT369", "GT513"))
def probabilities(
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    where: Sequence[Where],
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """A Value went through softmax or sigmoid, and losses want the logits before it.

    `soft_label`, `dkd` and others apply softmax themselves. A second softmax flattens the
    distribution, and the loss teaches next to nothing. Name the logits, or pass
    `from_probs="teacher"` (or `"student"`, or `"both"`). After a sigmoid each score stands for
    itself: compare the logits before it with `l2`.

    `l2` of probabilities is a warning: the differences are small, and the gradient vanishes where a
    network is sure. Compare logits with `kl` or `soft_label` and a temperature. Probabilities that
    only an accuracy reads are not reported.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


@rule("GT333", replaces=("GT331", "GT332", "GT343", "GT344"))
def pair_shape(message: str, where: Sequence[Where], help: str) -> Diagnostic:
    """A loss cannot compare two Values of these ranks or dims, after the adapter if there is one.

    `help(gt.losses.l2)` and so on say which shapes a loss takes. For equal ranks pool a map to a
    vector (`paddle.nn.functional.adaptive_avg_pool2d`), or reshape tokens to a map. A 1 × 1
    convolution or a linear layer on the student's side brings it to the teacher's channels, as
    `hint` does itself; an interpolation brings a map to another size. `similarity` compares any two
    shapes of the same batch.

    If a dim is 1 on one side, Paddle would broadcast it, and the loss would have no meaning. The
    batch is not compared here. Unknown dims are compared at run time.
    """
    return Diagnostic(message=message, where=tuple(where), help=help)


@rule("GT334", replaces=("GT345",))
def pair_dtype(
    loss: str, where: Sequence[Where], dtypes: Collection[str], value: str, to: str
) -> Diagnostic:
    """The Values of a loss have different dtypes, or are not floating-point.

    Cast one before the loss. Only float16 and bfloat16 go together with float32: they are computed
    in float32.
    """
    return Diagnostic(
        message=f"`{loss}` wants floating-point Values of one dtype, not {' and '.join(dtypes)}",
        where=tuple(where),
        help=f'paddle.cast({value}, "{to}")',
    )


@rule("GT335")
def constant_loss(
    loss: str, where: Sequence[Where], least: MinElements, count: int, help: str
) -> Diagnostic:
    """A loss is constant, whatever the student does, because it compares too few numbers.

    A softmax over one class is always 1, and two standardised classes are always equally far apart.
    Attention over a map with one position has nothing to choose from. Compare scores of one class,
    as in text maps and foreground masks, by `l2`, before their sigmoid.
    """
    one, several = least.of
    return Diagnostic(
        message=f"`{loss}` over {count} {one if count == 1 else several} is constant: it needs "
        f"{least.count} or more",
        where=tuple(where),
        help=help,
    )


@rule("GT336", replaces=("GT354",))
def unknown_axis(message: str, where: Sequence[Where], help: str) -> Diagnostic:
    """The class axis of the logits, or the size of a dim that the loss needs, is unknown.

    For [N, classes] the class axis is the last. For other Values it follows from the layers around
    them: a convolution and its `data_format`, a linear layer, a transpose. It is unknown for
    inputs, if classes are reshaped together with other dims, or if a layer mixes another axis:
    pass `axis=`.

    A loss that is built from the number of classes, channels or the width must know it: give
    `paddle.static.data` the size, or reshape the Value.
    """
    return Diagnostic(message=message, where=tuple(where), help=help)


def _unknown_class_axis(use: LossUse, compared: Compared) -> Diagnostic:
    shape = compared.sides[0].operand.shape or ()
    message = f"`{use.name}`: the class axis of {compared.names}, {format_shape(shape)}, is unknown"
    fix = use.fixes.with_options(use.name, compared.codes, axis=channel_axis(len(shape)))
    return unknown_axis(message, compared.where, fix)


def _unknown_dim(loss: str, where: Where, axis: int) -> Diagnostic:
    """Report a dim that a loss must know when it is built."""
    sizes = ", ".join("SIZE" if at == axis else "0" for at in range(len(where.shape or ())))
    shape = format_shape(where.shape)
    message = f"`{loss}` must know dim {axis} of `{where.value}`, which is {shape}"
    return unknown_axis(message, (where,), f"paddle.reshape(value, [{sizes}])")


_RESTORE = 'student = gt.for_training("student.json")  # before the merge'
_NO_FEED = "graphtool suggest-pairs TEACHER STUDENT  # a feed is computed from no parameter"


@rule("GT348")
def frozen_student(loss: str, student: Operand, swapped: str | None) -> Diagnostic:
    """No gradient passes through the student's side of a loss, so the loss trains nothing.

    The two sides may be swapped: the teacher comes first. Otherwise the Value depends on no
    trainable parameter, as in a student loaded from an inference model: `gt.for_training` makes it
    trainable again. Or it depends on one only through a step function: class numbers, signs,
    rounded values.
    """
    return Diagnostic(
        message=f"the student's side of `{loss}`, `{student.where.value}`, gets no gradient",
        where=(student.where,),
        help=swapped or (_NO_FEED if student.is_feed else _RESTORE),
    )
