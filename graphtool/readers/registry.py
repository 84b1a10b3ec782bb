"""What a Program knows of merges into it, or into the one that it is a clone of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from graphtool.readers._paddle import is_legacy

__all__ = ["home_of", "note", "noted"]

# Programs and their parameters are Paddle's; what is noted is made in layers above.
_Paddle: TypeAlias = Any
_Merges: TypeAlias = "tuple[Any, ...]"

_MERGES = "_graphtool_teachers"


def noted(program: _Paddle) -> _Merges:
    """Return what was noted last, of the Program itself or of one that it was cloned from."""
    found: _Merges | None = getattr(program, _MERGES, None)
    if found is not None:
        return found
    return max(_carried(program), key=len, default=()) if hasattr(program, "desc") else ()


def home_of(program: _Paddle) -> _Paddle | None:
    """Return the Scope in which a Program learns from a teacher, None where it has no teacher."""
    merges = noted(program)
    return merges[0].scopes.student if merges else None


def note(program: _Paddle, merges: _Merges, carriers: Iterable[str] = ()) -> None:
    """Let a Program, and those that are cloned from it, know of merges; none are forgotten.

    Paddle's `clone` copies attributes of a PIR Program. Of a legacy one it copies those of
    Parameters: frozen ones of these names, whose options no optimizer reads, carry the note.
    """
    if merges:
        setattr(program, _MERGES, merges)
    elif hasattr(program, _MERGES):
        delattr(program, _MERGES)
    if is_legacy(program):
        held = program.global_block().vars
        for parameter in [held[name] for name in carriers if name in held]:
            if hasattr(parameter, "optimize_attr"):
                parameter.optimize_attr = {**parameter.optimize_attr, _MERGES: merges}


def _carried(program: _Paddle) -> Iterator[_Merges]:
    for parameter in program.global_block().all_parameters():
        if _MERGES in (parameter.optimize_attr or ()):
            yield parameter.optimize_attr[_MERGES]
