"""What can be wrong with exporting a student: GT630 to GT636."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphtool.checks.places import spelt
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph, Shape, Value

__all__ = [
    "Misfits",
    "exists_already",
    "layer_does_not_fit",
    "no_answer",
    "outputs_guessed",
    "path_is_folder",
    "reads_what_is_not_the_students",
    "student_not_initialised",
]

_LISTED = 6


@rule("GT630")
def exists_already(names: Sequence[str]) -> Diagnostic:
    """Files of an earlier export are in the way; they are left as they are.

    `force=True` replaces them: all four that an export may write, so that none is left over of
    another student.
    """
    return Diagnostic(
        message=f"{listed(names, _LISTED)} exist already",
        help="gt.export_student(merged, path, force=True)",
    )


@rule("GT631")
def outputs_guessed(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """The Program does not say what it answers; outputs were found by its structure.

    They are what the last operators on the way to a loss start from: the logits of each head, the
    deepest first. Where there are several, some may be no answer at all, as the last state of an
    RNN that nobody reads: name those that are wanted. A student that is handed to `gt.merge` as a
    Network knows its outputs.
    """
    return Diagnostic(
        message=f"the outputs were found by structure: {listed(names, _LISTED)}",
        severity=Severity.NOTE if len(names) == 1 else Severity.WARNING,
        where=tuple(
            Where(program=graph.source, value=name, shape=graph.values[name].shape)
            for name in names[:_LISTED]
        ),
        help=f"gt.export_student(merged, path, fetch={list(names[:1])})",
    )


@rule("GT632")
def reads_what_is_not_the_students(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """An output needs parameters or feeds that came with the merge or after it.

    A teacher's, or an adapter's: an export holds the student alone. Fetch what the student itself
    computes.
    """
    return Diagnostic(
        message=f"the outputs need what is not the student's: {listed(names, _LISTED)}",
        where=tuple(Where(role="merged", value=name) for name in names[:_LISTED]),
        notes=(f"the student is `{graph.source}`, as it was before the merge",),
        help="gt.export_student(merged, path)",
    )


@rule("GT633")
def student_not_initialised(names: Sequence[str], total: int) -> Diagnostic:
    """Parameters of the student hold nothing in the Scope: there is nothing to export.

    Run the startup program, or load the parameters; `scope=` says where they are if that is not the
    Scope of the merge, or the global one.
    """
    return Diagnostic(
        message=f"{len(names)} of {total} parameters hold nothing: {listed(names, _LISTED)}",
        where=tuple(Where(role="student", value=name) for name in names[:_LISTED]),
        help="executor.run(startup)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfits:
    """How a Layer differs from the student.

    `strangers` are its Variables that the student has not; `misshapen` has a key, its shape, and
    the student's Value under that name; `keyless` of the `total` that the student needs are none of
    the Layer's.
    """

    strangers: Sequence[str]
    misshapen: Sequence[tuple[str, Shape, Value]]
    keyless: int
    total: int

    def __iter__(self) -> Iterator[str]:
        if self.strangers:
            yield f"the student has no {listed(self.strangers, _LISTED)}"
        for key, shape, value in self.misshapen[:1]:
            theirs = f"the student's `{value.name}` {spelt(value.shape)}"
            more = f", and {len(self.misshapen) - 1} more" * (len(self.misshapen) > 1)
            yield f"`{key}` is {spelt(shape)}, {theirs}{more}"
        if self.keyless:
            yield f"{self.keyless} of its {counted(self.total, 'tensor')} have no key"


@rule("GT634")
def layer_does_not_fit(layer: str, misfits: Misfits) -> Diagnostic:
    """The Layer's parameters are not those of the student, or not all of them; nothing is written.

    Give the Layer that the student's Program was built from, or the Network of `gt.from_layer`.
    Another object of the same class counts its names on (`conv2d_53.w_0`), unless it is made in
    `paddle.utils.unique_name.guard()`. Without `layer` the keys are the names of Variables, or
    those of the Network that was merged.
    """
    return Diagnostic(
        message=f"`{layer}` does not fit the student: {'; '.join(misfits)}",
        help="gt.export_student(merged, path, layer=network)",
    )


@rule("GT635")
def no_answer(graph: Graph) -> Diagnostic:
    """The student's outputs are not known and cannot be told from its structure.

    Name them.
    """
    return Diagnostic(
        message="what the student answers is not known",
        where=(Where(role="student", program=graph.source),),
        help="gt.export_student(merged, path, fetch=['relu_4'])",
    )


@rule("GT636")
def path_is_folder(path: str) -> Diagnostic:
    """The path is a folder; it is to be what the files are called, without their endings.

    That is how Paddle's own functions take it: `out/student` makes `out/student.pdiparams`.
    """
    return Diagnostic(
        message=f"`{path}` is a folder; wanted the name of the files without their endings",
        help=f"gt.export_student(merged, {path.rstrip('/') + '/student'!r})",
    )
