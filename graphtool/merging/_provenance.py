"""Where the teacher's weights came from, and how they compare with that source now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from graphtool.backend.facts import same_variables
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle
from graphtool.backend.tensors import buffer_address, initialised_tensors, private_scope
from graphtool.checks import MergePlan
from graphtool.diagnostics import GraphtoolError
from graphtool.graph import is_dropout_state
from graphtool.merging._comparison import Comparison, Unchecked, array_of, compare
from graphtool.merging._weights import WeightSource, find_weights

if TYPE_CHECKING:
    from graphtool.merging.merged import Merged

__all__ = [
    "Provenance",
    "compare_weights",
    "from_file",
    "from_scope",
    "from_source",
    "unavailable",
]


@dataclass(slots=True, eq=False)
class Provenance:
    """Where the teacher's weights were last loaded from.

    `locate` takes an empty Scope that it may fill. It returns the Scope and the names that hold
    the source's weights as they are now, or the reason why there are none.
    """

    locate: Callable[[Paddle], WeightSource | str]


def from_scope(scope: Paddle, names: Mapping[str, str]) -> Provenance:
    """Find the weights in a Scope of the user's; `names` maps new names to those in it."""
    return Provenance(lambda _: WeightSource(scope, names))


def from_file(load: Callable[[Paddle], object], names: Mapping[str, str]) -> Provenance:
    """Find the weights in a file or Layer, as it is now, which `load` puts into a Scope."""
    return Provenance(partial(_loaded, load, names))


def from_source(
    source: Paddle,
    found: WeightSource,
    plan: MergePlan,
    teacher: LiveProgram,
    student_scope: Paddle,
) -> Provenance:
    """Find the weights in what `find_weights` was given; a mapping is not kept."""
    if found.scope is source:
        return from_scope(source, found.names)
    if isinstance(source, Mapping):
        return unavailable("the mapping that they came from is not kept")
    path = Path(str(source)).absolute()
    return from_file(
        lambda scope: find_weights(path, plan, teacher, student_scope, scope), found.names
    )


def _loaded(
    load: Callable[[Paddle], object], names: Mapping[str, str], scope: Paddle
) -> WeightSource | str:
    try:
        load(scope)
    except GraphtoolError as error:
        return next(iter(error.report)).message
    except OSError as error:
        return error.strerror or str(error)
    return WeightSource(scope, names)


def unavailable(reason: str) -> Provenance:
    """Have no weights to compare with, for a reason."""
    return Provenance(lambda _: reason)


def compare_weights(merged: Merged) -> tuple[tuple[Comparison, ...], tuple[Unchecked, ...]]:
    """Compare the teacher's weights with where they came from; also return those unchecked."""
    values = merged.source.graph.values
    comparisons: list[Comparison] = []
    unchecked: list[Unchecked] = []
    with private_scope() as scope:
        source = merged.provenance.locate(scope)
        for old, new in merged.plan.weights:
            if old in values and is_dropout_state(values[old]):
                continue  # On a GPU the first run fills it.
            result = (
                source if isinstance(source, str) else _compare_weight(merged, source, old, new)
            )
            if isinstance(result, str):
                unchecked.append(Unchecked(old, result))
            else:
                comparisons += result
    return tuple(comparisons), tuple(unchecked)


def _compare_weight(
    merged: Merged, source: WeightSource, old: str, new: str
) -> Iterator[Comparison] | str:
    """Compare one weight, or return the reason why it cannot be compared."""
    student_scope, name = merged.scopes.student, source.names[new]
    original = initialised_tensors(source.scope, [name]).get(name)
    current = initialised_tensors(student_scope, [new]).get(new)
    if name in merged.plan.student_persistables and same_variables(
        source.scope, student_scope, [name]
    ):
        return "the student trains what they were copied from"
    if current is None:
        return "they hold nothing"
    if original is None:
        return "what they came from holds them no more"
    if buffer_address(original) == buffer_address(current) and 0 not in current.shape():
        return "they share the memory of the Scope that they came from"
    return compare("teacher", {old: array_of(original)}, {new: array_of(current)}, {old: new})
