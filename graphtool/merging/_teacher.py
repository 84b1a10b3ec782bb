"""Open a teacher, find its weights, and put them into the student's Scope."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import cast

from graphtool.arguments import bad_argument
from graphtool.backend.facts import ScopeVariable, same_variables, scope_facts
from graphtool.backend.layer_weights import copy_layer_tensors, weights_layer_unless_in
from graphtool.backend.live import (
    LiveProgram,
    open_saved,
    program_before_merges,
    program_of,
    student_scope_of,
    translate,
)
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
from graphtool.graph import ProgramKind, Value, fits_shape
from graphtool.readers import problems as reading_problems
from graphtool.readers.files import find_parameters
from graphtool.readers.tensor_files import (
    ParameterFileFacts,
    Tensor,
    parameter_file_facts,
    read_tensors,
)
from graphtool.readers.weights import read_weights
from graphtool.sources import read

__all__ = [
    "Provenance",
    "Scopes",
    "Teacher",
    "WeightSource",
    "find_weights",
    "open_teacher",
    "transfer_weights",
]

# NumPy's dtype kinds of numbers: bool, integer, floating and complex.
_NUMBERS = "biufc"
_LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teacher:
    """An opened teacher; its weights are in `scope` after `load(scope)`.

    `has_own_weights` says that they are in a file or a Layer, and `load` puts them into a Scope.
    `file` describes the file.
    """

    live: LiveProgram
    scope: Paddle
    load: Callable[[Paddle], None]
    file: ParameterFileFacts | None = None
    has_own_weights: bool = False


def open_teacher(
    source: Paddle, scope: Paddle | None, student_scope: Paddle, kind: ProgramKind
) -> Teacher:
    """Open a teacher for a student of the given kind.

    A saved model or a Network has its own weights, which go into a private Scope. For any other
    teacher they are in `scope`, or in the student's if that is None. The same holds for a Network
    whose startup program was requested, whose parameters were loaded, or whose weights are all in
    the given `scope`. A legacy teacher is translated for a PIR student.

    A teacher that had a teacher itself is opened as it was before that merge, without losses and
    optimizer. Its weights are in the Scope in which it was trained if `scope` is None.
    """
    if isinstance(source, (str, PathLike)):
        return _open_saved_model(Path(fspath(source)), scope, kind)
    live = program_before_merges(source)
    if live.kind is ProgramKind.LEGACY and kind is ProgramKind.PIR:
        live = translate(live.program)
    training_scope = student_scope_of(program_of(source))
    if training_scope is not None:
        teacher_scope = training_scope if scope is None else scope
        return Teacher(live=live, scope=teacher_scope, load=_load_nothing)
    layer = weights_layer_unless_in(source, persistable_names(live.graph), scope)
    if layer is not None:
        load = partial(copy_layer_tensors, layer)
        return Teacher(live=live, scope=new_scope(), load=load, has_own_weights=True)
    teacher_scope = student_scope if scope is None else scope
    return Teacher(live=live, scope=teacher_scope, load=_load_nothing)


def _open_saved_model(path: Path, scope: Paddle | None, kind: ProgramKind) -> Teacher:
    graph = read(path)
    model = Path(graph.source)
    live = open_saved(graph, kind)
    weights = find_parameters(model, persistable_names(live.graph))
    if weights is None:
        # An empty Scope: the student's could hold other tensors under the same names.
        teacher_scope = new_scope() if scope is None else scope
        return Teacher(live=live, scope=teacher_scope, load=_load_nothing)
    facts = None if weights.is_dir() else parameter_file_facts(weights)
    load = partial(_load_file, weights.absolute(), live)
    return Teacher(live=live, scope=new_scope(), load=load, file=facts, has_own_weights=True)


def _load_file(path: Path, live: LiveProgram, scope: Paddle) -> None:
    """Load a combined parameter file, or a folder with one file per parameter, into a Scope."""
    names = saved_names(live.graph)
    files = [path / name for name in names] if path.is_dir() else [path]
    tensors = [tensor for file in files for tensor in read_tensors(file)]
    if not are_saved_shapes(live.graph, [tensor.shape for tensor in tensors]):
        source = live.graph.source
        counts = len(tensors), len(names)
        raise ReadError(reading_problems.wrong_tensor_count(str(path), *counts, source))
    set_tensors(dict(zip(names, tensors, strict=True)), scope)
    set_dropout_states(used_names(live.graph), scope)


def _load_nothing(_: Paddle) -> None:
    """Load nothing: the weights are in their Scope already."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scopes:
    """The Scope that holds the teacher's weights, and the one the student trains in.

    `share`: nothing writes the teacher's tensors any more, so both Scopes may use one buffer.
    """

    teacher: Paddle
    student: Paddle
    share: bool = False


def transfer_weights(
    plan: MergePlan, scopes: Scopes, place: Paddle | None, undo: ExitStack
) -> None:
    """Put the teacher's tensors into the student's Scope under their new names.

    Tensors are copied: the startup program that created one writes its buffer in place when it
    runs again. With `scopes.share` both Variables use one buffer, unless the student holds that
    buffer as well and trains it. `undo` gets a callback that removes each tensor again.
    """
    tensors = {new: scopes.teacher.find_var(old).get_tensor() for old, new in plan.weights}
    copied = _trained_tensors(plan, tensors, scopes) if scopes.share else frozenset(tensors)
    assign_tensors(tensors, scopes.student, place=place, copied=copied, undo=undo)


