"""Rules about the feed map, which maps teacher feeds to the student feeds that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import (
    LISTED,
    about_operators,
    at,
    at_operator,
    check,
    format_shape,
    in_both,
)
from graphtool.diagnostics import Call, Diagnostic, Severity, counted, listed
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


@check("GT210", replaces=("GT211", "GT212", "GT252"))
def unknown_feed(plan: MergePlan) -> Iterator[Diagnostic]:
    """A name in a feed map, or in the feed of `verify`, is not a feed.

    A feed map maps teacher feeds to student feeds, which `graphtool inspect MODEL` lists. A
    Value that the student computes is not a feed: the teacher would change as the student is
    trained. `merged.verify(feed)` takes the feed names of the merged Program.
    """
    for teacher, student in plan.feed_map:
        notes = [_feeds_note("teacher", plan.teacher)]
        if student in plan.teacher.feeds and teacher in plan.student.feeds:
            notes.append("a feed map goes from teacher to student; this one is the other way round")
        if teacher not in plan.teacher.feeds:
            message = f"the teacher has no feed `{teacher}`"
            yield unknown_feed(message, at(plan, "teacher"), notes=notes, help=_corrected(plan))
        if student not in plan.student.feeds:
            message = f"the student has no feed `{student}` for teacher feed `{teacher}`"
            where = at(plan, "student")
            if student in plan.student.values:
                message = f"`{student}` is not a feed: the student computes or keeps it"
                where = at(plan, "student", student)
            notes = [_feeds_note("student", plan.student)]
            yield unknown_feed(message, where, notes=notes, help=_corrected(plan))


def _feeds_note(role: str, graph: Graph) -> str:
    if not graph.feeds:
        return f"the {role} has no feeds"
    return f"the {role}'s feeds: {listed(graph.feeds, len(graph.feeds))}"


@check("GT213", replaces=("GT214", "GT603"))
def feed_left_out(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map leaves out a teacher feed, or cannot be guessed.

    It is an error if a student feed fits. If none does, the merged Program has another feed
    under the teacher's prefix, which each run has to provide: map the feed to that name,
    `{"mask": "teacher_mask"}`, to say so. Map the label of a teacher with a loss to the
    student's, or save the teacher without its loss.

    The command line guesses feeds of one name, or the only ones of one shape and dtype. For
    others pass `--feed TEACHER_FEED=STUDENT_FEED`.
    """
    taken = {new for old, new in plan.feed_map if old in plan.teacher.feeds}
    for old, new in plan.unmapped_feeds:
        if old in plan.separate_feeds:
            continue
        nearest = _nearest_feed(plan.teacher.values[old], old, plan.student)
        if nearest != old and nearest in taken:
            nearest = None
        if nearest is None:
            note = f"no student feed fits: each run of the merged Program has to feed `{new}`"
        else:
            shape = format_shape(plan.student.values[nearest].shape)
            note = f"nearest student feed: `{nearest}` {shape}"
        noun = "label" if old in label_feeds(plan.teacher) else "feed"
        yield feed_left_out(
            f"the feed map leaves out the teacher's {noun} `{old}`",
            at(plan, "teacher", old),
            severity=Severity.WARNING if nearest is None else Severity.ERROR,
            notes=(note,),
            help=_corrected(plan),
        )


@check("GT215", Severity.WARNING)
def two_feeds_on_one(plan: MergePlan) -> Iterator[Diagnostic]:
    """The feed map maps two teacher feeds to one student feed: both read the same data."""
    for student, count in Counter(new for _, new in plan.feed_map).items():
        if count > 1:
            names = listed([old for old, new in plan.feed_map if new == student], LISTED)
            yield two_feeds_on_one(
                f"teacher feeds {names} all read student feed `{student}`",
                at(plan, "student", student),
                notes=(_feeds_note("student", plan.student),),
            )


def _mapped_feeds(plan: MergePlan) -> Iterator[tuple[Value, Value]]:
    """Yield the teacher and student feeds that the feed map joins and that both exist."""
    for teacher, student in plan.feed_map:
        if teacher in plan.teacher.feeds and student in plan.student.feeds:
            yield plan.teacher.values[teacher], plan.student.values[student]


