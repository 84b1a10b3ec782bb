"""The Scopes of a merge, and how the teacher's weights get into the student's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from graphtool.backend.facts import same_variables
from graphtool.backend.paddle import Paddle
from graphtool.backend.tensors import assign_tensors, buffer_address, initialised_tensors
from graphtool.checks import MergePlan

__all__ = ["Scopes", "transfer_weights"]


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
