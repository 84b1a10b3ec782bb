"""Both networks of a merge, analysed when that is first asked for."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.checks.layouts import Axes, axes_of
from graphtool.loss_names import named_losses
from graphtool.matching import Pair
from graphtool.merging import Merged
from graphtool.structure import Structure, analyse

__all__ = ["Networks"]


@dataclass(frozen=True, eq=False)
class Networks:
    """A merge, and what its teacher and student are made of."""

    merged: Merged

    @property
    def student(self) -> Structure:
        """What the student is made of."""
        return analyse(self.merged.plan.student)

    def axes(self, pair: Pair, axis: object = None) -> Axes:
        """Return which axis of either Value has the channels or classes: `axes_of`."""
        plan = self.merged.plan
        names = pair.teacher.name, pair.student.name
        graphs, loss = (plan.teacher, plan.student), named_losses()[pair.loss]
        return axes_of(loss, graphs, names, axis, suggested=pair.is_suggested)