@check("GT217", replaces=("GT216",))
def feed_shape(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher feed and the student feed mapped to it have different ranks or dims.

    An unknown dim agrees with any other; the first dim, the batch, is not compared here. Build both
    networks for one image size, or feed the teacher separately.
    """
    for teacher, student in _mapped_feeds(plan):
        if teacher.shape is None or student.shape is None:
            continue
        rank, student_rank = len(teacher.shape), len(student.shape)
        dims = enumerate(zip(teacher.shape, student.shape, strict=False))
        axes = [axis for axis, pair in dims if axis and not dims_agree(*pair)]
        if rank != student_rank:
            found = f"has rank {rank}, student feed `{student.name}` rank {student_rank}"
        elif axes:
            differ = f"dim {axes[0]} differs"
            if len(axes) > 1:
                differ = f"dims {', '.join(map(str, axes))} differ"
            found = f"is {_shapes(teacher, student)}: {differ}"
        else:
            continue
        is_size = rank == student_rank > 3 and axes[0] > 1
        note = "build both networks for one image size, or feed the teacher separately"
        yield feed_shape(
            f"teacher feed `{teacher.name}` {found}",
            in_both(plan, teacher.name, student.name),
            notes=(note,) if is_size else (),
            help=_corrected(plan),
        )


def _shapes(teacher: Value, student: Value) -> str:
    shapes = format_shape(teacher.shape), format_shape(student.shape)
    return f"{shapes[0]}, student feed `{student.name}` {shapes[1]}"


@check("GT218")
def feed_dtype(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher feed and the student feed mapped to it have different dtypes.

    Paddle neither converts the fed data nor reports it: the teacher's kernels misread it.
    """
    for teacher, student in _mapped_feeds(plan):
        if None not in (teacher.dtype, student.dtype) and teacher.dtype != student.dtype:
            yield feed_dtype(
                f"teacher feed `{teacher.name}` is {teacher.dtype}, student feed "
                f"`{student.name}` {student.dtype}",
                in_both(plan, teacher.name, student.name),
                help=_corrected(plan),
            )


@check("GT219")
def feed_lod(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher feed and the student feed mapped to it have different LoD levels.

    Sequence operators of legacy programs read from the LoD (levels of detail) where each sequence
    ends.
    """
    for teacher, student in _mapped_feeds(plan):
        if teacher.lod_level != student.lod_level:
            name, level = string_literal(student.name), teacher.lod_level
            yield feed_lod(
                f"teacher feed `{teacher.name}` has lod_level {level}, student feed "
                f"`{student.name}` {student.lod_level}",
                in_both(plan, teacher.name, student.name),
                help=f"paddle.static.data({name}, ..., lod_level={level})",
            )


@check("GT220", Severity.WARNING, replaces=("GT221", "GT234"))
def fixed_size(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher was built for one batch size or image size, and the student takes others.

    A reshape to the fixed batch, a linear layer on a flattened map, or position embeddings stop
    the run or mix samples; most operators take any size. Build the teacher with dims of -1,
    feed the student that size only, or map the teacher's feed to its name with the prefix to
    feed it its own.
    """
    batches: dict[int, int] = {}
    for teacher, student in _mapped_feeds(plan):
        if not teacher.shape or not student.shape:
            continue
        where = in_both(plan, teacher.name, student.name)
        batch, student_batch = teacher.shape[0], student.shape[0]
        if len(teacher.shape) > 1:
            batches[batch] = student_batch
            if batch not in (UNKNOWN_DIM, student_batch):
                size, name = student_batch, string_literal(teacher.name)
                yield fixed_size(
                    f"teacher feed `{teacher.name}` has a fixed batch of {batch}, student "
                    f"feed `{student.name}` {'any' if size == UNKNOWN_DIM else size}",
                    where,
                    help=f"paddle.static.data({name}, [-1, ...])  # where it is built",
                )
        dims = list(zip(teacher.shape, student.shape, strict=False))
        is_fixed = any(other == UNKNOWN_DIM != dim for dim, other in dims[1:])
        if is_fixed and len(teacher.shape) == len(student.shape):
            yield fixed_size(
                f"teacher feed `{teacher.name}` is {_shapes(teacher, student)}, which takes any "
                "size",
                where,
                help=_separate_feed(plan, teacher.name, "  # to feed the teacher its own size"),
            )
    graph = plan.teacher
    baked = [one for one in graph.operators.values() if _fixes_batch(graph, one, batches)]
    if baked:
        target = format_shape(_target_shape(graph, baked[0]))
        yield about_operators(
            fixed_size,
            f"the teacher has {counted(len(baked), 'reshape')} to a fixed batch: "
            f"`{baked[0].name}` to {target}",
            "teacher",
            graph,
            baked,
            help="x.reshape([-1, ...])  # or [0, ...] to keep the batch, where it is built",
        )


def _fixes_batch(graph: Graph, operator: Operator, batches: Mapping[int, int]) -> bool:
    """Return whether an operator is a reshape that keeps its operand's fixed batch as a number."""
    if kind_of(operator) != "reshape":
        return False
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

    `x[:, 0] = 0` on a feed is such an operator in PIR; legacy programs are merged with a copy.
    Map the teacher's feed to its own name with the prefix, and feed the same data to both.
    """
    if plan.kind is not ProgramKind.PIR:
        return
    for role, other, graph, teacher_feeds in (
        ("teacher", "student", plan.teacher, {old: old for old, _ in plan.feed_map}),
        ("student", "teacher", plan.student, {new: old for old, new in plan.feed_map}),
    ):
        for feed, operator in _overwritten_feeds(graph):
            if feed in teacher_feeds:
                yield overwritten_feed(
                    f"`{operator.name}` of the {role} overwrites its feed `{feed}`, which the "
                    f"{other} reads too",
                    (at(plan, role, feed), at_operator(role, graph, operator)),
                    help=_separate_feed(plan, teacher_feeds[feed]),
                )


def _separate_feed(plan: MergePlan, name: str, comment: str = "") -> Call:
    """Return the feed map by which a teacher feed stays separate."""
    return Call(None, comment, feed_map={**dict(plan.feed_map), name: plan.prefix + name})


def _overwritten_feeds(graph: Graph) -> Iterator[tuple[str, Operator]]:
    """Yield each overwritten feed of a PIR graph with the first operator that overwrites it."""
    if graph.kind is not ProgramKind.PIR:
        return
    # In-place results and loop arguments -> the Value whose memory they use.
    memory: dict[str, str] = {}
    seen: set[str] = set()
    for operator in graph.operators.values():
        for path in operator.blocks if operator.kind == "while" else ():
            # The operands begin with the loop's condition, which is no argument of the Block.
            arguments = reversed(graph.blocks[path].arguments)
            for argument, operand in zip(arguments, reversed(operator.operands), strict=False):
                if operand is not None:
                    memory[argument] = memory.get(operand, operand)
        written = written_operand(operator)
        if written is None:
            continue
        written = memory.get(written, written)
        memory.update(dict.fromkeys(operator.results[:1], written))
        is_feed = graph.values[written].origin is Origin.FEED and written not in seen
        if is_feed and operator.kind not in VIEWS and not is_training(operator):
            seen.add(written)
            yield written, operator


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


def _corrected(plan: MergePlan) -> Call:
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
    return Call(None, feed_map=corrected)
