"""Rules about pairs: whether the names are there, and whether a loss fits what they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphtool.checks.places import spelt
from graphtool.diagnostics import Diagnostic, ReadError, Report, Severity, Where, rule
from graphtool.graph import UNKNOWN, Graph, Shape, Value, dims_agree, shapes_agree
from graphtool.loss_names import Takes, named_losses
from graphtool.matching import Pair
from graphtool.readers import Source, read
from graphtool.selectors import find, is_source
from graphtool.structure import kind_of, softmax_input
from graphtool.text import as_path, command, literal, option

__all__ = [
    "check_pairs",
    "holds_probabilities",
    "pair_broadcast",
    "pair_dtype",
    "pair_rank",
    "pair_shape",
    "unknown_pair_name",
    "unsaid_probabilities",
]

# A teacher's name, a student's, and the name of a loss.
_Names: TypeAlias = "tuple[str, str] | tuple[str, str, str]"


# Losses that no recipe can name, but a pair that is only checked.
_ELEMENTWISE = frozenset({"l1", "mse", "smooth_l1"})


@dataclass(frozen=True, slots=True)
class _Sides:
    teacher: Value
    student: Value
    where: tuple[Where, Where]
    loss: str
    adapter: str | None

    @property
    def names(self) -> str:
        return f"`{self.teacher.name}` and `{self.student.name}`"

    @property
    def shapes(self) -> tuple[Shape, Shape] | None:
        """Both shapes, None where one is not known."""
        if self.teacher.shape is None or self.student.shape is None:
            return None
        return self.teacher.shape, self.student.shape


def check_pairs(
    pairs: Iterable[Pair | _Names],
    teacher: Source,
    student: Source,
    *,
    name_prefix: str = "teacher_",
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> Report:
    """Report everything that stands against distilling through these pairs.

    A pair is a Pair, or `(teacher, student)` or `(teacher, student, loss)` by name, where any
    selector will do and the loss is `l2` if left out. `teacher` and `student` are what `read`
    takes; for a Merged, its `source.graph` and `before.graph`. `name_prefix` is what merging puts
    before the teacher's names: one of those on the student's side is told. `options` are those
    that `distill_loss` gets, by the name of a loss: its `from_probs` says what is no mistake.

    Raises ReadError where a network cannot be read.
    """
    graphs = {"teacher": read(teacher), "student": read(student)}
    context = _Context(graphs, name_prefix, options or {})
    findings = (found for pair in pairs for found in _findings(pair, context))
    return Report.of(findings, about=tuple(graphs.values()))


@dataclass(frozen=True, slots=True)
class _Context:
    graphs: Mapping[str, Graph]
    prefix: str
    options: Mapping[str, Mapping[str, object]]


def _findings(pair: Pair | _Names, context: _Context) -> Iterator[Diagnostic]:
    graphs = context.graphs
    names, loss, adapter = _parts(pair)
    teacher, student = (
        _end(role, name, graphs, context.prefix) for role, name in zip(graphs, names, strict=True)
    )
    if isinstance(teacher, Value) and isinstance(student, Value):
        where = (
            _at("teacher", graphs["teacher"], teacher),
            _at("student", graphs["student"], student),
        )
        sides = _Sides(teacher, student, where, loss, adapter)
        yield from _misfits(sides)
        yield from _probabilities(sides, context)
        return
    yield from (end for end in (teacher, student) if isinstance(end, Diagnostic))


def _end(role: str, name: str, graphs: Mapping[str, Graph], prefix: str) -> Value | Diagnostic:
    try:
        return find(graphs[role], name)
    except ReadError as error:
        found = unknown_pair_name(role, graphs[role], name, error.report.diagnostics[0])
    (other,) = graphs.keys() - {role}
    for spelt_otherwise in (name, name.removeprefix(prefix)):
        with suppress(ReadError):
            its = find(graphs[other], spelt_otherwise).name
            note = f"it is the {other}'s `{its}`, and a pair names the teacher's first"
            return replace(found, notes=(note, *found.notes))
    return found


def _parts(pair: Pair | _Names) -> tuple[tuple[str, str], str, str | None]:
    if isinstance(pair, Pair):
        return (pair.teacher.name, pair.student.name), pair.loss, pair.adapter
    loss = pair[2] if len(pair) == 3 else "l2"
    return (pair[0], pair[1]), loss, None


def _at(role: str, graph: Graph, value: Value) -> Where:
    operator = graph.producer(value.name)
    return Where(
        role=role,
        program=graph.source,
        value=value.name,
        shape=value.shape,
        source=operator.source if operator else None,
    )


def _misfits(sides: _Sides) -> Iterator[Diagnostic]:
    if sides.teacher.dtype != sides.student.dtype:
        yield pair_dtype(sides)
    wanted = _taken(sides.loss)
    if sides.shapes is None or sides.adapter or wanted is None:
        return
    if not wanted.fits(*map(len, sides.shapes)):
        yield pair_rank(sides, wanted.said_of_ranks)
        return
    teacher, student = map(wanted.compared, sides.shapes)
    if not shapes_agree(teacher, student):
        stretched = _broadcasts(teacher, student)
        yield pair_broadcast(sides) if stretched else pair_shape(sides, wanted.said_of_dims)


def _probabilities(sides: _Sides, context: _Context) -> Iterator[Diagnostic]:
    """Yield the ends that went through softmax, as far as no adapter stands before the loss."""
    loss, wanted = sides.loss, _taken(sides.loss)
    if wanted is None or not wanted.logits or "resize" in (sides.adapter or ""):
        return
    ends = sides.where[:1] if sides.adapter else sides.where
    found = {
        place: logits
        for place in ends
        if (logits := _logits_before(context.graphs[place.role or ""], place.value or ""))
    }

    def call(side: str) -> str:
        options = f'{{"{loss}": {{"from_probs": "{side}"}}}}'
        return f"gt.distill_loss(merged, pairs, options={options})"

    said = context.options.get(loss, {}).get("from_probs")
    yield from unsaid_probabilities(loss, found, said, call)


def _logits_before(graph: Graph, name: str) -> str | None:
    def made_from(name: str) -> tuple[str, str] | None:
        operator = graph.producer(name)
        read = operator.operands[0] if operator is not None and operator.operands else None
        return None if operator is None or read is None else (kind_of(operator), read)

    return softmax_input(name, made_from)


# What `from_probs` says of which ends.
_SAID: Mapping[str | None, tuple[str, ...]] = {
    None: (),
    "teacher": ("teacher",),
    "student": ("student",),
    "both": ("teacher", "student"),
}


def unsaid_probabilities(
    loss: str, found: Mapping[Where, str], said: object, call: Callable[[str], str]
) -> Iterator[Diagnostic]:
    """Yield the ends that went through softmax where `from_probs` doesn't say so.

    `found` are these ends with what went into the softmax, `said` is `from_probs`; `call` writes
    what to type for another one.
    """
    told = _SAID.get(said) if said is None or isinstance(said, str) else None
    if told is None:
        return  # the loss has its own word for that
    left = {place: logits for place, logits in found.items() if place.role not in told}
    side = "both" if said or len(left) > 1 else next((place.role for place in left), None)
    for place, logits in left.items():
        yield holds_probabilities(loss, place, logits, call(side or "both"))


def _taken(loss: str) -> Takes | None:
    """Return what a loss takes, None for one of any two shapes, or that is not known here."""
    if loss in _ELEMENTWISE:
        return Takes()
    known = named_losses().get(loss)
    return None if known is None else known.takes


def _broadcasts(teacher: Shape, student: Shape) -> bool:
    """Tell whether Paddle would stretch one to the other without a word."""
    dims = zip(teacher, student, strict=True)
    return all(1 in (a, b) or dims_agree(a, b) for a, b in dims)


@rule("GT330")
def unknown_pair_name(role: str, graph: Graph, name: str, found: Diagnostic) -> Diagnostic:
    """A pair names a Value that a network does not have, or that several fit.

    `graphtool inspect MODEL` lists the names. Those of the teacher are its own, or those that
    merging gave them.
    """
    return Diagnostic(
        message=f"a pair's {role} side: {found.message}",
        where=(Where(role=role, program=graph.source, value=name),),
        notes=found.notes,
        help=found.help,
    )


@rule("GT331")
def pair_rank(sides: _Sides, wanted: str) -> Diagnostic:
    """The two Values of a pair have different ranks, or such as the loss is not defined for.

    A map against a vector needs pooling first, tokens against a map a reshape.
    """
    return Diagnostic(
        message=f"{sides.names} have ranks {len(sides.teacher.shape or ())} and "
        f"{len(sides.student.shape or ())}: {sides.loss} wants {wanted}",
        where=sides.where,
        help=_partners(sides),
    )


@rule("GT332")
def pair_broadcast(sides: _Sides) -> Diagnostic:
    """The two Values of a pair differ in a dim that is 1 on one side.

    Paddle stretches it without a word: the loss has a number, and it means nothing. Pair Values of
    one size, or pool one side.
    """
    return Diagnostic(
        message=f"{sides.names} are {_both(sides)}: {sides.loss} would broadcast one to the other",
        where=sides.where,
        help=_partners(sides),
    )


@rule("GT333")
def pair_shape(sides: _Sides, wanted: str) -> Diagnostic:
    """The two Values of a pair have shapes that do not go together, and no adapter is given.

    A 1 × 1 convolution, or a linear layer, on the student's side brings it to the teacher's
    channels, as `hint` does by itself; an interpolation brings a map to its size. `similarity`
    compares any two shapes of one batch.
    """
    return Diagnostic(
        message=f"{sides.names} are {_both(sides)}: {sides.loss} wants {wanted}",
        where=sides.where,
        help=_with_another_loss(sides) or _partners(sides),
    )


def _with_another_loss(sides: _Sides) -> str | None:
    """Write the pair with a loss that compares such shapes, None where the batches differ."""
    teacher, student = sides.shapes or ((), ())
    if not teacher or not shapes_agree(teacher[:1], student[:1]):
        return None
    axis = 1 if len(teacher) == 4 else len(teacher) - 1
    places = [(*shape[:axis], *shape[axis + 1 :]) for shape in (teacher, student)]
    is_one_size = 2 <= len(teacher) <= 4 and shapes_agree(*places)
    loss = "hint" if is_one_size and UNKNOWN not in (teacher[axis], student[axis]) else "similarity"
    return f'({literal(sides.teacher.name)}, {literal(sides.student.name)}, "{loss}")'


@rule("GT334")
def pair_dtype(sides: _Sides) -> Diagnostic:
    """The two Values of a pair have different dtypes: cast one before the loss."""
    return Diagnostic(
        message=f"{sides.names} are {sides.teacher.dtype} and {sides.student.dtype}",
        severity=Severity.WARNING,
        where=sides.where,
        help=f'paddle.cast(merged.teacher({literal(sides.teacher.name)}), "{sides.student.dtype}")',
    )


@rule("GT349")
def holds_probabilities(loss: str, where: Where, logits: str, help: str) -> Diagnostic:
    """A loss that takes logits was given what went through softmax already.

    A second softmax flattens it: the loss is a number, and teaches next to nothing. Say
    `from_probs="teacher"` (or `"student"`, or `"both"`), or name the logits.
    """
    return Diagnostic(
        message=f"`{where.value}` holds probabilities, and `{loss}` takes what is before softmax",
        where=(where,),
        notes=(f"what went into softmax is `{logits}`",),
        help="help(gt.losses.attention_scores)" if loss == "attention_scores" else help,
    )


def _both(sides: _Sides) -> str:
    return f"{spelt(sides.teacher.shape)} and {spelt(sides.student.shape)}"


def _partners(sides: _Sides) -> str:
    """Say what lists Values that would go with the teacher's: a command, where it finds both."""
    networks = [place.program or "" for place in sides.where]
    if not all(map(is_source, networks)):
        return f"print(gt.partners(teacher, student, {literal(sides.teacher.name)}))"
    called = command("graphtool", "suggest-pairs", *map(as_path, networks))
    return f"{called} {option('--for', sides.teacher.name)}"
