"""Where the teacher's weights came from, looked at again to compare them with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.checks import MergePlan
from graphtool.diagnostics import GraphtoolError
from graphtool.graph import is_dropout_state
from graphtool.merging._comparison import Comparison, Unchecked, array_of, compared
from graphtool.merging._weights import Found, weights_from
from graphtool.readers.facts import same_variables
from graphtool.readers.live import LiveProgram
from graphtool.readers.tensors import held_tensors, private_scope

if TYPE_CHECKING:
    from graphtool.merging.merged import Merged

__all__ = [
    "Provenance",
    "compared_weights",
    "from_file",
    "from_nowhere",
    "from_scope",
    "from_source",
]

# Scopes and tensors are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any


@dataclass(slots=True, eq=False)
class Provenance:
    """What the weights came from last.

    `look` returns the Scope and the names that hold them now, or says why there are none. It may
    use the Scope that it is given, which is empty.
    """

    look: Callable[[_Paddle], Found | str]


def from_scope(scope: _Paddle, names: Mapping[str, str]) -> Provenance:
    """Look into a Scope of the user's; `names` are new name -> name there."""
    return Provenance(lambda _: Found(scope, names))


def from_file(load: Callable[[_Paddle], object], names: Mapping[str, str]) -> Provenance:
    """Look into what `load` puts into a Scope: a file or a Layer, as it is now."""
    return Provenance(partial(_loaded, load, names))


def from_source(
    source: _Paddle, found: Found, plan: MergePlan, teacher: LiveProgram, students: _Paddle
) -> Provenance:
    """Look into what weights were found in by `weights_from`: a Scope or a file, no mapping."""
    if found.scope is source:
        return from_scope(source, found.names)
    if isinstance(source, Mapping):
        return from_nowhere("the mapping that they came from is not kept")
    path = Path(str(source)).absolute()
    return from_file(lambda own: weights_from(path, plan, teacher, students, own), found.names)


def _loaded(
    load: Callable[[_Paddle], object], names: Mapping[str, str], own: _Paddle
) -> Found | str:
    try:
        load(own)
    except GraphtoolError as error:
        return next(iter(error.report)).message
    except OSError as error:
        return error.strerror or str(error)
    return Found(own, names)


def from_nowhere(why: str) -> Provenance:
    """Have nothing to compare with."""
    return Provenance(lambda _: why)


def compared_weights(merged: Merged) -> tuple[tuple[Comparison, ...], tuple[Unchecked, ...]]:
    """Compare the teacher's weights with what they came from, and tell those that can't be."""
    with private_scope() as own:
        rows = tuple(_rows(merged, merged.provenance.look(own)))
    return (
        tuple(row for row in rows if isinstance(row, Comparison)),
        tuple(row for row in rows if isinstance(row, Unchecked)),
    )


def _rows(merged: Merged, origin: Found | str) -> Iterator[Comparison | Unchecked]:
    values = merged.source.graph.values
    for old, new in merged.plan.weights:
        if old in values and is_dropout_state(values[old]):
            continue  # On a GPU the first run fills it.
        if isinstance(origin, str):
            yield Unchecked(old, origin)
        else:
            yield from _row(merged, origin, old, new)


def _row(merged: Merged, origin: Found, old: str, new: str) -> Iterator[Comparison | Unchecked]:
    students, name = merged.scopes.student, origin.names[new]
    before = held_tensors(origin.scope, [name]).get(name)
    after = held_tensors(students, [new]).get(new)
    if name in merged.plan.student_kept and same_variables(origin.scope, students, [name]):
        yield Unchecked(old, "the student trains what they were copied from")
    elif after is None:
        yield Unchecked(old, "they hold nothing")
    elif before is None:
        yield Unchecked(old, "what they came from holds them no more")
    elif before._ptr() == after._ptr() and 0 not in after.shape():  # noqa: SLF001
        yield Unchecked(old, "they share the memory of the Scope that they came from")
    else:
        yield from compared("teacher", {old: array_of(before)}, {new: array_of(after)}, {old: new})
