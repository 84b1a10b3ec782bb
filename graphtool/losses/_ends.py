"""Both ends of a loss, found and checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from inspect import signature
from math import gcd, isfinite
from numbers import Real
from typing import Any, ParamSpec, TypeAlias

from graphtool.checks.fits import is_computed, misranked, too_few, unequal, unknown_dims
from graphtool.checks.layouts import class_axes, class_axis, is_axis, moved
from graphtool.checks.pair_problems import (
    constant_loss,
    frozen_student,
    unknown_dim,
    which_axis,
)
from graphtool.checks.probabilities import SAID, unsaid_probabilities
from graphtool.diagnostics import Diagnostic, PairError, UsageError
from graphtool.graph import HALVES, UNKNOWN
from graphtool.loss_names import Takes, channel_axis, named_losses
from graphtool.losses import _ops as ops
from graphtool.losses import problems
from graphtool.losses._building import all_or_nothing
from graphtool.losses._learning import learns
from graphtool.losses._values import (
    dtype_of,
    gathered,
    home_of,
    normalised_before,
    of_student,
    of_teacher,
    own,
    place_of,
    require_trainable_program,
    shape_of,
    spelt,
)
from graphtool.merging._failures import paddle_failures
from graphtool.readers._paddle import is_legacy, load_paddle
from graphtool.text import literal

__all__ = [
    "built_whole",
    "check_options",
    "class_ends",
    "ends",
    "frozen",
    "in_float32",
    "misfits",
    "of_probabilities",
    "prepared",
    "refuse",
    "resolved",
    "taken",
    "unlike",
    "unlike_dtypes",
]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
_P = ParamSpec("_P")
_Both: TypeAlias = tuple[tuple[_Paddle, str], tuple[_Paddle, str]]


def built_whole(loss: Callable[_P, _Paddle]) -> Callable[_P, _Paddle]:
    """Build a loss whole or not at all, and as it is written: `paddle.amp.auto_cast` is undone."""
    called = signature(loss)

    @wraps(loss)
    def build(*args: _P.args, **kwargs: _P.kwargs) -> _Paddle:
        # A call that does not fit is Python's to refuse.
        called.bind(*args, **kwargs)
        static = load_paddle().static
        programs = static.default_main_program(), static.default_startup_program()
        whole = all_or_nothing(*programs)
        with paddle_failures(PairError, loss.__name__), whole, _without_casts():
            return loss(*args, **kwargs)

    return build


def _without_casts() -> AbstractContextManager[None]:
    paddle = load_paddle()
    # What `auto_cast` does to PIR Values, `static.amp.decorate` does to legacy Programs, later.
    if is_legacy(paddle.static.default_main_program()):
        return nullcontext()
    return paddle.amp.auto_cast(enable=False)


def taken(loss: str, **options: object) -> Takes:
    """Return what a loss that pairs can name takes with these options."""
    return named_losses()[loss].taken(options)


def ends(
    loss: str,
    teacher: object,
    student: object,
    *,
    takes: Takes | None = None,
    from_probs: str | None = None,
) -> tuple[_Paddle, _Paddle]:
    """Return the Values of both ends, checked, the teacher's frozen, ready to be compared.

    `takes` is what a loss takes that pairs cannot name.

    Raises ReadError, UsageError and PairError, with nothing built: GT340 to GT345, GT348 to GT352,
    GT354.
    """
    values = resolved(loss, {"teacher": teacher}, {"student": student})
    wanted = taken(loss) if takes is None else takes
    refuse(misfits(loss, wanted, values[0], values[1], from_probs=from_probs))
    left, right = prepared(*values)
    return left, right


def class_ends(
    loss: str, teacher: object, student: object, *, axis: object, from_probs: str | None
) -> tuple[_Paddle, _Paddle]:
    """Return what `ends` does for a loss over classes on any axis, brought to the end.

    Where `axis` is None it is found from the layers of the networks that the Values are of.

    Raises what `ends` does, UsageError GT347, PairError GT336.
    """
    values = resolved(loss, {"teacher": teacher}, {"student": student})
    takes, found = taken(loss), _class_axis(loss, axis, values[0], values[1])
    if found is None:
        both = (values[0], "teacher"), (values[1], "student")
        listed = ", ".join(spelt(*end) for end in both)
        call = f"gt.losses.{loss}({listed}, axis={channel_axis(len(shape_of(values[0])))})"
        raise PairError(which_axis(loss, [place_of(*end) for end in both], call))
    refuse(misfits(loss, takes, values[0], values[1], from_probs=from_probs, axis=found))
    left, right = (
        ops.transposed(value, moved(len(shape_of(value)), found, len(shape_of(value)) - 1))
        for value in prepared(*values)
    )
    return left, right


def _class_axis(loss: str, axis: object, teacher: _Paddle, student: _Paddle) -> int | None:
    """Return the axis of the classes of two Values, None where it would be a guess."""
    shapes = shape_of(teacher), shape_of(student)
    rank = len(shapes[0])
    if len(shapes[1]) != rank or rank < 2:
        return rank - 1  # which is refused for its rank
    if axis is not None:
        if not is_axis(axis, rank):
            wanted = f"the axis of the classes, from 1 to {rank - 1}, or None"
            raise UsageError(problems.bad_option(loss, "axis", axis, wanted))
        return int(axis) % rank
    if rank == 2:
        return 1
    homes = home_of(teacher), home_of(student)
    found = class_axes(shapes, [None if home is None else class_axis(*home) for home in homes])
    return found[0] if found[0] == found[1] else None


def resolved(
    loss: str, teacher: Mapping[str, object], student: Mapping[str, object]
) -> list[_Paddle]:
    """Find the Values of a loss, by the names of its arguments, the teacher's first.

    Raises what `of_teacher`, `of_student` and `require_trainable_program` do, UsageError GT341.
    """
    require_trainable_program(loss)
    return gathered(
        [partial(_found, of_teacher, given, argument) for argument, given in teacher.items()]
        + [partial(_found, of_student, given, argument) for argument, given in student.items()]
    )


def _found(find: Callable[[object, str], _Paddle], given: object, argument: str) -> _Paddle:
    return own(find(given, argument), argument)


def misfits(
    loss: str,
    takes: Takes,
    teacher: _Paddle,
    student: _Paddle,
    *,
    from_probs: str | None = None,
    axis: int = -1,
) -> Iterator[Diagnostic]:
    """Yield all that stands against comparing two Values; `axis` is that of classes."""
    both: _Both = (teacher, "teacher"), (student, "student")
    yield from unlike(loss, takes, both, axis)
    yield from unlike_dtypes(loss, both)
    if not learns(student):
        yield frozen(loss, [teacher], [student])
    if takes.logits:
        yield from _probabilities(loss, both, from_probs)


def _probabilities(loss: str, both: _Both, from_probs: str | None) -> Iterator[Diagnostic]:
    before = [normalised_before(value) for value, _ in both]
    found = {
        place_of(*end): told for end, told in zip(both, before, strict=True) if told is not None
    }

    def call(side: str) -> str:
        return f'gt.losses.{loss}({", ".join(spelt(*end) for end in both)}, from_probs="{side}")'

    names = (
        spelt(*end) if told is None else literal(told.logits)
        for end, told in zip(both, before, strict=True)
    )
    instead = f"gt.losses.l2({', '.join(names)})"
    yield from unsaid_probabilities(loss, found, from_probs, call, instead)


def of_probabilities(teacher: _Paddle, student: _Paddle) -> Iterator[Diagnostic]:
    """Yield a doubt where l2 compares class scores of which some went through softmax."""
    both = (teacher, "teacher"), (student, "student")
    found = [normalised_before(value) for value, _ in both]
    before = [told if told is not None and told.by == "softmax" else None for told in found]
    if any(before):
        logits = [
            spelt(*end) if told is None else literal(told.logits)
            for end, told in zip(both, before, strict=True)
        ]
        where = [place_of(*end) for end, told in zip(both, before, strict=True) if told]
        yield problems.l2_of_probabilities(where, logits)


def frozen(loss: str, teacher: Sequence[_Paddle], student: Sequence[_Paddle]) -> Diagnostic:
    """Say that no gradient passes the student's side; if it does the other, they are swapped."""
    swapped = any(map(learns, teacher))
    ends = [(value, "teacher") for value in student] + [(value, "student") for value in teacher]
    call = f"gt.losses.{loss}({', '.join(spelt(*end) for end in ends)})" if swapped else None
    return frozen_student(loss, place_of(student[0], "student"), call)


