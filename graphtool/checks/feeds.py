"""Rules about the feed map, which maps teacher feeds to the student feeds that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphtool.checks.guess import are_shareable, corrected_feed_map, nearest_feed
from graphtool.checks.locations import (
    LISTED,
    feed_map_argument,
    format_shape,
    in_student,
    in_teacher,
    mapped_feeds,
    of_student,
    of_teacher,
)
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity, listed
from graphtool.graph import Graph, Value, dims_agree
from graphtool.lookalikes import alike_notes
from graphtool.structure import label_feeds
from graphtool.text import string_literal

__all__ = [
    "feed_dtype",
    "feed_lod",
    "feed_rank",
    "feed_shape",
    "label_left_out",
    "not_a_feed",
    "teacher_feed_left_out",
    "two_feeds_on_one",
    "unknown_student_feed",
    "unknown_teacher_feed",
]


def _corrected_argument(plan: MergePlan) -> str:
    """Return the code of the most likely intended feed map as an argument."""
    return feed_map_argument(corrected_feed_map(plan))


@check("GT210")
def unknown_teacher_feed(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map names a teacher feed that the teacher does not have.

    Its keys are teacher feed names, its values student feed names. `graphtool inspect TEACHER`
    lists the feeds.
    """
    for name, student in plan.feed_map:
        if name in plan.teacher.feeds:
            continue
        yield Diagnostic(
            message=f"the teacher has no feed `{name}`",
            where=(of_teacher(plan),),
            notes=(
                _feeds_note("teacher", plan.teacher),
                *alike_notes(name, plan.teacher.feeds),
                *_swapped_note(plan, name, student),
            ),
            help=_corrected_argument(plan),
        )


def _feeds_note(role: str, graph: Graph) -> str:
    if not graph.feeds:
        return f"the {role} has no feeds"
    return f"the {role}'s feeds: {', '.join(f'`{name}`' for name in graph.feeds)}"


def _swapped_note(plan: MergePlan, teacher: str, student: str) -> tuple[str, ...]:
    """Return a note if the feed map goes from student to teacher."""
    if teacher in plan.student.feeds and student in plan.teacher.feeds:
        return ("a feed map goes from teacher to student; this looks the other way round",)
    return ()


