"""Whether a loss can compare Values, and how they are aligned before: decided once, from facts.

The facts are plain data: `check_pairs` has them from two Graphs, `gt.losses` from live Values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod
from numbers import Integral
from typing import TypeGuard, TypeVar

from graphtool.both import Both
from graphtool.checks.adapters import (
    Adapter,
    adapted_shapes,
    adapter_misfit,
    check_adapter,
    frozen_input,
    parse_adapter,
    resized,
)
from graphtool.checks.rules import format_shape
from graphtool.diagnostics import Diagnostic, PairError, Severity, Where, documented
from graphtool.dtypes import FLOAT_DTYPES, HALF_DTYPES
from graphtool.graph import UNKNOWN_DIM, Shape, dims_agree, shapes_agree
from graphtool.loss_specs import LossSpec, OperandSpec, channel_axis
from graphtool.ops import ZERO_GRADIENT, Probabilities
from graphtool.selectors import is_command_source
from graphtool.text import path_argument, shell_command, shell_option, string_literal

__all__ = [
    "ROLES_OF",
    "Alignment",
    "Fit",
    "LossUse",
    "Operand",
    "channels_first_order",
    "fit",
    "is_axis",
    "moveaxis_order",
    "passes_gradient",
    "probabilities",
    "reaches_parameter",
]

_Value = TypeVar("_Value")

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

    `code` is code for it, in a pair or in a call, `swapped_code` that on the other side of a call.
    `axis` is that of the channels of a map, or of the classes, None if it is unknown or does not
    matter; `usual_axis` is assumed then. Its gradient reaches a parameter if it `is_trainable`.
    `logits` are what it is the softmax or sigmoid of.
    """

    where: Where
    code: str
    swapped_code: str = ""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LossUse:
    """A loss with its options, in a pair or in a call."""

    name: str
    spec: LossSpec
    options: Mapping[str, object]
    is_call: bool

    def with_loss(self, loss: str, codes: Iterable[str], /, **options: object) -> str:
        """Return the code of another loss; in a pair it has no options."""
        if not self.is_call:
            return f"({', '.join(codes)}, {json.dumps(loss)})"
        given = (f"{name}={json.dumps(option)}" for name, option in options.items())
        return f"gt.losses.{loss}({', '.join((*codes, *given))})"

    def with_options(self, codes: Iterable[str], /, **options: object) -> str:
        """Return the code of this loss with options."""
        if self.is_call:
            return self.with_loss(self.name, codes, **options)
        return f"gt.distill_loss(merged, pairs, options={json.dumps({self.name: options})})"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Two operands that a loss compares: the teacher's and the student's, or the ends of a flow.

    `shapes` are those that it compares, after an adapter if there is one; `orders` are the axes of
    the operands' own shapes that the dims come from.
    """

    operands: tuple[Operand, Operand]
    shapes: tuple[Shape, Shape]
    orders: tuple[Sequence[int], Sequence[int]]
    adapter: str | None = None
    has_class_axes: bool = True

    @property
    def where(self) -> tuple[Where, Where]:
        return self.operands[0].where, self.operands[1].where

    @property
    def codes(self) -> tuple[str, str]:
        return self.operands[0].code, self.operands[1].code

    @property
    def names(self) -> str:
        return " and ".join(f"`{where.value}`" for where in self.where)


def fit(
    use: LossUse, pairs: Sequence[Both[Operand]], adapters: Sequence[str | None] = (None, None)
) -> Fit:
    """Decide whether a loss can compare pairs of operands; it has two pairs if it takes flows."""
    takes = use.spec.takes_with(use.options)
    found = list(_check_dtypes(use, pairs))
    alignments: list[Alignment] = []
    all_compared: list[_Compared] = []
    for pair, text in zip(pairs, adapters, strict=False):
        alignment, problems, compared = _fit_pair(use, pair, text)
        alignments.append(alignment)
        found += problems
        if compared is not None:
            all_compared.append(compared)
            found += _check_shapes(use, takes, compared)
    if takes.flows and len(all_compared) == len(pairs):
        assert takes.stop is not None
        within_network = replace(takes, start=takes.stop, stop=None)
        start, end = all_compared
        for side in (0, 1):
            within = _Compared(
                operands=(start.operands[side], end.operands[side]),
                shapes=(start.shapes[side], end.shapes[side]),
                orders=(start.orders[side], end.orders[side]),
            )
            found += _check_shapes(use, within_network, within)
    if not any(adapters) and not any(pair.student.is_trainable for pair in pairs):
        found.append(_frozen_student(use, pairs))
    for pair, alignment in zip(pairs, alignments, strict=True):
        found += _check_probabilities(use, takes, pair, alignment)
    return Fit(tuple(found), tuple(alignments))


def _fit_pair(
    use: LossUse, pair: Both[Operand], text: str | None
) -> tuple[Alignment, list[Diagnostic], _Compared | None]:
    """Align a pair; nothing is compared if a shape is unknown or the adapter cannot be built."""
    axes, adapter, problems = _axes(use, pair), None, list[Diagnostic]()
    where = pair.teacher.where, pair.student.where
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
        except PairError as error:
            problems += error.report
        else:
            if not pair.student.is_trainable:
                problems.append(frozen_input(text, where[1]))
            if shapes is not None:
                problems += check_adapter(text, adapter, shapes, where)
            if use.spec.needs_no_adapter and adapter.layer is not None:
                ends = f"`{where[0].value}` and `{where[1].value}`"
                message = f"`{use.name}` of {ends} does not need the adapter `{text}`"
                fix, severity = "delete the pair's `adapter`", Severity.WARNING
                problems.append(adapter_misfit(message, where, severity=severity, help=fix))
    alignment = Alignment(axes, adapter, _are_unchanged(adapter, shapes))
    if shapes is None or any(one.severity is Severity.ERROR for one in problems):
        return alignment, problems, None
    if adapter is not None:
        shapes = adapted_shapes(adapter, *shapes)
    has_axes = None not in (axes.teacher, axes.student)
    last = [_classes_last_order(use, len(shape), has_axes=has_axes) for shape in shapes]
    compared = _Compared(
        operands=(pair.teacher, pair.student),
        shapes=(_picked(shapes[0], last[0]), _picked(shapes[1], last[1])),
        orders=(_picked(orders[0], last[0]), _picked(orders[1], last[1])),
        adapter=text,
        has_class_axes=has_axes,
    )
    return alignment, problems, compared


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
        yield pair_dtype(
            f"`{use.name}` wants floating-point Values of one dtype, not {' and '.join(dtypes)}",
            [one.where for one, _ in known],
            help=f'paddle.cast({value}, "{to}")',
        )


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
    return moveaxis_order(rank, axis, 1 if rank == 4 else rank - 1)


def _classes_last_order(use: LossUse, rank: int, *, has_axes: bool) -> list[int]:
    """Return the permutation that a softmax over axis 1 of a map needs: the classes are last."""
    if rank != 4 or not use.spec.is_class_softmax or not has_axes:
        return list(range(rank))
    return moveaxis_order(rank, 1, rank - 1)


def _picked(items: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    # A linear layer on a pooled map leaves fewer dims than it had.
    return tuple(items[at] for at in order)


def _check_shapes(use: LossUse, takes: OperandSpec, compared: _Compared) -> Iterator[Diagnostic]:
    """Yield the problems of the shapes of two operands."""
    teacher, student = compared.shapes
    rank = len(teacher)
    ranks_differ = takes.equal_ranks and rank != len(student)
    if ranks_differ or not (takes.accepts_rank(rank) and takes.accepts_rank(len(student))):
        message = (
            f"{compared.names} have ranks {rank} and {len(student)}; `{use.name}` wants "
            f"{takes.ranks_text}"
        )
        yield pair_shape(message, compared.where, help=_shape_fix(use, compared, ()))
        return
    if use.spec.needs_class_axis and not compared.has_class_axes:
        own = compared.operands[0].shape or ()
        yield unknown_axis(
            f"`{use.name}`: the class axis of {compared.names}, {format_shape(own)}, is unknown",
            compared.where,
            help=use.with_options(compared.codes, axis=channel_axis(len(own))),
        )
        return
    equal_axes = takes.equal_axes(rank) if rank == len(student) else ()
    unequal = [axis for axis in equal_axes if not dims_agree(teacher[axis], student[axis])]
    if unequal:
        shapes = f"{compared.names} are {format_shape(teacher)} and {format_shape(student)}"
        behind = f" behind `{compared.adapter}`" if compared.adapter else ""
        wanted = f"wants {takes.dims_text(rank)}"
        # Paddle would do it silently.
        if all(1 in (teacher[axis], student[axis]) for axis in unequal):
            wanted = "would broadcast one to the other"
        message = f"{shapes}{behind}; `{use.name}` {wanted}"
        yield pair_shape(message, compared.where, help=_shape_fix(use, compared, unequal))
    elif takes.least is not None:
        # Unknown dims are taken to be large enough.
        slices = [shape[takes.least.start : takes.least.stop] for shape in compared.shapes]
        counts = [prod(dims) for dims in slices if UNKNOWN_DIM not in dims]
        few = next((count for count in counts if count < takes.least.count), None)
        if few is not None:
            yield constant_loss(
                f"`{use.name}` over {few} {takes.least.of[few != 1]} is constant: it needs "
                f"{takes.least.count} or more",
                compared.where,
                help=use.with_loss("l2" if teacher == student else "similarity", compared.codes),
            )
    for side, role in enumerate(ROLES_OF["both"]):
        shape, where = compared.shapes[side], compared.where[side]
        own_shape = where.shape or ()
        for axis in takes.known_axes(role, len(shape)):
            if shape[axis] == UNKNOWN_DIM:
                own_axis = compared.orders[side][axis]
                sizes = ["SIZE" if at == own_axis else "0" for at in range(len(own_shape))]
                yield unknown_axis(
                    f"`{use.name}` must know dim {own_axis} of `{where.value}`, which is "
                    f"{format_shape(where.shape)}",
                    where,
                    help=f"paddle.reshape(value, [{', '.join(sizes)}])",
                )


def _shape_fix(use: LossUse, compared: _Compared, axes: Sequence[int]) -> str:
    """Return code for shapes that differ in these axes, or in their ranks if there are none."""
    if use.is_call:
        return _shape_fix_of_call(use, compared, list(axes))
    teacher, student = compared.shapes
    # There is no code for ranks, nor for what Paddle would broadcast.
    if any(1 not in (teacher[axis], student[axis]) for axis in axes):
        if use.name == "attention_relation" and 2 not in axes:
            return use.with_options(compared.codes, heads=gcd(teacher[1], student[1]))
        if compared.adapter is None and shapes_agree(teacher[:1], student[:1]):
            axis = channel_axis(len(teacher))
            sizes = [(*shape[:axis], *shape[axis + 1 :]) for shape in compared.shapes]
            is_hint = (
                2 <= len(teacher) <= 4
                and shapes_agree(*sizes)
                and UNKNOWN_DIM not in (teacher[axis], student[axis])
            )
            return use.with_loss("hint" if is_hint else "similarity", compared.codes)
        if compared.adapter is not None and len(teacher) == 4:
            adapter = parse_adapter(compared.adapter)
            if not (adapter.resizes and adapter.layer is not None):
                return 'adapter = "conv1x1+resize"'
    sources = [where.program or "" for where in compared.where]
    name = compared.where[0].value or ""
    if not all(map(is_command_source, sources)):
        return f"print(gt.partners(teacher, student, {string_literal(name)}))"
    suggest = shell_command("graphtool", "suggest-pairs", *map(path_argument, sources))
    return f"{suggest} {shell_option('--for', name)}"


def _shape_fix_of_call(use: LossUse, compared: _Compared, axes: list[int]) -> str:
    takes, call = use.spec.takes, f"gt.losses.{use.name}"
    if not axes:
        return f"help({call})"
    (teacher, student), (shape, student_shape) = compared.codes, compared.shapes
    rank, adapters = len(shape), "gt.losses.adapters"
    if takes.flows:
        # Channels are compared between the networks, sizes within each.
        if axes == [1]:
            return f"{adapters}.conv1x1({student}, {shape[1]})"
        return f"{adapters}.resize({teacher}, {student})"
    if use.name == "attention_relation" and axes == [1]:
        return use.with_options(compared.codes, heads=gcd(shape[1], student_shape[1]))
    if not (takes.logits or takes.heads):
        if rank == 4 and axes == [1]:
            return f"{call}({teacher}, {adapters}.conv1x1({student}, {shape[1]}))"
        if rank == 4 and 1 not in axes:
            return f"{call}(*{adapters}.resize_to_smaller({teacher}, {student}))"
        if rank < 4 and axes == [rank - 1]:
            return f"{call}({teacher}, {adapters}.linear({student}, {shape[-1]}))"
    return use.with_loss("similarity", compared.codes)


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
    use: LossUse, takes: OperandSpec, pair: Both[Operand], alignment: Alignment
) -> Iterator[Diagnostic]:
    """Yield the operands that hold probabilities, unless an adapter changes them."""
    from_probs = use.options.get("from_probs")
    logits = [one.code if one.logits is None else string_literal(one.logits.logits) for one in pair]
    found = [
        (role, one.where, one.logits)
        for role, one, same in zip(ROLES_OF["both"], pair, alignment.unchanged, strict=True)
        if same and one.logits is not None
    ]
    places = [where for _, where, source in found if source.function == "softmax"]
    if takes.prefers_logits and places:
        names = " and ".join(f"`{place.value}`" for place in places)
        yield probabilities(
            f"{names} {'hold' if len(places) > 1 else 'holds'} probabilities, and "
            f"`{use.name}` of them teaches next to nothing",
            places,
            severity=Severity.WARNING,
            help=use.with_loss("kl", logits, temperature=4.0),
        )
    # The loss refuses any other option.
    declared = ROLES_OF.get(from_probs) if isinstance(from_probs, str | None) else None
    if not takes.logits or declared is None:
        return
    # Scores after a sigmoid are never a distribution over classes.
    undeclared = [
        (role, where, source)
        for role, where, source in found
        if source.function == "sigmoid" or role not in declared
    ]
    if "from_probs" not in use.spec.options:
        fix = f"help(gt.losses.{use.name})"
    elif any(source.function == "sigmoid" for _, _, source in undeclared):
        fix = use.with_loss("l2", logits)
    else:
        roles = undeclared[0][0] if len(undeclared) == 1 and not from_probs else "both"
        fix = use.with_options([one.code for one in pair], from_probs=roles)
    for _, where, source in undeclared:
        yield probabilities(
            f"`{where.value}` holds probabilities, and `{use.name}` takes the logits before "
            f"{source.function}",
            where,
            notes=(f"the input of {source.function} is `{source.logits}`",),
            help=fix,
        )


def _frozen_student(use: LossUse, pairs: Sequence[Both[Operand]]) -> Diagnostic:
    student = pairs[0].student
    fix = 'student = gt.for_training("student.json")  # before the merge'
    if any(pair.teacher.is_trainable for pair in pairs):
        swapped = [pair.student.swapped_code for pair in pairs]
        swapped += [pair.teacher.swapped_code for pair in pairs]
        fix = use.with_loss(use.name, swapped)
    elif student.is_feed:
        fix = "graphtool suggest-pairs TEACHER STUDENT  # a feed is computed from no parameter"
    message = f"the student's side of `{use.name}`, `{student.where.value}`, gets no gradient"
    return frozen_student(message, student.where, help=fix)


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


@documented("GT228", replaces=("GT349", "GT369", "GT513"))
def probabilities() -> None:
    """A Value went through softmax or sigmoid, and losses want the logits before it.

    `soft_label`, `dkd` and others apply softmax themselves. A second softmax flattens the
    distribution, and the loss teaches next to nothing. Name the logits, or pass
    `from_probs="teacher"` (or `"student"`, or `"both"`). After a sigmoid each score stands for
    itself: compare the logits before it with `l2`.

    `l2` of probabilities is a warning: its gradient vanishes where a network is sure. Use `kl`
    or `soft_label` with a temperature.
    """


@documented("GT333", replaces=("GT331", "GT332", "GT343", "GT344"))
def pair_shape() -> None:
    """A loss cannot compare two Values of these ranks or dims, after the adapter if there is one.

    `help(gt.losses.l2)` and so on say which shapes a loss takes. For equal ranks pool a map to
    a vector, or reshape tokens to a map. A 1 × 1 convolution or a linear layer on the student's
    side brings it to the teacher's channels, as `hint` does itself; an interpolation brings a
    map to another size. `similarity` compares any shapes of one batch.

    A dim of 1 on one side would be broadcast, and the loss would have no meaning. The batch is
    not compared here, and unknown dims are at run time.
    """


@documented("GT334", replaces=("GT345",))
def pair_dtype() -> None:
    """The Values of a loss have different dtypes, or are not floating-point.

    Cast one before the loss. Only float16 and bfloat16 go together with float32: they are computed
    in float32.
    """


@documented("GT335")
def constant_loss() -> None:
    """A loss is constant, whatever the student does, because it compares too few numbers.

    A softmax over one class is always 1, two standardised classes are always equally far apart,
    and attention over one position has nothing to choose from. Compare scores of one class, as
    in text maps and foreground masks, by `l2`, before their sigmoid.
    """


@documented("GT336", replaces=("GT354",))
def unknown_axis() -> None:
    """The class axis of the logits, or the size of a dim that the loss needs, is unknown.

    The class axis of [N, classes] is the last. For other Values it follows from the layers
    around them: a convolution and its `data_format`, a linear layer, a transpose. It is unknown
    for inputs, for classes that are reshaped together with other dims, or if a layer mixes
    another axis: pass `axis=`.

    A loss that is built from the number of classes or channels must know it: give
    `paddle.static.data` the size, or reshape the Value.
    """


@documented("GT348")
def frozen_student() -> None:
    """No gradient passes through the student's side of a loss, so the loss trains nothing.

    The two sides may be swapped: the teacher comes first. Otherwise the Value depends on no
    trainable parameter, as in a student loaded from an inference model, which `gt.for_training`
    makes trainable, or only through a step function: class numbers, signs, rounded values.
    """
