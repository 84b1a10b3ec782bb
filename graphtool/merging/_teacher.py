"""Find a teacher's weights, and put them into the student's Scope."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TypeGuard, cast

from graphtool.arguments import bad_argument
from graphtool.backend.facts import ScopeVariable, same_variables, scope_facts
from graphtool.backend.layer_weights import copy_layer_tensors, weights_layer_unless_in
from graphtool.backend.live import LiveProgram, program_of, student_scope_of
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.tensors import (
    assign_tensors,
    buffer_address,
    initialised_tensors,
    new_scope,
    set_dropout_states,
    set_tensors,
)
from graphtool.checks.names import scope_collision
from graphtool.checks.plan import (
    MergePlan,
    are_saved_shapes,
    persistable_names,
    saved_names,
    used_names,
)
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    MergeError,
    ReadError,
    UsageError,
    Where,
)
from graphtool.graph import Graph, Shape, Value, fits_shape
from graphtool.paths import path_exists, resolve_model_prefix
from graphtool.readers import problems as reading_problems
from graphtool.readers.files import find_parameters
from graphtool.readers.tensor_files import (
    ParameterFileFacts,
    Tensor,
    parameter_file_facts,
    read_tensors,
)
from graphtool.readers.weights import read_weights
from graphtool.sources import Source

__all__ = [
    "IN_SOURCE",
    "Provenance",
    "TeacherWeights",
    "check_saved_shapes",
    "find_weights",
    "is_saved_model",
    "teacher_weights",
    "transfer_weights",
]

# NumPy's dtype kinds of numbers: bool, integer, floating and complex.
_NUMBERS = "biufc"
_LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherWeights:
    """Where a teacher's weights are: in `scope`, None if it is unknown, or along with the network.

    In that case `load` puts them into a Scope, and `file` describes their file if they have one.
    """

    scope: Paddle | None = None
    load: Callable[[Paddle], None] | None = None
    file: ParameterFileFacts | None = None


class _EmptyScope:
    """The Scope of a saved model without a parameter file.

    The student's could hold other tensors under the same names.
    """

    def find_var(self, _: str) -> None:
        return None


# Weights that come along with a network, in no Scope yet.
IN_SOURCE = TeacherWeights(load=lambda _: None)


def teacher_weights(
    source: Source, graph: Graph, scope: Paddle | None, student_scope: Paddle | None
) -> TeacherWeights:
    """Find a teacher's weights; `graph` is read from it, `scope` was given for it.

    A saved model or a Network has its own weights. For any other teacher they are in `scope`, or in
    the student's if that is None. The same holds for a Network whose startup program was requested,
    whose parameters were loaded, or whose weights are all in the given `scope`. Those of a teacher
    that had a teacher itself are in the Scope in which it was trained if `scope` is None.

    Raises ReadError: GT240 for a damaged parameter file.
    """
    training_scope = student_scope_of(program_of(source))
    if training_scope is not None:
        return TeacherWeights(scope=training_scope if scope is None else scope)
    layer = weights_layer_unless_in(source, persistable_names(graph), scope)
    if layer is not None:
        return TeacherWeights(load=partial(copy_layer_tensors, layer))
    if not is_saved_model(source):
        return TeacherWeights(scope=student_scope if scope is None else scope)
    path = find_parameters(graph.source, persistable_names(graph))
    if path is None:
        return TeacherWeights(scope=_EmptyScope() if scope is None else scope)
    facts = None if path.is_dir() else parameter_file_facts(path)
    return TeacherWeights(load=partial(_load_file, path.absolute(), graph), file=facts)


def is_saved_model(source: Source) -> TypeGuard[str | PathLike[str]]:
    """Return whether a source is the path of a saved model, not `module:callable`."""
    return isinstance(source, str | PathLike) and path_exists(resolve_model_prefix(fspath(source)))


def _load_file(path: Path, graph: Graph, scope: Paddle) -> None:
    """Load a combined parameter file, or a folder with one file per parameter, into a Scope."""
    names = saved_names(graph)
    files = [path / name for name in names] if path.is_dir() else [path]
    tensors = [tensor for file in files for tensor in read_tensors(file)]
    check_saved_shapes(path, graph, [tensor.shape for tensor in tensors])
    set_tensors(dict(zip(names, tensors, strict=True)), scope)
    set_dropout_states(used_names(graph), scope)


def check_saved_shapes(path: Path, graph: Graph, shapes: Sequence[Shape]) -> None:
    """Raise ReadError unless a file with tensors of these shapes is a network's: GT237."""
    if not are_saved_shapes(graph, shapes):
        counts = len(shapes), len(saved_names(graph))
        raise ReadError(reading_problems.wrong_tensor_count(str(path), *counts, graph.source))