def unlike(loss: str, takes: Takes, both: _Both, axis: int = -1) -> Iterator[Diagnostic]:
    """Yield what is wrong with the shapes of two Values, each with its role.

    The dims that only the end counts for are meant with `axis` there.
    """
    shapes = shape_of(both[0][0]), shape_of(both[1][0])
    if wrong := misranked(takes, shapes):
        yield problems.loss_rank(loss, takes.ranks, [place_of(*both[at]) for at in wrong])
        return
    if takes.equal_ranks and len(shapes[0]) != len(shapes[1]):
        yield problems.loss_rank(loss, None, [place_of(*end) for end in both])
        return
    if axes := unequal(takes, *shapes):
        sides = place_of(*both[0]), place_of(*both[1])
        yield problems.loss_shape(loss, sides, axes, _way_out(loss, takes, both, axes))
    orders = [moved(len(shape), axis % len(shape), len(shape) - 1) for shape in shapes]
    laid_out = [tuple(shape[at] for at in o) for shape, o in zip(shapes, orders, strict=True)]
    count = too_few(takes, laid_out)
    if takes.least is not None and count is not None and not axes:
        other = "l2" if shapes[0] == shapes[1] else "similarity"
        call = f"gt.losses.{other}({', '.join(spelt(*end) for end in both)})"
        yield constant_loss(loss, [place_of(*end) for end in both], takes.least, count, call)
    for (value, role), shape, order in zip(both, laid_out, orders, strict=True):
        for at in unknown_dims(takes, role, shape):
            yield unknown_dim(loss, place_of(value, role), order[at])


