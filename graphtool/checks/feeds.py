"""Rules about the feed map, which maps teacher feeds to the student feeds that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import (
    LISTED,
    about_operators,
    at_operator,
    check,
    feed_map_argument,
    format_shape,
    in_student,
    in_teacher,
    mapped_feeds,
    of_student,
    of_teacher,
)
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import (
    UNKNOWN_DIM,
    Graph,
    Operator,
    Origin,
    ProgramKind,
    Shape,
    Value,
    dims_agree,
    shapes_agree,
)
from graphtool.ops import VIEWS, is_training, kind_of, written_operand
from graphtool.structure import label_feeds
from graphtool.text import closest, string_literal

__all__ = ["FeedGuess", "feed_left_out", "guess_feed_map", "guess_feeds", "unknown_feed"]


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
            notes = [_feeds_note("teacher", plan.teacher)]
            if name in plan.student.feeds and student in plan.teacher.feeds:
                notes.append(
                    "a feed map goes from teacher to student; this one is the other way round"
                )
            yield unknown_feed(
                f"the teacher has no feed `{name}`",
                where=(of_teacher(plan),),
                notes=notes,
                help=feed_map_argument(corrected_feed_map(plan)),
            )
    for teacher, name in plan.feed_map:
        value = plan.student.values.get(name)
        feeds = _feeds_note("student", plan.student)
        if value is None:
            yield unknown_feed(
                f"the student has no feed `{name}` for teacher feed `{teacher}`",
                where=(of_student(plan),),
                notes=(feeds,),
                help=feed_map_argument(corrected_feed_map(plan)),
            )
        elif name not in plan.student.feeds:
            yield unknown_feed(
                f"`{name}` is not a feed: the student computes or keeps it",
                where=(in_student(plan, value),),
                notes=(feeds,),
                help=feed_map_argument(corrected_feed_map(plan)),
            )


def _feeds_note(role: str, graph: Graph) -> str:
    if not graph.feeds:
        return f"the {role} has no feeds"
    return f"the {role}'s feeds: {', '.join(f'`{name}`' for name in graph.feeds)}"


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
            help=feed_map_argument(corrected_feed_map(plan)),
        )


def _free_student_feed(plan: MergePlan, value: Value, name: str) -> str | None:
    """Return the most likely student feed for an unmapped one, unless another is mapped to it."""
    if name in plan.student.feeds and are_shareable(value, plan.student.values[name]):
        return name
    nearest = _nearest_feed(value, name, plan.student)
    taken = {new for old, new in plan.feed_map if old in plan.teacher.feeds}
    return None if nearest in taken else nearest


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
                help=feed_map_argument(corrected_feed_map(plan)),
            )
        elif axes:
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` is {format_shape(teacher.shape)}, "
                f"student feed `{student.name}` {format_shape(student.shape)}: "
                f"{_differing_dims(axes)}",
                where=(in_teacher(plan, teacher), in_student(plan, student)),
                notes=(_ONE_SIZE,) if _rank(teacher) > 3 and min(axes) > 1 else (),
                help=feed_map_argument(corrected_feed_map(plan)),
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
                help=feed_map_argument(corrected_feed_map(plan)),
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


@check("GT220", replaces=("GT221", "GT234"))
def fixed_size(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher was built for one batch size or image size, and the student takes others.

    Most operators take any size, but a reshape to the fixed batch, a linear layer on a flattened
    map, or position embeddings stop the run or mix samples. Build the teacher with dims of -1, or
    feed the student that size only. Listed teacher shapes are those of the build.

    To feed the teacher its own image size, map its feed to its name with the prefix.
    """
    batches: dict[int, int] = {}
    for teacher, student in mapped_feeds(plan):
        if not teacher.shape or not student.shape:
            continue
        where = (in_teacher(plan, teacher), in_student(plan, student))
        batch, student_batch = teacher.shape[0], student.shape[0]
        if len(teacher.shape) > 1:
            batches[batch] = student_batch
            if batch not in (UNKNOWN_DIM, student_batch):
                yield Diagnostic(
                    message=f"teacher feed `{teacher.name}` has a fixed batch of {batch}, student "
                    f"feed `{student.name}` "
                    f"{'any' if student_batch == UNKNOWN_DIM else student_batch}",
                    severity=Severity.WARNING,
                    where=where,
                    help=f"paddle.static.data({string_literal(teacher.name)}, [-1, ...])"
                    "  # where it is built",
                )
        if _is_fixed(teacher.shape, student.shape):
            separate = {**dict(plan.feed_map), teacher.name: plan.prefix + teacher.name}
            yield Diagnostic(
                message=f"teacher feed `{teacher.name}` is {format_shape(teacher.shape)}, "
                f"student feed `{student.name}` {format_shape(student.shape)}, which takes any "
                "size",
                severity=Severity.WARNING,
                where=where,
                help=feed_map_argument(separate, "  # to feed the teacher its own size"),
            )
    baked = [
        operator
        for operator in plan.teacher.operators.values()
        if kind_of(operator) == "reshape" and _fixes_batch(plan.teacher, operator, batches)
    ]
    if baked:
        target = format_shape(_target_shape(plan.teacher, baked[0]))
        yield about_operators(
            f"the teacher has {counted(len(baked), 'reshape')} to a fixed batch: "
            f"`{baked[0].name}` to {target}",
            "teacher",
            plan.teacher,
            baked,
            help="x.reshape([-1, ...])  # or [0, ...] to keep the batch, where it is built",
        )


