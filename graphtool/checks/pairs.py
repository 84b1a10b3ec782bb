"""Rules about pairs: whether the names are there, and whether a loss fits what they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphtool.checks.places import spelt
from graphtool.diagnostics import Diagnostic, ReadError, Report, Severity, Where, rule
from graphtool.graph import Graph, Shape, Value, dims_agree, shapes_agree
from graphtool.loss_names import Takes, named_losses
from graphtool.matching import Pair
from graphtool.readers import Source, read
from graphtool.selectors import find, is_source
from graphtool.text import as_path, command, literal, option

__all__ = [
    "check_pairs",
    "pair_broadcast",
    "pair_dtype",
    "pair_rank",
    "pair_shape",
    "unknown_pair_name",
]

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
) -> Report:
    """Report everything that stands against distilling through these pairs.

    A pair is a Pair, or `(teacher, student)` or `(teacher, student, loss)` by name, where any
    selector will do and the loss is `l2` if left out. `teacher` and `student` are what `read`
    takes; for a Merged, its `source.graph` and `before.graph`. `name_prefix` is what merging puts
    before the teacher's names: one of those on the student's side is told.

    Raises ReadError where a network cannot be read.
    """
    graphs = {"teacher": read(teacher), "student": read(student)}
    findings = (found for pair in pairs for found in _findings(pair, graphs, name_prefix))
    return Report.of(findings, about=tuple(graphs.values()))


def _findings(
    pair: Pair | _Names, graphs: Mapping[str, Graph], prefix: str
) -> Iterator[Diagnostic]:
    names, loss, adapter = _parts(pair)
    teacher, student = (
        _end(role, name, graphs, prefix) for role, name in zip(graphs, names, strict=True)
    )
    if isinstance(teacher, Value) and isinstance(student, Value):
        where = (
            _at("teacher", graphs["teacher"], teacher),
            _at("student", graphs["student"], student),
        )
        yield from _misfits(_Sides(teacher, student, where, loss, adapter))
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
    channels; an interpolation brings a map to its size.
    """
    return Diagnostic(
        message=f"{sides.names} are {_both(sides)}: {sides.loss} wants {wanted}",
        where=sides.where,
        help=_partners(sides),
    )


@rule("GT334")
def pair_dtype(sides: _Sides) -> Diagnostic:
    """The two Values of a pair have different dtypes: cast one before the loss."""
    return Diagnostic(
        message=f"{sides.names} are {sides.teacher.dtype} and {sides.student.dtype}",
        severity=Severity.WARNING,
        where=sides.where,
        help=f'paddle.cast(merged.teacher({literal(sides.teacher.name)}), "{sides.student.dtype}")',
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
