"""Attach merge records to a Program so that its clones keep them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from graphtool.backend.paddle import Paddle, is_legacy

__all__ = ["merge_records", "set_merge_records", "student_scope_of"]

_Merges: TypeAlias = "tuple[Any, ...]"

_MERGES = "_graphtool_teachers"


def merge_records(program: Paddle) -> _Merges:
    """Return the merge records of a Program, or of the one that it was cloned from."""
    merges: _Merges | None = getattr(program, _MERGES, None)
    if merges is not None:
        return merges
    return max(_of_parameters(program), key=len, default=()) if hasattr(program, "desc") else ()


def student_scope_of(program: Paddle) -> Paddle | None:
    """Return the student's Scope of a merged Program, None if it has no teacher."""
    merges = merge_records(program)
    return merges[0].scope if merges else None


def set_merge_records(program: Paddle, merges: _Merges, carriers: Iterable[str] = ()) -> None:
    """Attach merge records to a Program and its future clones; empty ones remove the records.

    Paddle's `clone` copies the attributes of a PIR Program, but only those of the Parameters of a
    legacy one. There, the frozen Parameters named `carriers`, whose options no optimizer reads,
    keep the records.
    """
    if merges:
        setattr(program, _MERGES, merges)
    elif hasattr(program, _MERGES):
        delattr(program, _MERGES)
    if is_legacy(program):
        variables = program.global_block().vars
        for parameter in [variables[name] for name in carriers if name in variables]:
            if hasattr(parameter, "optimize_attr"):
                parameter.optimize_attr = {**parameter.optimize_attr, _MERGES: merges}


def _of_parameters(program: Paddle) -> Iterator[_Merges]:
    for parameter in program.global_block().all_parameters():
        if _MERGES in (parameter.optimize_attr or ()):
            yield parameter.optimize_attr[_MERGES]