def _trained_tensors(
    plan: MergePlan, tensors: Mapping[str, Paddle], scopes: Scopes
) -> frozenset[str]:
    """Return the new names of tensors that training in the student's Scope would change."""
    same = same_variables(scopes.teacher, scopes.student, plan.teacher_persistables)
    # A buffer of the student's may have been shared with the teacher.
    student_tensors = initialised_tensors(scopes.student, plan.student_persistables).values()
    buffers = frozenset(map(buffer_address, student_tensors))
    return frozenset(
        new for old, new in plan.weights if old in same or buffer_address(tensors[new]) in buffers
    )


@dataclass(frozen=True, slots=True, eq=False)
class WeightSource:
    """A Scope that holds all of the teacher's weights; `names` maps new names to those in it."""

    scope: Paddle
    names: Mapping[str, str]

    def tensors(self) -> dict[str, Paddle]:
        """Return the tensors by their new names."""
        return {new: self.scope.find_var(name).get_tensor() for new, name in self.names.items()}


@dataclass(slots=True, eq=False)
class Provenance:
    """Where the teacher's weights were last loaded from.

    `locate` takes an empty Scope that it may fill. It returns the Scope and the names that hold
    the source's weights as they are now, or the reason why there are none.
    """

    locate: Callable[[Paddle], WeightSource | str]

    @classmethod
    def unavailable(cls, reason: str) -> Provenance:
        """Have no weights to compare with, for a reason."""
        return cls(lambda _: reason)

    @classmethod
    def of_scope(cls, scope: Paddle, names: Mapping[str, str]) -> Provenance:
        """Find the weights in a Scope of the user's; `names` maps new names to those in it."""
        return cls(lambda _: WeightSource(scope, names))

    @classmethod
    def of_file(cls, load: Callable[[Paddle], object], names: Mapping[str, str]) -> Provenance:
        """Find the weights in a file or Layer, as it is now, which `load` puts into a Scope."""

        def locate(scope: Paddle) -> WeightSource | str:
            try:
                load(scope)
            except GraphtoolError as error:
                return next(iter(error.report)).message
            except OSError as error:
                return error.strerror or str(error)
            return WeightSource(scope, names)

        return cls(locate)


def find_weights(
    source: Paddle,
    plan: MergePlan,
    teacher: LiveProgram,
    student_scope: Paddle,
    into: Paddle | None = None,
) -> WeightSource:
    """Find all of the teacher's weights in a Scope, a mapping or a file.

    Weights of a mapping or a file are put into the Scope `into`, a new one if None.

    Raises MergeError: GT250 for missing weights, GT237 for another shape or dtype, GT202 for
    weights that are the student's. Raises UsageError: GT248. Raises GraphtoolError: GT001, GT010,
    GT237, GT240, GT501, GT502 for a bad file.
    """
    scope, description = _open_source(source, plan, teacher, into)
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
    student_weights = [old for old in missing if old in student_names]
    if student_weights:
        raise MergeError(
            scope_collision(
                f"`{student_weights[0]}` is the student's tensor in the Scope to load from",
                [Where(role="teacher", value=name) for name in student_weights[:5]],
                help="load the teacher's weights in a separate Scope, or from a file",
            )
        )
    if missing:
        message = f"{description} lacks {len(missing)} of the teacher's {len(old_names)} parameters"
        where = tuple(Where(role="teacher", value=name) for name in missing[:_LISTED])
        missing_weights = reading_problems.weights_not_found(
            message, where, help="print(merged.names)"
        )
        raise MergeError(missing_weights)
    mismatches = [
        _mismatch(plan.teacher_names[old], variables[name]) for old, name in found.items()
    ]
    if any(mismatches):
        raise MergeError(*filter(None, mismatches))
    return WeightSource(scope, {new: found[old] for old, new in plan.weights})


def _open_source(
    source: Paddle, plan: MergePlan, teacher: LiveProgram, into: Paddle | None
) -> tuple[Paddle, str]:
    """Return a Scope with the weights of a source, and what to call the source in a message."""
    if hasattr(source, "find_var"):
        return source, "the Scope"
    scope = new_scope() if into is None else into
    if isinstance(source, str | PathLike):
        path = fspath(cast("str | PathLike[str]", source))
        set_tensors(_read_file(Path(path), plan, teacher), scope)
        return scope, f"`{path}`"
    if not isinstance(source, Mapping):
        raise UsageError(
            bad_argument(
                "source",
                source,
                "a Scope, a mapping of arrays, or a file or folder of weights",
                'merged.load_teacher("teacher.pdiparams")',
            )
        )
    arrays = _select_arrays(cast("Mapping[str, Paddle]", source), plan)
    for old, array in arrays.items():
        scope.var(old).get_tensor().set(array, load_paddle().CPUPlace())
    return scope, "the mapping"


def _read_file(path: Path, plan: MergePlan, teacher: LiveProgram) -> dict[str, Tensor]:
    """Read the teacher's weights from a file, by their old names."""
    weights = read_weights(path, teacher.graph)
    by_table = {weights.table.get(key, key): tensor for key, tensor in weights.tensors.items()}
    tensors = {**by_table, **weights.tensors}
    return {old: tensors[name] for old, name in _source_names(tensors, plan).items()}


def _select_arrays(source: Mapping[str, Paddle], plan: MergePlan) -> dict[str, Paddle]:
    """Select the teacher's weights from a mapping, by their old names.

    Raises MergeError: GT237 for what is not an array of numbers.
    """
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