def transfer_weights(
    plan: MergePlan,
    source: Paddle,
    scope: Paddle,
    place: Paddle | None,
    undo: ExitStack,
    *,
    share: bool,
) -> None:
    """Put the teacher's tensors into the student's Scope under their new names.

    Tensors are copied: the startup program that created one writes its buffer in place when it
    runs again. With `share` both Variables use one buffer, unless the student holds that buffer as
    well and trains it. `undo` gets a callback that removes each tensor again.
    """
    tensors = {new: source.find_var(old).get_tensor() for old, new in plan.weights}
    copied = frozenset(tensors)
    if share:
        same = same_variables(source, scope, plan.teacher_persistables)
        # A buffer of the student's may have been shared with the teacher.
        student_tensors = initialised_tensors(scope, plan.student_persistables).values()
        trained = frozenset(map(buffer_address, student_tensors))
        copied = frozenset(
            new
            for old, new in plan.weights
            if old in same or buffer_address(tensors[new]) in trained
        )
    assign_tensors(tensors, scope, place=place, copied=copied, undo=undo)


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """Where the teacher's weights were last loaded from; `names` maps new names to those there.

    They are in a Scope of the user's, or in a file or Layer, from which `load` puts them into a
    Scope as they are now. Without either they are not known, for the reason `unknown`.
    """

    names: Mapping[str, str]
    scope: Paddle | None = None
    load: Callable[[Paddle], object] | None = None
    unknown: str = ""

    def open(self, empty: Paddle) -> Paddle | str:
        """Return a Scope with the weights, which may be loaded into an empty one, or the reason."""
        if self.load is None:
            return self.unknown or self.scope
        try:
            self.load(empty)
        except GraphtoolError as error:
            return next(iter(error.report)).message
        except OSError as error:
            return error.strerror or str(error)
        return empty


def find_weights(
    source: Paddle,
    plan: MergePlan,
    teacher: LiveProgram,
    student_scope: Paddle,
    into: Paddle | None = None,
) -> tuple[Paddle, Provenance]:
    """Find all of the teacher's weights in a Scope, a mapping or a file; return the Scope too.

    Weights of a mapping or a file are put into the Scope `into`, a new one if None.

    Raises MergeError: GT250 for missing weights, GT237 for another shape or dtype, GT202 for
    weights that are the student's. Raises UsageError: GT248. Raises GraphtoolError: GT001, GT010,
    GT237, GT240, GT501, GT502 for a bad file.
    """
    if hasattr(source, "find_var"):
        scope, description = source, "the Scope"
        names = _names_in_scope(scope, description, plan, student_scope)
        return scope, Provenance(names, scope=scope)
    scope = new_scope() if into is None else into
    if isinstance(source, str | PathLike):
        path = Path(fspath(cast("str | PathLike[str]", source))).absolute()
        set_tensors(_read_file(path, plan, teacher), scope)
        names = _names_in_scope(scope, f"`{source}`", plan, student_scope)
        load = partial(find_weights, path, plan, teacher, student_scope)
        return scope, Provenance(names, load=load)
    if not isinstance(source, Mapping):
        wanted = "a Scope, a mapping of arrays, or a file or folder of weights"
        call = 'merged.load_teacher("teacher.pdiparams")'
        raise UsageError(bad_argument("source", source, wanted, call))
    arrays = _select_arrays(cast("Mapping[str, Paddle]", source), plan)
    for old, array in arrays.items():
        scope.var(old).get_tensor().set(array, load_paddle().CPUPlace())
    names = _names_in_scope(scope, "the mapping", plan, student_scope)
    return scope, Provenance(names, unknown="the mapping that they came from is not kept")