def _way_out(loss: str, takes: Takes, both: _Both, axes: list[int]) -> str:
    """Say how a pair of such shapes is compared after all."""
    shape = shape_of(both[0][0])
    rank, teacher, student = len(shape), spelt(*both[0]), spelt(*both[1])
    adapters, call = "gt.losses.adapters", f"gt.losses.{loss}"
    if takes.flows:
        # It compares channels between the networks, and sizes within each.
        if axes == [1]:
            return f"{adapters}.conv1x1({student}, {shape[1]})"
        return f"{adapters}.resize({teacher}, {student})"
    if loss == "attention_relation" and axes == [1]:
        return f"{call}({teacher}, {student}, heads={gcd(shape[1], shape_of(both[1][0])[1])})"
    if takes.logits or takes.heads:
        return f"gt.losses.similarity({teacher}, {student})"
    if rank == 4 and axes == [1]:
        return f"{call}({teacher}, {adapters}.conv1x1({student}, {shape[1]}))"
    if rank == 4 and 1 not in axes:
        return f"{call}(*{adapters}.resize_to_smaller({teacher}, {student}))"
    if rank < 4 and axes == [rank - 1]:
        return f"{call}({teacher}, {adapters}.linear({student}, {shape[-1]}))"
    return f"gt.losses.similarity({teacher}, {student})"


def unlike_dtypes(loss: str, ends: Sequence[tuple[_Paddle, str]]) -> Iterator[Diagnostic]:
    """Yield a problem where dtypes differ or are no floating-point ones."""
    dtypes = [dtype_of(value) for value, _ in ends]
    if not is_computed(dtypes):
        yield problems.loss_dtype(loss, [place_of(*end) for end in ends], dtypes)


def refuse(found: Iterable[Diagnostic]) -> None:
    """Raise PairError with all problems, if there are any."""
    if listed := tuple(found):
        raise PairError(*listed)


def prepared(*values: _Paddle) -> list[_Paddle]:
    """Make checked Values ready to be compared: the first half of them is the teacher's.

    The teacher's are frozen. Those of low precision become float32, for a sum over a map is more
    than float16 holds. Where the batches are known and differ, as for a teacher that was
    exported at another one, they are compared in the run.
    """
    half = len(values) // 2
    ready = [ops.frozen(value) for value in values[:half]] + list(values[half:])
    ready = [in_float32(value) for value in ready]
    if len({shape_of(value)[0] for value in ready} - {UNKNOWN}) > 1:
        ready = [ops.with_free_batch(value) for value in ready]
    return ready


def in_float32(value: _Paddle) -> _Paddle:
    """Return a Value of low precision in float32, any other as it is."""
    return ops.cast(value, "float32") if dtype_of(value) in HALVES else value


def check_options(
    loss: str,
    *,
    positive: Mapping[str, object] | None = None,
    weights: Mapping[str, object] | None = None,
    from_probs: object = None,
) -> None:
    """Refuse options that the formula of a loss has no meaning for, all of them at once.

    `positive` are numbers above 0, `weights` numbers of 0 and more, not all of them 0; all are
    finite.

    Raises UsageError GT347.
    """
    found = [
        *_no_numbers(loss, positive or {}, "a finite number above 0", lambda given: given > 0),
        *_no_numbers(loss, weights or {}, "a finite number of 0 or more", lambda given: given >= 0),
    ]
    if weights and not found and not any(weights.values()):
        wanted = f"a weight above 0 here or for `{list(weights)[-1]}`"
        found.append(problems.bad_option(loss, next(iter(weights)), 0, wanted))
    # A Value of PIR is compared by an operator, which would be built.
    if not (from_probs is None or isinstance(from_probs, str)) or from_probs not in SAID:
        wanted = '"teacher", "student", "both" or None'
        found.append(problems.bad_option(loss, "from_probs", from_probs, wanted))
    if found:
        raise UsageError(*found)


def _no_numbers(
    loss: str, options: Mapping[str, object], wanted: str, holds: Callable[[float], bool]
) -> Iterator[Diagnostic]:
    for option, given in options.items():
        number = _number(given)
        if number is None or not isfinite(number) or not holds(number):
            yield problems.bad_option(loss, option, given, wanted)


def _number(given: object) -> float | None:
    return float(given) if not isinstance(given, bool) and isinstance(given, Real) else None
