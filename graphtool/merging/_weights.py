"""Find the teacher's weights in what a caller loads them from, and check that they fit."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.checks import MergePlan
from graphtool.diagnostics import Diagnostic, MergeError, UsageError
from graphtool.graph import Value, shapes_agree
from graphtool.merging import problems
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import ScopeFacts, ScopeVariable, same_variables, scope_facts
from graphtool.readers.live import LiveProgram
from graphtool.readers.tensors import Tensor, set_tensors
from graphtool.readers.weights import read_weights

__all__ = ["weights_from"]

# Scopes and tensors are of Paddle's compiled part; arrays are whatever numpy takes.
_Paddle: TypeAlias = Any


def weights_from(
    source: _Paddle, plan: MergePlan, teacher: LiveProgram, scope: _Paddle
) -> tuple[Mapping[str, _Paddle], frozenset[str]]:
    """Return new name -> tensor for all of the teacher's weights, and which are to be copied.

    Raises MergeError: GT250 where some are missing, GT251 where shape or dtype differ, GT255 where
    they are the student's. Raises UsageError: GT254. Raises GraphtoolError: GT001, GT010, GT240,
    GT500 to GT504 for a bad file.
    """
    held, kind = _scope_of(source, plan, teacher)
    facts = scope_facts(held, (name for pair in plan.weights for name in pair))
    students = _students(held, plan, scope)
    names = {old: _named(facts, old, new, students) for old, new in plan.weights}
    missing = [old for old, name in names.items() if name is None]
    own = [old for old in missing if old in students]
    if own:
        raise MergeError(problems.weights_are_the_students(own))
    if missing:
        raise MergeError(problems.weights_missing(kind, missing, len(names)))
    found = {old: name for old, name in names.items() if name is not None}
    misfits = [
        _misfit(plan.teacher_names[old], facts.variables[name]) for old, name in found.items()
    ]
    if any(misfits):
        raise MergeError(*filter(None, misfits))
    tensors = {new: held.find_var(found[old]).get_tensor() for old, new in plan.weights}
    # A Scope of the caller's: its startup program may run again, and write the buffers.
    return tensors, frozenset(tensors if held is source else ())


def _students(held: _Paddle, plan: MergePlan, scope: _Paddle) -> frozenset[str]:
    """Return the names under which a Scope holds what the student trains, not the teacher's."""
    if plan.one_program:
        return frozenset()
    return same_variables(held, scope, plan.student_kept)


def _scope_of(source: _Paddle, plan: MergePlan, teacher: LiveProgram) -> tuple[_Paddle, str]:
    if hasattr(source, "find_var"):
        return source, "the Scope"
    own = load_paddle().base.core.Scope()
    if isinstance(source, str | PathLike):
        path = fspath(cast("str | PathLike[str]", source))
        set_tensors(_read(Path(path), plan, teacher), own)
        return own, f"`{path}`"
    if not isinstance(source, Mapping):
        raise UsageError(problems.no_weights(source))
    arrays = cast("Mapping[str, _Paddle]", source)
    for old, new in plan.weights:
        array = arrays.get(old, arrays.get(new))
        if array is not None:
            _set(own.var(old).get_tensor(), array)
    return own, "the mapping"


def _read(path: Path, plan: MergePlan, teacher: LiveProgram) -> dict[str, Tensor]:
    """Read what a file holds of the teacher's weights, by their old names."""
    weights = read_weights(path, teacher.graph)
    named = {weights.table.get(key, key): tensor for key, tensor in weights.tensors.items()}
    found = {old: named.get(old, named.get(new)) for old, new in plan.weights}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _set(tensor: _Paddle, array: _Paddle) -> None:
    import numpy as np

    tensor.set(np.asarray(array), load_paddle().CPUPlace())


def _named(facts: ScopeFacts, old: str, new: str, students: frozenset[str]) -> str | None:
    """Return the one of both names that the teacher's is held under, the old one first."""
    for name in (new,) if old in students else (old, new):
        variable = facts.variables.get(name)
        if variable is not None and variable.initialised:
            return name
    return None


def _misfit(value: Value, found: ScopeVariable) -> Diagnostic | None:
    if shapes_agree(found.shape, value.shape) and found.dtype == value.dtype:
        return None
    return problems.weights_misfit(
        value.name, (found.shape, found.dtype), (value.shape, value.dtype)
    )
