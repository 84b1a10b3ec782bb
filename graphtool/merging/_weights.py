"""Find the teacher's weights in what a caller loads them from, and check that they fit."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.checks import MergePlan
from graphtool.diagnostics import Diagnostic, MergeError
from graphtool.graph import Value, shapes_agree
from graphtool.merging import problems
from graphtool.merging._teacher import load_file
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import ScopeFacts, ScopeVariable, scope_facts
from graphtool.readers.live import LiveProgram

__all__ = ["weights_from"]

# Scopes and tensors are of Paddle's compiled part; arrays are whatever numpy takes.
_Paddle: TypeAlias = Any


def weights_from(
    source: _Paddle, plan: MergePlan, teacher: LiveProgram, scope: _Paddle
) -> tuple[Mapping[str, _Paddle], frozenset[str]]:
    """Return new name -> tensor for all of the teacher's weights, and which are to be copied.

    Raises MergeError: GT250 where some are missing, GT251 where shape or dtype differ.
    """
    held, kind = _scope_of(source, plan, teacher)
    facts = scope_facts(held, (name for pair in plan.weights for name in pair))
    names = {old: _named(facts, old, new) for old, new in plan.weights}
    missing = [old for old, name in names.items() if name is None]
    if missing:
        raise MergeError(problems.weights_missing(kind, missing, len(names)))
    found = {old: name for old, name in names.items() if name is not None}
    misfits = [
        _misfit(plan.teacher_names[old], facts.variables[name]) for old, name in found.items()
    ]
    if any(misfits):
        raise MergeError(*filter(None, misfits))
    tensors = {new: held.find_var(found[old]).get_tensor() for old, new in plan.weights}
    return tensors, frozenset(tensors if held is scope else ())


def _scope_of(source: _Paddle, plan: MergePlan, teacher: LiveProgram) -> tuple[_Paddle, str]:
    if hasattr(source, "find_var"):
        return source, "the Scope"
    own = load_paddle().base.core.Scope()
    if isinstance(source, str | PathLike):
        path = fspath(cast("str | PathLike[str]", source))
        load_file(Path(path), teacher, own)
        return own, f"`{path}`"
    for old, new in plan.weights:
        array = source.get(old, source.get(new))
        if array is not None:
            _set(own.var(old).get_tensor(), array)
    return own, "the mapping"


def _set(tensor: _Paddle, array: _Paddle) -> None:
    import numpy as np

    tensor.set(np.asarray(array), load_paddle().CPUPlace())


def _named(facts: ScopeFacts, old: str, new: str) -> str | None:
    """Return the one of both names that something is held under, the old one first."""
    for name in (old, new):
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
