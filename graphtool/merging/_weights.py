"""Find the teacher's weights in what `load_teacher` is given, and check that they fit."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import cast

from graphtool.arguments import bad_argument
from graphtool.backend.facts import ScopeFacts, ScopeVariable, same_variables, scope_facts
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.tensors import new_scope, set_tensors
from graphtool.checks import MergePlan
from graphtool.checks.names import scope_collision
from graphtool.diagnostics import Diagnostic, MergeError, UsageError, Where
from graphtool.graph import Shape, Value, fits_shape
from graphtool.readers.problems import misfit_weights, weights_not_found
from graphtool.readers.tensor_files import Tensor
from graphtool.readers.weights import read_weights

__all__ = ["WeightSource", "find_weights"]

# NumPy's dtype kinds of numbers: bool, integer, floating and complex.
_NUMBERS = "biufc"
_LISTED = 5


@dataclass(frozen=True, slots=True, eq=False)
class WeightSource:
    """A Scope that holds all of the teacher's weights; `names` maps new names to those in it."""

    scope: Paddle
    names: Mapping[str, str]

    def tensors(self) -> dict[str, Paddle]:
        """Return the tensors by their new names."""
        return {new: self.scope.find_var(name).get_tensor() for new, name in self.names.items()}


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
    facts = scope_facts(scope, (name for pair in plan.weights for name in pair))
    # Under these names the source holds what the student trains, not the teacher's weights.
    student_names: frozenset[str] = frozenset()
    if not plan.one_program:
        student_names = same_variables(scope, student_scope, plan.student_persistables)
    old_names = frozenset(dict(plan.weights))
    holds_merged = (
        scope is not student_scope
        and not same_variables(scope, student_scope, dict(plan.weights).values())
        and any(_is_initialised(facts, new) for _, new in plan.weights if new not in old_names)
    )
    found: dict[str, str] = {}
    for old, new in plan.weights:
        candidates = (new,) if holds_merged or old in student_names else (old, new)
        name = next((name for name in candidates if _is_initialised(facts, name)), None)
        if name is not None:
            found[old] = name
    missing = [old for old, _ in plan.weights if old not in found]
    student_weights = [old for old in missing if old in student_names]
    if student_weights:
        raise MergeError(
            scope_collision(
                f"`{student_weights[0]}` is the student's tensor in the Scope to load from",
                where=[Where(role="teacher", value=name) for name in student_weights[:5]],
                help="load the teacher's weights in a separate Scope, or from a file",
            )
        )
    if missing:
        message = f"{description} lacks {len(missing)} of the teacher's {len(old_names)} parameters"
        where = tuple(Where(role="teacher", value=name) for name in missing[:_LISTED])
        raise MergeError(weights_not_found(message, where, help="print(merged.names)"))
    mismatches = [
        _mismatch(plan.teacher_names[old], facts.variables[name]) for old, name in found.items()
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


def _is_initialised(facts: ScopeFacts, name: str) -> bool:
    variable = facts.variables.get(name)
    return variable is not None and variable.initialised


def _mismatch(value: Value, found: ScopeVariable) -> Diagnostic | None:
    if fits_shape(value, found.shape) and found.dtype == value.dtype:
        return None
    is_now, wanted = _described(found.shape, found.dtype), _described(value.shape, value.dtype)
    return misfit_weights(
        f"`{value.name}` is {is_now}; the teacher wants {wanted}",
        (Where(role="teacher", value=value.name, shape=value.shape),),
        help="load the weights that were saved with this teacher",
    )


def _described(shape: Shape | None, dtype: str | None) -> str:
    return f"{dtype or 'of unknown dtype'} {'of unknown shape' if shape is None else list(shape)}"