@check("GT211")
def unknown_student_feed(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map names a student feed, and nothing in the student has that name.

    Its keys are teacher feed names, its values student feed names. `graphtool inspect STUDENT`
    lists the feeds.
    """
    for teacher, name in plan.feed_map:
        if name in plan.student.values:
            continue
        yield Diagnostic(
            message=f"the student has no feed `{name}`, which teacher feed `{teacher}` is to share",
            where=(of_student(plan),),
            notes=(
                _feeds_note("student", plan.student),
                *alike_notes(name, plan.student.feeds),
            ),
            help=_corrected_argument(plan),
        )


@check("GT212")
def not_a_feed(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map sends a teacher feed to a student Value that is computed, not fed.

    The teacher would read what the student makes, and change as the student is trained.
    """
    for _, name in plan.feed_map:
        value = plan.student.values.get(name)
        if value is None or name in plan.student.feeds:
            continue
        yield Diagnostic(
            message=f"`{name}` is no feed of the student, but a Value that it computes or keeps",
            where=(in_student(plan, value),),
            notes=(_feeds_note("student", plan.student),),
            help=_corrected_argument(plan),
        )


@check("GT213")
def teacher_feed_left_out(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map leaves out a feed of the teacher.

    Where a student feed fits it, it was most likely forgotten: an error. Where none does, the
    merged Program has one feed more, under the teacher's prefix, and each run has to give it. Map
    the feed onto that name, `{"mask": "teacher_mask"}`, to say that this is meant.
    """
    for old, new in _unmapped_feeds(plan):
        if old not in label_feeds(plan.teacher):
            yield _unmapped_feed(plan, old, new, "feed")


@check("GT214")
def label_left_out(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map leaves out a label, which the teacher's own loss reads.

    The teacher still computes its loss: map its label onto the student's, or build the teacher
    without its loss (save it as an inference model, with its logits as output).
    """
    for old, new in _unmapped_feeds(plan):
        if old in label_feeds(plan.teacher):
            yield _unmapped_feed(plan, old, new, "label")


def _unmapped_feeds(plan: MergePlan) -> Iterator[tuple[str, str]]:
    """Return old and new names of the feeds that are neither shared nor explicitly separate."""
    return ((old, new) for old, new in plan.unmapped_feeds if old not in plan.separate_feeds)


def _unmapped_feed(plan: MergePlan, old: str, new: str, noun: str) -> Diagnostic:
    value = plan.teacher.values[old]
    nearest = _free_student_feed(plan, value, old)
    if nearest is None:
        note = f"no student feed fits: the merged Program wants `{new}` fed in each run"
    else:
        shape = format_shape(plan.student.values[nearest].shape)
        note = f"nearest of the student's: `{nearest}` {shape}"
    return Diagnostic(
        message=f"the feed map leaves out the teacher's {noun} `{old}`",
        severity=Severity.WARNING if nearest is None else Severity.ERROR,
        where=(in_teacher(plan, value, old),),
        notes=(note,),
        help=_corrected_argument(plan),
    )


def _free_student_feed(plan: MergePlan, value: Value, name: str) -> str | None:
    """Return the most likely student feed for an unmapped one, unless another is mapped to it."""
    if name in plan.student.feeds and are_shareable(value, plan.student.values[name]):
        return name
    nearest = nearest_feed(value, name, plan.student)
    taken = {new for old, new in plan.feed_map if old in plan.teacher.feeds}
    if nearest is None or nearest in taken:
        return None
    return nearest if are_shareable(value, plan.student.values[nearest]) else None


@check("GT215")
def two_feeds_on_one(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map sends two teacher feeds to one student feed: both read the same data."""
    by_student: dict[str, list[str]] = {}
    for teacher, student in plan.feed_map:
        by_student.setdefault(student, []).append(teacher)
    for student, teachers in by_student.items():
        if len(teachers) > 1:
            names = listed(teachers, LISTED)
            yield Diagnostic(
                message=f"teacher feeds {names} all read student feed `{student}`",
                severity=Severity.WARNING,
                where=(in_student(plan, plan.student.values.get(student), student),),
                notes=(_feeds_note("student", plan.student),),
            )


@check("GT216")
def feed_rank(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher feed and the student feed that it shares have different ranks."""
    for teacher, student in mapped_feeds(plan):
        if teacher.shape is None or student.shape is None:
            continue
        if len(teacher.shape) != len(student.shape):
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` has rank {len(teacher.shape)}, student "
                f"feed `{student.name}` rank {len(student.shape)}",
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                help=_corrected_argument(plan),
            )


@check("GT217")
def feed_shape(plan: MergePlan) -> Iterator[Diagnostic]:
    """A known dim of a teacher feed is not that of the student feed that it shares.

    The batch, which is the first dim, has a rule of its own: see GT220. A dim that is not known
    agrees with any. Two networks for images of two sizes see the same picture only where both are
    built for one of them.
    """
    for teacher, student in mapped_feeds(plan):
        axes = _differing_axes(teacher, student)
        if axes:
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` is {format_shape(teacher.shape)}, "
                f"student feed `{student.name}` {format_shape(student.shape)}: "
                f"{_differing_dims(axes)}",
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                notes=(_ONE_SIZE,) if len(teacher.shape or ()) > 3 and min(axes) > 1 else (),
                help=_corrected_argument(plan),
            )


_ONE_SIZE = "build both networks for one size of image; else the teacher is fed apart"


def _differing_dims(axes: Sequence[int]) -> str:
    if len(axes) == 1:
        return f"dim {axes[0]} differs"
    return f"dims {', '.join(map(str, axes))} differ"


def _differing_axes(teacher: Value, student: Value) -> list[int]:
    if not teacher.shape or not student.shape or len(teacher.shape) != len(student.shape):
        return []
    dims = enumerate(zip(teacher.shape, student.shape, strict=True))
    return [axis for axis, pair in dims if axis and not dims_agree(*pair)]


@check("GT218")
def feed_dtype(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher feed and the student feed that it shares have different dtypes.

    Paddle does not convert what is fed, nor does it complain: the teacher computes with what its
    kernels make of the other dtype.
    """
    for teacher, student in mapped_feeds(plan):
        if None not in (teacher.dtype, student.dtype) and teacher.dtype != student.dtype:
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` is {teacher.dtype}, student feed "
                f"`{student.name}` {student.dtype}",
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                help=_corrected_argument(plan),
            )


@check("GT219")
def feed_lod(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher feed has levels of detail (LoD) that the student feed does not have, or other ones.

    Sequence operators of legacy programs read where each sequence ends from the LoD of what is fed.
    """
    for teacher, student in mapped_feeds(plan):
        if teacher.lod_level != student.lod_level:
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` has lod_level {teacher.lod_level}, student "
                f"feed `{student.name}` {student.lod_level}",
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                help=f"paddle.static.data({string_literal(student.name)}, ..., "
                f"lod_level={teacher.lod_level})",
            )
