"""What can be wrong with exporting a student: GT630 to GT636, GT638."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphtool.checks.locations import format_shape
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph, Shape, Value

__all__ = [
    "Misfits",
    "exists_already",
    "layer_and_scope",
    "layer_does_not_fit",
    "no_answer",
    "outputs_guessed",
    "path_is_folder",
    "reads_what_is_not_the_students",
    "student_not_initialised",
]

_LISTED = 6


@rule("GT630")
def exists_already(names: Sequence[str], written: str) -> Diagnostic:
    """Files that graphtool has not exported are in the way; the student was written beside them.

    An earlier export is replaced: the record beside its files, `student.graphtool`, has their
    checksums. What has none, or has changed since, is somebody else's and stays as it is; an
    export comes at the end of a training, which an error would lose. `force=True` replaces such
    files as well: all that an export may write, so that none is left over of another student.
    """
    return Diagnostic(
        message=f"{listed(names, _LISTED)} {'is' if len(names) == 1 else 'are'} not of an earlier "
        f"export: the student was written as `{written}`",
        severity=Severity.WARNING,
        help="gt.export_student(merged, path, force=True)",
    )


@rule("GT631")
def outputs_guessed(graph: Graph, names: Sequence[str], *, is_clear: bool) -> Diagnostic:
    """The Program does not say what it answers; outputs were found by its structure.

    They are what a loss is told of, written out or not: the last Values that no label touches, the
    logits of each head, the deepest first. Where there are several, some may be no answer at all,
    as the last state of an RNN that nobody reads, and a loss that compares two towers names none:
    say those that are wanted. A student that is handed to `gt.merge` as a Network knows its
    outputs.
    """
    return Diagnostic(
        message=f"the outputs were found by structure: {listed(names, _LISTED)}",
        severity=Severity.NOTE if is_clear and len(names) == 1 else Severity.WARNING,
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
def student_not_initialised(
    names: Sequence[str], total: int, *, of_layer: bool, scoped: bool
) -> Diagnostic:
    """Parameters of the student hold nothing in the Scope: there is nothing to export.

    Run the startup program, or load the parameters; `scope=` says where they are if that is not the
    Scope of the merge, or the global one. The startup program of a Layer that was made in dynamic
    mode sets none: `gt.merge` brings them into its Scope, and `gt.load_parameters` into any.
    """
    brought = "gt.export_student(merged, path)"
    loaded = 'gt.load_parameters(merged, "student.pdparams")'
    return Diagnostic(
        message=f"{len(names)} of {total} parameters hold nothing: {listed(names, _LISTED)}",
        where=tuple(Where(role="student", value=name) for name in names[:_LISTED]),
        help=(brought if scoped else loaded) if of_layer else "executor.run(startup)",
    )


@rule("GT638")
def layer_and_scope(layer: str, total: int, unlike: int = 0) -> Diagnostic:
    """The student was never merged, and its Layer has weights of its own beside the Scope's.

    Written are those of a Layer that was made in dynamic mode where the global Scope has none under
    their names. Where it has others, those are written: the Network may have learnt there, or
    another one left them, for Paddle counts names from 0 again at times. `scope=` says which Scope
    is meant; from an empty one around the call, the Layer's are written.
    """
    own = f"written are the {counted(total, 'parameter')} that `{layer}` itself holds"
    others = f"written are the Scope's parameters, {unlike} of them not as `{layer}` holds them"
    call, empty = "gt.export_student(network, path", "paddle.static.Scope()"
    apart = f"with paddle.static.scope_guard({empty}): {call})"
    return Diagnostic(
        message=others if unlike else own,
        severity=Severity.WARNING,
        help=apart if unlike else f"{call}, scope=scope)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfits:
    """How a Layer differs from the student.

    `strangers` are what the student has not; `misshapen` has a key, its shape, and the student's
    Value that it means; `tied` are keys of one parameter, which are two of the student's; `keyless`
    of the `total` that the student needs are none of the Layer's.
    """

    strangers: Sequence[str]
    misshapen: Sequence[tuple[str, Shape, Value]]
    tied: Sequence[tuple[str, str]]
    keyless: int
    total: int

    def __iter__(self) -> Iterator[str]:
        if self.strangers:
            yield f"the student has no {listed(self.strangers, _LISTED)}"
        for key, shape, value in self.misshapen[:1]:
            theirs = f"the student's `{value.name}` {format_shape(value.shape)}"
            more = f", and {len(self.misshapen) - 1} more" * (len(self.misshapen) > 1)
            yield f"`{key}` is {format_shape(shape)}, {theirs}{more}"
        for one, other in self.tied[:1]:
            yield f"`{one}` and `{other}` are one parameter, and two of the student"
        if self.keyless:
            yield f"{self.keyless} of its {counted(self.total, 'tensor')} have no key"


@rule("GT634")
def layer_does_not_fit(layer: str, misfits: Misfits, *, of_network: bool) -> Diagnostic:
    """The Layer's parameters are not those of the student, or not all of them; nothing is written.

    A student that is a Network of `gt.from_layer` knows its keys, which are written without
    `layer`; another Layer has to have the same ones, of the same shapes. Of a Program, give the
    Layer that it was built from: another object of the same class counts its names on
    (`conv2d_53.w_0`). Without `layer` the keys are the names of Variables then.
    """
    return Diagnostic(
        message=f"`{layer}` does not fit the student: {'; '.join(misfits)}",
        help=f"gt.export_student(merged, path{'' if of_network else ', layer=network'})",
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
def path_is_folder(path: str, written: str) -> Diagnostic:
    """The path is a folder, and the student was written into it.

    The path is to be what the files are called, without their endings, as Paddle's own functions
    take it: `out/student` makes `out/student.pdiparams`.
    """
    return Diagnostic(
        message=f"`{path}` is a folder: written into it, as `{written}`",
        severity=Severity.WARNING,
        help=f"gt.export_student(merged, {written!r})",
    )
