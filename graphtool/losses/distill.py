"""One loss from all pairs of a merged teacher and student."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.checks.layouts import is_axis, takes_axis
from graphtool.checks.pair_fits import Compared
from graphtool.checks.pairs import against_loss
from graphtool.diagnostics import Diagnostic, GraphtoolError, PairError, Report, UsageError
from graphtool.graph import ProgramKind
from graphtool.loss_names import named_losses
from graphtool.losses import pair_problems as problems
from graphtool.losses._building import SCOPE, all_or_nothing, named
from graphtool.losses._checks import (
    check_label,
    check_options,
    check_parts,
    require_options,
)
from graphtool.losses._fitting import fitted
from graphtool.losses._networks import Networks
from graphtool.losses._parts import Part, options_of, parts_of, selected
from graphtool.losses._values import require_trainable_program, shape_of
from graphtool.losses._weights import Weight, weigh, weighted
from graphtool.matching import Pair, PairSet
from graphtool.matching.recipe import Recipe
from graphtool.merging import Merged
from graphtool.merging._failures import paddle_failures
from graphtool.readers._paddle import load_paddle
from graphtool.text import bounded

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["DistillLoss", "distill_loss"]

# Programs and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DistillLoss:
    """What a student is distilled by: one scalar, and the losses that it is the sum of.

    `total` is the sum of weight times loss over `parts`, which are not weighted, in the order of
    the pairs. `weights` are numbers or Values; `pairs` says what each part compares (two Pairs for
    fsp), `adapters` which parameters it added to the student. All four have the same keys:
    `l2_relu_22` is the l2 loss on the student's `relu_22`. `report` holds what is worth knowing and
    did not stop the work.
    """

    total: _Paddle
    parts: Mapping[str, _Paddle]
    weights: Mapping[str, Weight]
    pairs: Mapping[str, tuple[Pair, ...]]
    adapters: Mapping[str, tuple[str, ...]]
    report: Report
    # Keeps the Program alive: its Values crash without.
    merged: Merged

    def __deepcopy__(self, _: object) -> DistillLoss:
        # Paddle copies a Value by an operator, in whatever Program is the default one by then.
        return self

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        said = "\n".join(f"{found.code} {bounded(found.message)}" for found in self.report)
        table = Table(title="distillation", caption=Text(said) if said else None)
        for column in ("part", "teacher", "student", "adapter", "weight"):
            table.add_column(column, overflow="fold")
        for name, pairs in self.pairs.items():
            ends = [(pair.teacher.name, pair.student.name, pair.adapter or "") for pair in pairs]
            columns = [Text("\n".join(map(bounded, column))) for column in zip(*ends, strict=True)]
            table.add_row(Text(bounded(name)), *columns, _shown(self.weights[name]))
        return table

    def __repr__(self) -> str:
        terms = [f"{_shown(weight)} · {bounded(name)}" for name, weight in self.weights.items()]
        return f"DistillLoss({' + '.join(terms)}; {len(self.report)} diagnostics)"


def _shown(weight: Weight) -> str:
    return f"{weight:g}" if isinstance(weight, int | float) else "<Value>"


def distill_loss(
    merged: Merged,
    pairs: PairSet
    | Recipe
    | Sequence[Pair | tuple[str, str] | tuple[str, str, str]]
    | str
    | PathLike[str],
    weights: Sequence[Weight] | Mapping[str | int, Weight] | None = None,
    *,
    label: _Paddle | str | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> DistillLoss:
    """Build the losses of all pairs into the merged Program, and their weighted sum.

    `pairs` are what `suggest_pairs` gives, a recipe or the path of one, or a list of Pairs and of
    `(teacher name, student name, loss)`, where `l2` is meant if the loss is left out. Two pairs
    with `fsp` in a row are the start and the end of one flow. A pair's `adapter` is built on the
    student's side; parameters get their initial values from the startup program of the guard: run
    it afterwards. Where weights were loaded before, let it be a new `paddle.static.Program()`, for
    the student's own would initialise them again.

    `weights` are one number or scalar Value for each pair, or a mapping to them from names of
    parts, ranks or kinds of pairs; else the recipe's, or `weight` of each Pair. With 1 for all of
    them one part may drown the others: l2 is as large as the teacher's features squared, which may
    be thousands, where attention and similarity are thousandths. Log `parts` in a first step, and
    weigh them to the size of the task's loss. A published comparison (Tian et al. 2020, arXiv
    1910.10699) takes 100 for hint, 1000 for attention, 3000 for similarity, 1 for relational, and
    0.9 for kl at its temperature of 4 beside 0.1 for the task.

    `label` is the Value, or name, of the class numbers [N] that `dkd` takes. `options` go to the
    losses: `{"kl": {"temperature": 2.0}}`, by the name of a loss or of a part.

    Call it inside `paddle.static.program_guard(merged.program, startup)`, before `minimize`. All is
    built or nothing. Such a guard is the whole process's: `gt.merge` says what threads need.

    Raises PairError with everything that `check_pairs`, the losses and the adapters have against
    it: GT310 to GT318, GT330 to GT349, GT354 to GT357, GT360 to GT368, GT258 where Paddle fails.
    GT369 is in `report`. Raises UsageError: GT342, GT352, GT358, GT359.
    """
    with paddle_failures(PairError, "gt.distill_loss"):
        _require_program(merged)
        require_options(options)
        networks = Networks(merged)
        chosen = selected(networks, pairs)
        if not chosen.pairs:
            raise PairError(problems.no_pairs())
        parts = parts_of(chosen.pairs)
        graphs = Compared(graphs=(merged.plan.teacher, merged.plan.student), prefix=merged.prefix)
        told = [
            found
            for part in parts
            for found in against_loss(
                graphs, part.pairs, options_of(part, options or {}), part.places[0]
            )
        ]
        found = [*chosen.said, *told, *check_parts(networks, parts)]
        scales, wrong = weigh(parts, [pair.weight for pair in chosen.pairs], weights)
        stray = check_label(parts, label)
        report = Report.of([*found, *wrong, *stray, *check_options(parts, options or {})])
        if report.errors:
            raise PairError(*report.errors)
        job = _Job(
            networks=networks,
            parts=parts,
            weights=scales,
            label=label,
            options=options or {},
        )
        return job.run(report)


def _require_program(merged: object) -> None:
    if not isinstance(merged, Merged):
        example = "gt.distill_loss(gt.merge(teacher, student, feed_map), pairs)"
        raise UsageError(problems.wrong_argument("merged", merged, "what `merge` returns", example))
    # First, for in dynamic mode there is no Program at all.
    if load_paddle().in_dynamic_mode():
        require_trainable_program("distill_loss")
    if load_paddle().static.default_main_program() is not merged.program:
        legacy = merged.before.kind is ProgramKind.LEGACY
        raise UsageError(problems.outside_program(merged.before.graph.source, legacy=legacy))
    require_trainable_program("distill_loss")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    networks: Networks
    parts: Sequence[Part]
    weights: Mapping[str, Weight]
    label: _Paddle | str | None
    options: Mapping[str, Mapping[str, object]]

    def run(self, report: Report) -> DistillLoss:
        """Build everything, or take out again what was built and raise all problems at once."""
        static, program = load_paddle().static, self.networks.merged.program
        startup = static.default_startup_program()
        with all_or_nothing(program, startup), static.name_scope(SCOPE):
            losses, adapters = self._losses()
            with named(program, "total"):
                total = self._sum(losses)
            return DistillLoss(
                total=total,
                parts=MappingProxyType(losses),
                weights=MappingProxyType(dict(self.weights)),
                pairs=MappingProxyType({part.name: part.pairs for part in self.parts}),
                adapters=MappingProxyType(adapters),
                report=report,
                merged=self.networks.merged,
            )

    def _losses(self) -> tuple[dict[str, _Paddle], dict[str, tuple[str, ...]]]:
        """Build each part, and note the parameters that came with it."""
        program = self.networks.merged.program
        losses: dict[str, _Paddle] = {}
        adapters: dict[str, tuple[str, ...]] = {}
        errors: list[Diagnostic] = []
        for part in self.parts:
            before = _parameters(program)
            try:
                with named(program, part.name):
                    losses[part.name] = self._built(part)
            except GraphtoolError as error:  # all parts' problems are told
                errors += [_of_part(part, found) for found in error.report]
            adapters[part.name] = tuple(sorted(_parameters(program) - before))
        if errors:
            raise PairError(*errors)
        return losses, adapters

    def _built(self, part: Part) -> _Paddle:
        merged = self.networks.merged
        known, given = named_losses()[part.loss], options_of(part, self.options)
        axis = given.get("axis")
        rank, ends = 0, list[tuple[_Paddle, _Paddle]]()
        for pair in part.pairs:
            values = merged.teacher(pair.teacher.name), merged.student(pair.student.name)
            axes = self.networks.axes(pair, axis)
            ends.append(fitted(pair, values, axes, name=part.name))
            rank = len(shape_of(values[0]))
        teachers, students = zip(*ends, strict=True)
        if takes_axis(known) and (axis is None or is_axis(axis, rank)):
            given["axis"] = -1  # where they have been brought
        if part.loss == "dkd" and self.label is not None:
            given = {"labels": self.label, **given}
        with warnings.catch_warnings():
            # The report has it.
            warnings.filterwarnings("ignore", r"warning\[GT369\]")
            return known.build(*teachers, *students, **given)

    def _sum(self, losses: Mapping[str, _Paddle]) -> _Paddle:
        terms = [weighted(loss, self.weights[name]) for name, loss in losses.items()]
        total = terms[0]
        for term in terms[1:]:
            same = term.dtype == total.dtype
            total = total + (term if same else load_paddle().cast(term, total.dtype))
        return total


def _parameters(program: _Paddle) -> frozenset[str]:
    return frozenset(one.name for one in program.global_block().all_parameters())


def _of_part(part: Part, found: Diagnostic) -> Diagnostic:
    ends = (f"`{pair.teacher.name}` with `{pair.student.name}`" for pair in part.pairs)
    return replace(found, notes=(*found.notes, f"in `{part.name}`: {' and '.join(ends)}"))