def _is_fixed(teacher: Shape, student: Shape) -> bool:
    """Return whether a dim other than the batch is known in the teacher's feed only."""
    if len(teacher) != len(student):
        return False
    dims = zip(teacher[1:], student[1:], strict=True)
    return any(student_dim == UNKNOWN_DIM != teacher_dim for teacher_dim, student_dim in dims)


def _fixes_batch(graph: Graph, operator: Operator, batches: Mapping[int, int]) -> bool:
    """Return whether a reshape keeps the fixed batch of its operand as a number."""
    target, source = _target_shape(graph, operator), next(iter(operator.operands), None)
    shape = None if source is None else graph.values[source].shape
    if not target or not shape:
        return False
    batch = target[0]
    return batch > 0 and batches.get(batch, batch) != batch and shape[0] == batch


def _target_shape(graph: Graph, operator: Operator) -> Shape | None:
    """Return the target shape of a reshape: an attribute, or in PIR a constant operand."""
    given = operator.attributes.get("shape")
    if given is None and len(operator.operands) > 1 and operator.operands[1] is not None:
        constant = graph.producer(operator.operands[1])
        given = constant.attributes.get("value") if constant else None
    if not isinstance(given, tuple):
        return None
    dims = tuple(dim for dim in given if isinstance(dim, int))
    return dims if len(dims) == len(given) else None


@check("GT233")
def overwritten_feed(plan: MergePlan) -> Iterator[Diagnostic]:
    """An in-place operator of one network overwrites a feed that the other one reads too.

    `x[:, 0] = 0` on a feed is such an operator in PIR. The other network, or its gradient, would
    read the new values. Map the teacher's feed to its own name with the prefix, and feed the same
    data to both. Legacy programs are merged with a copy of the feed instead.
    """
    if plan.kind is not ProgramKind.PIR:
        return
    fed = {"teacher": dict(plan.feed_map), "student": {new: old for old, new in plan.feed_map}}
    for role, graph in plan.networks:
        for feed, operator in _overwritten_feeds(graph):
            if feed in fed[role]:
                yield _overwritten_feed(plan, role, feed, operator)


def _overwritten_feed(plan: MergePlan, role: str, feed: str, operator: Operator) -> Diagnostic:
    graph = plan.teacher if role == "teacher" else plan.student
    other = "student" if role == "teacher" else "teacher"
    value_in = in_teacher if role == "teacher" else in_student
    teacher_feed = feed if role == "teacher" else {new: old for old, new in plan.feed_map}[feed]
    separate = {**dict(plan.feed_map), teacher_feed: plan.prefix + teacher_feed}
    return Diagnostic(
        message=f"`{operator.name}` of the {role} overwrites its feed `{feed}`, which the {other} "
        "reads too",
        where=(value_in(plan, graph.values[feed], feed), at_operator(role, graph, operator)),
        help=feed_map_argument(separate),
    )


def _overwritten_feeds(graph: Graph) -> Iterator[tuple[str, Operator]]:
    """Yield each overwritten feed of a PIR graph with the first operator that overwrites it."""
    if graph.kind is not ProgramKind.PIR:
        return
    aliases = dict(_aliases(graph))
    seen: set[str] = set()
    for operator in graph.operators.values():
        written = written_operand(operator)
        if written is None or operator.kind in VIEWS or is_training(operator):
            continue
        feed = written
        while feed in aliases:
            feed = aliases[feed]
        if graph.values[feed].origin is Origin.FEED and feed not in seen:
            seen.add(feed)
            yield feed, operator


