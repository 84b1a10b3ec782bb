"""The two networks of a merge."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.checks.layouts import Axes, axes_of
from graphtool.loss_specs import named_losses
from graphtool.matching import Pair
from graphtool.merging import Merged
from graphtool.structure import Structure, analyse

__all__ = ["MergedNetworks"]


@dataclass(frozen=True, eq=False)
class MergedNetworks:
    """A merge, and the structure of its networks."""

    merged: Merged

    @property
    def student(self) -> Structure:
        """The structure of the student."""
        return analyse(self.merged.plan.student)

    def axes(self, pair: Pair, axis: object = None) -> Axes:
        """Return the channel or class axis of either Value of a pair; see `axes_of`."""
        plan = self.merged.plan
        names = pair.teacher.name, pair.student.name
        graphs, loss = (plan.teacher, plan.student), named_losses()[pair.loss]
        return axes_of(loss, graphs, names, axis, suggested=pair.is_suggested)
