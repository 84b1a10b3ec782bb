"""Find the teacher's weights in what a caller loads them from, and check that they fit."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.checks import MergePlan
from graphtool.diagnostics import Diagnostic, MergeError, UsageError
from graphtool.graph import Value, keeps_shape
from graphtool.merging import problems
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import ScopeFacts, ScopeVariable, same_variables, scope_facts
from graphtool.readers.live import LiveProgram
from graphtool.readers.tensors import Tensor, set_tensors
from graphtool.readers.weights import read_weights

__all__ = ["Found", "weights_from"]

# By numpy's kinds of dtypes: bool, whole, floating and complex numbers.
_NUMBERS = "biufc"

# Scopes and tensors are of Paddle's compiled part; arrays are whatever numpy takes.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A Scope that holds all of the teacher's weights: new name -> name there."""

    scope: _Paddle
    names: Mapping[str, str]

    def tensors(self) -> dict[str, _Paddle]:
        """Return the tensors by their new names."""
        return {new: self.scope.find_var(name).get_tensor() for new, name in self.names.items()}


def weights_from(
    source: _Paddle,
    plan: MergePlan,
    teacher: LiveProgram,
    scope: _Paddle,
    into: _Paddle | None = None,
) -> Found:
    """Find all of the teacher's weights in a Scope, or put them `into` one, a new one if None.

    Raises MergeError: GT250 where some are missing, GT251 where shape or dtype differ, GT255 where
    they are the student's. Raises UsageError: GT254. Raises GraphtoolError: GT001, GT010, GT240,
    GT500 to GT504 for a bad file.
    """
    held, kind = _scope_of(source, plan, teacher, into)
    facts = scope_facts(held, (name for pair in plan.weights for name in pair))
    students = _students(held, plan, scope)
    apart = held is not scope and not same_variables(held, scope, dict(plan.weights).values())
    known = frozenset(dict(plan.weights))
    merged = apart and any(_holds(facts, new) for _, new in plan.weights if new not in known)
    names = {
        old: _named(facts, (new,) if merged or old in students else (old, new))
        for old, new in plan.weights
    }
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
    return Found(held, {new: found[old] for old, new in plan.weights})


def _students(held: _Paddle, plan: MergePlan, scope: _Paddle) -> frozenset[str]:
    """Return the names under which a Scope holds what the student trains, not the teacher's."""
    if plan.one_program:
        return frozenset()
    return same_variables(held, scope, plan.student_kept)


def _scope_of(
    source: _Paddle, plan: MergePlan, teacher: LiveProgram, into: _Paddle | None
) -> tuple[_Paddle, str]:
    if hasattr(source, "find_var"):
        return source, "the Scope"
    filled = load_paddle().base.core.Scope() if into is None else into
    if isinstance(source, str | PathLike):
        path = fspath(cast("str | PathLike[str]", source))
        set_tensors(_read(Path(path), plan, teacher), filled)
        return filled, f"`{path}`"
    if not isinstance(source, Mapping):
        raise UsageError(problems.no_weights(source))
    arrays = _arrays(cast("Mapping[str, _Paddle]", source), plan)
    for old, array in arrays.items():
        filled.var(old).get_tensor().set(array, load_paddle().CPUPlace())
    return filled, "the mapping"


def _read(path: Path, plan: MergePlan, teacher: LiveProgram) -> dict[str, Tensor]:
    """Read what a file holds of the teacher's weights, by their old names."""
    weights = read_weights(path, teacher.graph)
    by_table = {weights.table.get(key, key): tensor for key, tensor in weights.tensors.items()}
    named = {**by_table, **weights.tensors}
    return {old: named[name] for old, name in _names_in(named, plan).items()}


def _arrays(source: Mapping[str, _Paddle], plan: MergePlan) -> dict[str, _Paddle]:
    """Take the teacher's weights out of a mapping, by their old names.

    Raises MergeError: GT251 for what is no array of numbers.
    """
    import numpy as np

    arrays = {old: np.asarray(source[name]) for old, name in _names_in(source, plan).items()}
    misfits = [
        _misfit(plan.teacher_names[old], ScopeVariable(True, array.shape, str(array.dtype)))  # noqa: FBT003
        for old, array in arrays.items()
        if array.dtype.kind not in _NUMBERS
    ]
    if misfits:
        raise MergeError(*filter(None, misfits))
    return arrays


def _names_in(held: Container[str], plan: MergePlan) -> dict[str, str]:
    """Map the teacher's old names to those that a source has its weights under.

    A source that knows any of the new ones is of a merged Program: there the old ones, where it has
    them, are the student's.
    """
    known = frozenset(dict(plan.weights))
    merged = any(new in held for _, new in plan.weights if new not in known)
    names = {old: new if merged else old for old, new in plan.weights}
    return {old: name for old, name in names.items() if name in held}


def _named(facts: ScopeFacts, names: Iterable[str]) -> str | None:
    """Return the first of the names that a Scope holds something under."""
    return next((name for name in names if _holds(facts, name)), None)


def _holds(facts: ScopeFacts, name: str) -> bool:
    variable = facts.variables.get(name)
    return variable is not None and variable.initialised


def _misfit(value: Value, found: ScopeVariable) -> Diagnostic | None:
    if keeps_shape(value, found.shape) and found.dtype == value.dtype:
        return None
    return problems.weights_misfit(
        value.name, (found.shape, found.dtype), (value.shape, value.dtype)
    )