def _aliases(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield each alias with the Value whose memory it uses: in-place results, loop arguments."""
    for operator in graph.operators.values():
        written = written_operand(operator)
        if written is not None and operator.results:
            yield operator.results[0], written
        if operator.kind == "while":
            for path in operator.blocks:
                arguments = graph.blocks[path].arguments
                # The operands begin with the loop's condition, which is no argument of the Block.
                pairs = zip(reversed(arguments), reversed(operator.operands), strict=False)
                for argument, operand in pairs:
                    if operand is not None:
                        yield argument, operand


_MIN_SIMILARITY = 0.6
# Only names near the same position are compared: comparing 400 names with each other takes 20 s.
_MAX_COMPARED = 16
_MAX_LISTED = 8


@dataclass(frozen=True, slots=True)
class FeedGuess:
    """A teacher feed, the student feed that it shares (None if none matches), and why."""

    teacher: str
    student: str | None
    why: str
    is_clear: bool = True


def guess_feed_map(teacher: Graph, student: Graph) -> Mapping[str, str] | None:
    """Return the only plausible feed map, None if there are several or none.

    `guess_feeds` gives the reasons.
    """
    guesses = guess_feeds(teacher, student)
    feed_map = {guess.teacher: guess.student for guess in guesses if guess.student is not None}
    return feed_map if feed_map and all(guess.is_clear for guess in guesses) else None


def guess_feeds(teacher: Graph, student: Graph) -> tuple[FeedGuess, ...]:
    """Guess for each teacher feed, in order, the student feed that it shares.

    A matching feed of the same name comes first, then the only matching one, unless it matches
    another teacher feed too. Feeds match if dtype, rank and known dims are equal.
    """
    same_name = {
        name
        for name in teacher.feeds
        if name in student.feeds and are_shareable(teacher.values[name], student.values[name])
    }
    free = [student.values[name] for name in student.feeds if name not in same_name]
    matches = {
        name: [value.name for value in free if are_shareable(teacher.values[name], value)]
        for name in teacher.feeds
        if name not in same_name
    }
    uses = Counter(chain.from_iterable(matches.values()))
    guesses = {name: FeedGuess(name, name, "has the same name, and fits") for name in same_name}
    for index, (name, fitting) in enumerate(matches.items()):
        if not fitting:
            why = "no student feed fits: it is the teacher's alone"
            guesses[name] = FeedGuess(name, None, why)
        elif len(fitting) == 1 and uses[fitting[0]] == 1:
            why = "is the only one whose shape and dtype fit"
            guesses[name] = FeedGuess(name, fitting[0], why)
        else:
            start = max(0, min(index - _MAX_COMPARED // 2, len(fitting) - _MAX_COMPARED))
            nearest = closest(name, fitting[start : start + _MAX_COMPARED], cutoff=0.0)[0]
            why = f"may be one of {listed(fitting, _MAX_LISTED, quote='')}"
            guesses[name] = FeedGuess(name, nearest, why, is_clear=False)
    return tuple(guesses[name] for name in teacher.feeds)


def are_shareable(teacher: Value, student: Value) -> bool:
    """Return whether two feeds have equal dtypes, and shapes that agree except for the batch."""
    if teacher.dtype != student.dtype:
        return False
    if not teacher.shape or not student.shape:
        return teacher.shape == student.shape
    same_rank = len(teacher.shape) == len(student.shape)
    return same_rank and shapes_agree(teacher.shape[1:], student.shape[1:])


def _nearest_feed(feed: Value, name: str, student: Graph) -> str | None:
    """Return the student feed that fits and has the nearest name, or is the only one that fits."""
    matches = [other for other in student.feeds if are_shareable(feed, student.values[other])]
    nearest = closest(name, matches, cutoff=_MIN_SIMILARITY)
    if nearest:
        return nearest[0]
    return matches[0] if len(matches) == 1 else None


def corrected_feed_map(plan: MergePlan) -> Mapping[str, str]:
    """Return the most likely intended feed map: valid entries are kept, the rest is guessed.

    A teacher feed that matches no student feed is mapped to its own name with the prefix.
    """
    given = dict(plan.feed_map)
    unknown = {key: target for key, target in given.items() if key not in plan.teacher.feeds}
    corrected: dict[str, str] = {}
    for name in dict.fromkeys(
        (*(name for name in given if name not in unknown), *plan.teacher.feeds)
    ):
        value, target = plan.teacher.values[name], given.get(name)
        if target is None and (misspelt := closest(name, unknown, cutoff=_MIN_SIMILARITY)):
            target = unknown[misspelt[0]]
        if name in plan.separate_feeds:
            target = None
        elif target not in plan.student.feeds or not are_shareable(
            value, plan.student.values[target]
        ):
            target = _nearest_feed(value, target or name, plan.student)
        corrected[name] = target or plan.prefix + name
    return corrected
