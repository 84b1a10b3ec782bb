"""What can be wrong with exporting a student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphtool.checks.rules import format_shape
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph, Shape, Value

__all__ = [
    "Misfits",
    "layer_does_not_fit",
    "outputs_guessed",
    "reads_what_is_not_the_students",
]

_LISTED = 6


@rule("GT631", replaces=("GT635",))
def outputs_guessed(graph: Graph, names: Sequence[str], *, is_clear: bool) -> Diagnostic:
    """The Program does not name its outputs, so they were inferred from its structure.

    They are what each loss predicts from, or else the logits of each head, the deepest first. If
    there are several, some may be no prediction, such as an RNN's last state: name those that you
    want. If none are found, name them too. A student that `gt.merge` got as a Network knows its
    outputs.
    """
    if not names:
        return Diagnostic(
            message="the student's outputs are not known",
            where=(Where(role="student", program=graph.source),),
            help="gt.export_student(merged, path, fetch=['relu_4'])",
        )
    return Diagnostic(
        message=f"the outputs were inferred from the structure: {listed(names, _LISTED)}",
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
