"""Copy or share tensors between Scopes, under new names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from graphtool.backend.facts import same_variables
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.tensors import copy_tensor, initialised_tensors, new_like
from graphtool.checks import MergePlan
from graphtool.merging._backend import Scopes

__all__ = ["assign_tensors", "transfer_weights"]


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


def assign_tensors(
    tensors: Mapping[str, Paddle],
    scope: Paddle,
    *,
    place: Paddle | None = None,
    copied: frozenset[str] = frozenset(),
    undo: ExitStack,
) -> None:
    """Assign tensors to Variables of a Scope: those in `copied` are copied, the others shared."""
    for name, tensor in tensors.items():
        before = scope.find_var(name)
        undo.callback(_erase_if_new, scope, name, before)
        variable = scope.var(name)
        target = variable.get_tensor()
        if variable is before:
            _restore_on_undo(target, undo)
        target._share_data_with(_on_place(tensor, place, copy=name in copied))  # noqa: SLF001


def _erase_if_new(scope: Paddle, name: str, before: Paddle | None) -> None:
    # An inner Scope finds the outer one's Variables too.
    if scope.find_var(name) is not before:
        scope.erase([name])


def _restore_on_undo(tensor: Paddle, undo: ExitStack) -> None:
    if tensor._is_initialized():  # noqa: SLF001
        backup = new_like(tensor)
        backup._share_data_with(tensor)  # noqa: SLF001
        undo.callback(tensor._share_data_with, backup)  # noqa: SLF001
        return
    undo.callback(tensor._set_dims, tensor.shape())  # noqa: SLF001
    undo.callback(tensor._clear)  # noqa: SLF001


def _trained_tensors(
    plan: MergePlan, tensors: Mapping[str, Paddle], scopes: Scopes
) -> frozenset[str]:
    """Return the new names of tensors that training in the student's Scope would change."""
    same = same_variables(scopes.teacher, scopes.student, plan.teacher_persistables)
    # A buffer of the student's may have been shared with the teacher.
    student_tensors = initialised_tensors(scopes.student, plan.student_persistables).values()
    buffers = frozenset([tensor._ptr() for tensor in student_tensors])  # noqa: SLF001
    return frozenset(
        new
        for old, new in plan.weights
        if old in same or tensors[new]._ptr() in buffers  # noqa: SLF001
    )


def _on_place(tensor: Paddle, place: Paddle | None, *, copy: bool) -> Paddle:
    """Return a tensor on a place (its own if None), copied if asked to or if it is elsewhere."""
    if place is None and not copy:
        return tensor
    current = tensor._place()  # noqa: SLF001
    target = current if place is None else _as_general_place(place)
    copy = copy or not target._equals(current)  # noqa: SLF001
    return copy_tensor(tensor, target) if copy else tensor


def _as_general_place(place: Paddle) -> Paddle:
    """Return a place of any device as the one type that compares with a tensor's."""
    general = load_paddle().base.core.Place()
    general.set_place(place)
    return general