def _names_in_scope(
    scope: Paddle, description: str, plan: MergePlan, student_scope: Paddle
) -> dict[str, str]:
    """Map new names of the teacher's weights to the names that a Scope has them under."""
    variables = scope_facts(scope, (name for pair in plan.weights for name in pair)).variables
    held = {name for name, variable in variables.items() if variable.initialised}
    # Under these names the source holds what the student trains, not the teacher's weights.
    student_names: frozenset[str] = frozenset()
    if not plan.one_program:
        student_names = same_variables(scope, student_scope, plan.student_persistables)
    old_names = frozenset(dict(plan.weights))
    holds_merged = (
        scope is not student_scope
        and not same_variables(scope, student_scope, dict(plan.weights).values())
        and any(new in held for _, new in plan.weights if new not in old_names)
    )
    found: dict[str, str] = {}
    for old, new in plan.weights:
        candidates = (new,) if holds_merged or old in student_names else (old, new)
        name = next((name for name in candidates if name in held), None)
        if name is not None:
            found[old] = name
    missing = [old for old, _ in plan.weights if old not in found]
    collisions = [old for old in missing if old in student_names]
    where = [Where(role="teacher", value=name) for name in (collisions or missing)[:_LISTED]]
    if collisions:
        raise MergeError(
            scope_collision(
                f"`{collisions[0]}` is the student's tensor in the Scope to load from",
                where,
                help="load the teacher's weights in a separate Scope, or from a file",
            )
        )
    if missing:
        message = f"{description} lacks {len(missing)} of the teacher's {len(old_names)} parameters"
        fix = "print(merged.names)"
        raise MergeError(reading_problems.weights_not_found(message, where, help=fix))
    mismatches = [
        _mismatch(plan.teacher_names[old], variables[name]) for old, name in found.items()
    ]
    if any(mismatches):
        raise MergeError(*filter(None, mismatches))
    return {new: found[old] for old, new in plan.weights}


def _read_file(path: Path, plan: MergePlan, teacher: LiveProgram) -> dict[str, Tensor]:
    """Read the teacher's weights from a file, by their old names."""
    weights = read_weights(path, teacher.graph)
    by_table = {weights.table.get(key, key): tensor for key, tensor in weights.tensors.items()}
    tensors = {**by_table, **weights.tensors}
    return {old: tensors[name] for old, name in _source_names(tensors, plan).items()}


def _select_arrays(source: Mapping[str, Paddle], plan: MergePlan) -> dict[str, Paddle]:
    """Select the teacher's weights from a mapping, by their old names."""
    import numpy as np

    arrays = {old: np.asarray(source[name]) for old, name in _source_names(source, plan).items()}
    mismatches = [
        _mismatch(plan.teacher_names[old], ScopeVariable(True, array.shape, str(array.dtype)))  # noqa: FBT003
        for old, array in arrays.items()
        if array.dtype.kind not in _NUMBERS
    ]
    if mismatches:
        raise MergeError(*filter(None, mismatches))
    return arrays


def _source_names(source: Container[str], plan: MergePlan) -> dict[str, str]:
    """Map the teacher's old names to the names that a source has its weights under.

    A source with any of the new names comes from a merged Program, where old names are the
    student's.
    """
    old_names = frozenset(dict(plan.weights))
    is_merged = any(new in source for _, new in plan.weights if new not in old_names)
    names = {old: new if is_merged else old for old, new in plan.weights}
    return {old: name for old, name in names.items() if name in source}


def _mismatch(value: Value, found: ScopeVariable) -> Diagnostic | None:
    if fits_shape(value, found.shape) and found.dtype == value.dtype:
        return None
    is_now, wanted = (
        f"{given.dtype or 'of unknown dtype'} "
        f"{'of unknown shape' if given.shape is None else list(given.shape)}"
        for given in (found, value)
    )
    return reading_problems.misfit_weights(
        f"`{value.name}` is {is_now}; the teacher wants {wanted}",
        (Where(role="teacher", value=value.name, shape=value.shape),),
        help="load the weights that were saved with this teacher",
    )
