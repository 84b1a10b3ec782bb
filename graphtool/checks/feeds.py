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
from graphtool.diagnostics import Diagnostic, Severity, Where, listed, rule
from graphtool.graph import Graph, Value, dims_agree
from graphtool.structure import label_feeds
from graphtool.text import string_literal

__all__ = [
    "feed_dtype",
    "feed_left_out",
    "feed_lod",
    "feed_shape",
    "two_feeds_on_one",
    "unknown_feed",
]


def _corrected_argument(plan: MergePlan) -> str:
    """Return the code of the most likely intended feed map as an argument."""
    return feed_map_argument(corrected_feed_map(plan))


@rule("GT210", replaces=("GT211", "GT212", "GT252"))
def unknown_feed(
    message: str, *, where: Sequence[Where] = (), notes: Sequence[str] = (), help: str
) -> Diagnostic:
    """A name in a feed map, or in the feed of `verify`, is not a feed.

    A feed map maps teacher feeds to student feeds. `graphtool inspect MODEL` lists the feeds of a
    network. A Value that the student computes is not a feed either: the teacher would read it, and
    change as the student is trained.

    `merged.verify(feed)` takes the feed names of the merged Program.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@check("GT210")
def _find_unknown_feeds(plan: MergePlan) -> Iterator[Diagnostic]:
    for name, student in plan.feed_map:
        if name not in plan.teacher.feeds:
            yield unknown_feed(
                f"the teacher has no feed `{name}`",
                where=(of_teacher(plan),),
                notes=(
                    _feeds_note("teacher", plan.teacher),
                    *_swapped_note(plan, name, student),
                ),
                help=_corrected_argument(plan),
            )
    for teacher, name in plan.feed_map:
        value = plan.student.values.get(name)
        feeds = _feeds_note("student", plan.student)
        if value is None:
            yield unknown_feed(
                f"the student has no feed `{name}` for teacher feed `{teacher}`",
                where=(of_student(plan),),
                notes=(feeds,),
                help=_corrected_argument(plan),
            )
        elif name not in plan.student.feeds:
            yield unknown_feed(
                f"`{name}` is not a feed: the student computes or keeps it",
                where=(in_student(plan, value),),
                notes=(feeds,),
                help=_corrected_argument(plan),
            )


def _feeds_note(role: str, graph: Graph) -> str:
    if not graph.feeds:
        return f"the {role} has no feeds"
    return f"the {role}'s feeds: {', '.join(f'`{name}`' for name in graph.feeds)}"


def _swapped_note(plan: MergePlan, teacher: str, student: str) -> tuple[str, ...]:
    """Return a note if the feed map goes from student to teacher."""
    if teacher in plan.student.feeds and student in plan.teacher.feeds:
        return ("a feed map goes from teacher to student; this one is the other way round",)
    return ()


@rule("GT213", replaces=("GT214", "GT603"))
def feed_left_out(
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    where: Sequence[Where] = (),
    notes: Sequence[str],
    help: str,
) -> Diagnostic:
    """The feed map leaves out a teacher feed, or cannot be guessed.

    It is an error if a student feed fits. If none does, the merged Program has an additional feed,
    under the teacher's prefix, which each run has to provide. Map the feed to that name,
    `{"mask": "teacher_mask"}`, to say that this is meant. Map the label of a teacher with a loss to
    the student's, or save the teacher without its loss.

    The command line guesses a pair if the names agree, or if only one student feed has the shape
    and dtype. Otherwise pass `--feed TEACHER_FEED=STUDENT_FEED` for each.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


@check("GT213")
def _find_feeds_left_out(plan: MergePlan) -> Iterator[Diagnostic]:
    for old, new in plan.unmapped_feeds:
        if old in plan.separate_feeds:
            continue
        value = plan.teacher.values[old]
        nearest = _free_student_feed(plan, value, old)
        if nearest is None:
            note = f"no student feed fits: each run of the merged Program has to feed `{new}`"
        else:
            shape = format_shape(plan.student.values[nearest].shape)
            note = f"nearest student feed: `{nearest}` {shape}"
        noun = "label" if old in label_feeds(plan.teacher) else "feed"
        yield feed_left_out(
            f"the feed map leaves out the teacher's {noun} `{old}`",
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
    """The feed map maps two teacher feeds to one student feed: both read the same data."""
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


@check("GT217", replaces=("GT216",))
def feed_shape(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher feed and the student feed mapped to it have different ranks or dims.

    An unknown dim agrees with any other; the first dim, the batch, is not compared here. Build both
    networks for one image size, or feed the teacher separately.
    """
    for teacher, student in mapped_feeds(plan):
        axes = _differing_axes(teacher, student)
        if None not in (teacher.shape, student.shape) and _rank(teacher) != _rank(student):
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` has rank {_rank(teacher)}, student "
                f"feed `{student.name}` rank {_rank(student)}",
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                help=_corrected_argument(plan),
            )
        elif axes:
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` is {format_shape(teacher.shape)}, "
                f"student feed `{student.name}` {format_shape(student.shape)}: "
                f"{_differing_dims(axes)}",
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                notes=(_ONE_SIZE,) if _rank(teacher) > 3 and min(axes) > 1 else (),
                help=_corrected_argument(plan),
            )


_ONE_SIZE = "build both networks for one image size, or feed the teacher separately"


def _rank(value: Value) -> int:
    return len(value.shape or ())


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
    """A teacher feed and the student feed mapped to it have different dtypes.

    Paddle neither converts the fed data nor reports it: the teacher's kernels misread it.
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
    """A teacher feed and the student feed mapped to it have different LoD levels.

    Sequence operators of legacy programs read from the LoD (levels of detail) where each sequence
    ends.
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
