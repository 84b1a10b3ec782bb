"""Bring parameters from one Scope into another under new names: copied, or shared if asked to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias

from graphtool.checks import MergePlan
from graphtool.merging._backend import Scopes
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import same_variables
from graphtool.readers.tensors import copy_of, empty_like, held_tensors

__all__ = ["as_place", "bring_parameters", "hand_over"]

# Scopes, Variables, tensors and Places are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any


def bring_parameters(
    plan: MergePlan, scopes: Scopes, place: _Paddle | None, undo: ExitStack
) -> None:
    """Give the student's Scope the teacher's tensors under their new names.

    `undo` gets what takes each of them away again. A tensor is copied, because the startup program
    that made it writes its buffer in place when it runs again. Where `scopes.share` says that none
    does, both Variables have one buffer, unless the student has that buffer as well and trains it.
    """
    tensors = {new: scopes.teacher.find_var(old).get_tensor() for old, new in plan.weights}
    copied = _trained(plan, tensors, scopes) if scopes.share else frozenset(tensors)
    hand_over(tensors, scopes.student, place=place, copied=copied, undo=undo)


def hand_over(
    tensors: Mapping[str, _Paddle],
    scope: _Paddle,
    *,
    place: _Paddle | None = None,
    copied: frozenset[str] = frozenset(),
    undo: ExitStack,
) -> None:
    """Set Variables of a Scope to tensors: their buffers are shared, or copied where named so."""
    for name, tensor in tensors.items():
        before = scope.find_var(name)
        undo.callback(_erase_new, scope, name, before)
        variable = scope.var(name)
        target = variable.get_tensor()
        if variable is before:
            _keep(target, undo)
        target._share_data_with(_at(tensor, place, copy=name in copied))  # noqa: SLF001


def _erase_new(scope: _Paddle, name: str, before: _Paddle | None) -> None:
    # A Scope inside another finds the outer one's Variables too.
    if scope.find_var(name) is not before:
        scope.erase([name])


def _trained(plan: MergePlan, tensors: Mapping[str, _Paddle], scopes: Scopes) -> frozenset[str]:
    """Return the new names of those that what runs in the student's Scope reaches."""
    reached = same_variables(scopes.teacher, scopes.student, plan.teacher_kept)
    buffers = frozenset(_buffers(plan.student_kept, scopes.student))
    return frozenset(
        new
        for old, new in plan.weights
        if old in reached or tensors[new]._ptr() in buffers  # noqa: SLF001
    )


def _buffers(names: Iterable[str], scope: _Paddle) -> Iterator[int]:
    """Yield the addresses of what is initialised; it may have been shared with the teacher."""
    for tensor in held_tensors(scope, names).values():
        yield tensor._ptr()  # noqa: SLF001


def _at(tensor: _Paddle, place: _Paddle | None, *, copy: bool) -> _Paddle:
    if place is None and not copy:
        return tensor
    here = tensor._place()  # noqa: SLF001
    target = here if place is None else as_place(place)
    apart = copy or not target._equals(here)  # noqa: SLF001
    return copy_of(tensor, target) if apart else tensor


def as_place(place: _Paddle) -> _Paddle:
    """Return a place of any device as the one type that compares with a tensor's."""
    general = load_paddle().base.core.Place()
    general.set_place(place)
    return general


def _keep(tensor: _Paddle, undo: ExitStack) -> None:
    """Let `undo` put back what a Variable holds that was there before."""
    if tensor._is_initialized():  # noqa: SLF001
        kept = empty_like(tensor)
        kept._share_data_with(tensor)  # noqa: SLF001
        undo.callback(tensor._share_data_with, kept)  # noqa: SLF001
        return
    undo.callback(tensor._set_dims, tensor.shape())  # noqa: SLF001
    undo.callback(tensor._clear)  # noqa: SLF001
