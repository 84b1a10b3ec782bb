"""One loss from all pairs of a merged teacher and student."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphtool.arguments import bad_argument
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.checks.adapters import adapter_misfit, parse_adapter
from graphtool.checks.arguments import is_mapping_of_mappings
from graphtool.checks.layouts import is_axis, needs_class_axis
from graphtool.checks.pair_losses import ComparedNetworks
from graphtool.checks.pairs import check_loss
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    PairError,
    ReadError,
    Report,
    Severity,
    UsageError,
    Where,
    listed,
)
from graphtool.graph import ProgramKind
from graphtool.loss_specs import named_losses
from graphtool.losses._fitting import align_pair
from graphtool.losses._loss_weights import Weight, resolve_weights, unknown_part, weighted
from graphtool.losses._networks import MergedNetworks
from graphtool.losses._operands import check_l2_probabilities
from graphtool.losses._parts import LossPart, options_of, parts_of, select_pairs
from graphtool.losses._transaction import SCOPE, name_scope, rollback_on_error
from graphtool.losses._values import require_trainable_program, shape_of
from graphtool.losses.problems import bad_option
from graphtool.matching import Pair, PairSet
from graphtool.matching.problems import no_pairs
from graphtool.matching.recipe import Recipe
from graphtool.merging import Merged
from graphtool.merging.problems import wrong_program
from graphtool.text import escaped_bounded

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["DistillLoss", "distill_loss"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DistillLoss:
    """A distillation loss: one scalar, and the losses that it is the weighted sum of.

    `total` is the sum of weight times loss over `parts`, which are unweighted, in the order of the
    pairs. `weights` are numbers or Values. `pairs` holds what each part compares (two Pairs for
    fsp), `adapters` the names of the parameters it added to the student. All four mappings have the
    same keys: `l2_relu_22` is the l2 loss on the student's `relu_22`. `report` holds notes and
    warnings.
    """

    total: Paddle
    parts: Mapping[str, Paddle]
    weights: Mapping[str, Weight]
    pairs: Mapping[str, tuple[Pair, ...]]
    adapters: Mapping[str, tuple[str, ...]]
    report: Report
    # Keeps the Program alive; its Values crash without it.
    merged: Merged

    def __deepcopy__(self, _: object) -> DistillLoss:
        # Paddle copies a Value by an operator, in whatever Program is the default one then.
        return self

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        caption = "\n".join(
            f"{found.code} {escaped_bounded(found.message)}" for found in self.report
        )
        table = Table(title="distillation", caption=Text(caption) if caption else None)
        for column in ("part", "teacher", "student", "adapter", "weight"):
            table.add_column(column, overflow="fold")
        for name, pairs in self.pairs.items():
            rows = [(pair.teacher.name, pair.student.name, pair.adapter or "") for pair in pairs]
            columns = [
                Text("\n".join(map(escaped_bounded, column))) for column in zip(*rows, strict=True)
            ]
            table.add_row(Text(escaped_bounded(name)), *columns, _printed(self.weights[name]))
        return table

    def __repr__(self) -> str:
        terms = [
            f"{_printed(weight)} · {escaped_bounded(name)}" for name, weight in self.weights.items()
        ]
        return f"DistillLoss({' + '.join(terms)}; {len(self.report)} diagnostics)"


def _printed(weight: Weight) -> str:
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
    label: Paddle | str | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> DistillLoss:
    """Build the losses of all pairs into the merged Program, and their weighted sum.

    `pairs` is the result of `suggest_pairs`, a recipe or its path, or a list of Pairs and of
    `(teacher name, student name, loss)`; the loss defaults to `l2`. Two consecutive pairs with
    `fsp` are the start and the end of one flow. A pair's `adapter` is built on the student's side.
    The startup program of the guard initialises its parameters: run it afterwards. If weights were
    loaded before, use a new `paddle.static.Program()`, as the student's own would reinitialise
    them.

    `weights` has one number or scalar Value for each pair, or maps names of parts, ranks or kinds
    of pairs to them; the default is the recipe's weights, or `weight` of each Pair. With all
    weights 1 one part may dominate the others: l2 grows with the teacher's features squared, often
    to thousands, while attention and similarity are around thousandths. Log `parts` in a first
    step, and weigh them relative to the task's loss. A published comparison (Tian et al. 2020,
    arXiv 1910.10699) uses 100 for hint, 1000 for attention, 3000 for similarity, 1 for relational,
    and 0.9 for kl at its temperature of 4 with 0.1 for the task.

    `label` is the Value, or name, of the class numbers [N] that `dkd` takes. `options` are passed
    to the losses, by the name of a loss or of a part: `{"kl": {"temperature": 2.0}}`.

    Call it inside `paddle.static.program_guard(merged.program, startup)`, before `minimize`. It
    builds all or nothing. The guard applies to the whole process; for threads see `gt.merge`.

    Raises PairError with all problems that `check_pairs`, the losses and the adapters find, as they
    do; GT310, GT314, GT316, GT317 for a recipe, GT347, GT367, GT258 if Paddle fails. `report` has
    GT228. Raises UsageError: GT231, GT248, GT340, GT352.
    """
    with raise_paddle_errors_as(PairError, "gt.distill_loss"):
        _require_program(merged)
        _require_options(options)
        networks = MergedNetworks(merged)
        selection = select_pairs(networks, pairs)
        if not selection.pairs:
            command = "graphtool suggest-pairs TEACHER STUDENT --match shape"
            raise PairError(no_pairs("there are no pairs to build a loss from", help=command))
        parts = parts_of(selection.pairs)
        compared = ComparedNetworks(
            graphs=(merged.plan.teacher, merged.plan.student), prefix=merged.prefix
        )
        pair_diagnostics = [
            found
            for part in parts
            for found in check_loss(
                compared, part.pairs, options_of(part, options or {}), part.indices[0]
            )
        ]
        found = [*selection.diagnostics, *pair_diagnostics, *_check_parts(merged, parts)]
        part_weights, wrong_weights = resolve_weights(
            parts, [pair.weight for pair in selection.pairs], weights
        )
        found += [*wrong_weights, *_check_label(parts, label)]
        report = Report.of([*found, *_check_options(parts, options or {})])
        if report.errors:
            raise PairError(*report.errors)
        builder = _LossBuilder(
            networks=networks,
            parts=parts,
            weights=part_weights,
            label=label,
            options=options or {},
        )
        return builder.build(report)


def _require_program(merged: object) -> None:
    if not isinstance(merged, Merged):
        example = "gt.distill_loss(gt.merge(teacher, student, feed_map), pairs)"
        raise UsageError(bad_argument("merged", merged, "what `merge` returns", example))
    # Checked before the Program, as dynamic mode has none.
    if load_paddle().in_dynamic_mode():
        require_trainable_program("distill_loss")
    if load_paddle().static.default_main_program() is not merged.program:
        is_legacy = merged.before.kind is ProgramKind.LEGACY
        note = "it is a legacy Program: `OldIrGuard` has to be active, too"
        raise UsageError(
            wrong_program(
                "the current main Program is not the merged one",
                (Where(role="merged", program=merged.before.graph.source),),
                notes=(note,) if is_legacy else (),
            )
        )
    require_trainable_program("distill_loss")


def _require_options(given: object) -> None:
    """Refuse options that are not a mapping from names to mappings.

    Raises UsageError GT248.
    """
    if given is None or is_mapping_of_mappings(given):
        return
    expected, example = "a mapping to mappings", 'options={"kl": {"temperature": 4.0}}'
    raise UsageError(bad_argument("options", given, expected, example))


def _check_parts(merged: Merged, parts: Sequence[LossPart]) -> Iterator[Diagnostic]:
    """Yield what `check_pairs` does not find: Values removed since the merge, and warnings."""
    for part in parts:
        for pair in part.pairs:
            removed = tuple(_check_present(merged, pair))
            yield from removed
            plan = merged.plan
            is_known = (
                pair.teacher.name in plan.teacher.values
                and pair.student.name in plan.student.values
            )
            if removed or not is_known:
                continue
            yield from _check_adapter(part, pair)
            if part.loss == "l2":
                yield from check_l2_probabilities(
                    merged.teacher(pair.teacher.name), merged.student(pair.student.name)
                )


def _check_present(merged: Merged, pair: Pair) -> Iterator[Diagnostic]:
    """Yield Values that left the Program; `check_pairs` reports names that never existed."""
    for graph, find, name in (
        (merged.plan.teacher, merged.teacher, pair.teacher.name),
        (merged.plan.student, merged.student, pair.student.name),
    ):
        if name not in graph.values:
            continue
        try:
            find(name)
        except ReadError as error:
            yield from error.report


def _check_adapter(part: LossPart, pair: Pair) -> Iterator[Diagnostic]:
    """Yield a warning if the adapter is not needed."""
    loss = named_losses().get(part.loss)
    if loss is None or not loss.needs_no_adapter or pair.adapter is None:
        return
    with suppress(PairError):
        if parse_adapter(pair.adapter).layer is not None:
            yield adapter_misfit(
                f"`{part.name}`: `{part.loss}` does not need the adapter `{pair.adapter}`",
                severity=Severity.WARNING,
                help="delete the pair's `adapter`",
            )


def _check_options(
    parts: Sequence[LossPart], options: Mapping[str, Mapping[str, object]]
) -> Iterator[Diagnostic]:
    """Yield options of unknown losses and parts, and options that a loss doesn't have."""
    known = dict.fromkeys(name for part in parts for name in (part.loss, part.name))
    for key, given in options.items():
        if key not in known:
            yield unknown_part("options", key, tuple(known))
            continue
        name = next(part.loss for part in parts if key in (part.loss, part.name))
        loss = named_losses().get(name)
        allowed = () if loss is None else loss.options
        for option in given:
            if option not in allowed:
                yield bad_option(
                    f"`{name}` has no option `{option}`",
                    notes=(f"its options: {listed(allowed, len(allowed)) or 'none'}",),
                    help=f"help(gt.losses.{name})",
                )


def _check_label(parts: Sequence[LossPart], label: object) -> Iterator[Diagnostic]:
    """Yield a problem if labels are given and no part takes any."""
    if label is not None and all(part.loss != "dkd" for part in parts):
        expected = "None, as no pair has the loss `dkd`"
        yield bad_argument("label", label, expected, "gt.distill_loss(merged, pairs)")


@dataclass(frozen=True, kw_only=True, eq=False)
class _LossBuilder:
    networks: MergedNetworks
    parts: Sequence[LossPart]
    weights: Mapping[str, Weight]
    label: Paddle | str | None
    options: Mapping[str, Mapping[str, object]]

    def build(self, report: Report) -> DistillLoss:
        """Build everything, or roll back and raise all problems at once."""
        static, program = load_paddle().static, self.networks.merged.program
        startup = static.default_startup_program()
        with rollback_on_error(program, startup), static.name_scope(SCOPE):
            losses, adapters = self._build_parts()
            with name_scope(program, "total"):
                total = self._build_sum(losses)
            for part in self.parts:
                weight = self.weights[part.name]
                number = float(weight) if isinstance(weight, int | float) else 1.0
                recorded = (replace(pair, weight=number) for pair in part.pairs)
                self.networks.merged.losses.extend(recorded)
            return DistillLoss(
                total=total,
                parts=MappingProxyType(losses),
                weights=MappingProxyType(dict(self.weights)),
                pairs=MappingProxyType({part.name: part.pairs for part in self.parts}),
                adapters=MappingProxyType(adapters),
                report=report,
                merged=self.networks.merged,
            )

    def _build_parts(self) -> tuple[dict[str, Paddle], dict[str, tuple[str, ...]]]:
        """Build each part; return the losses and the names of the parameters each added."""
        program = self.networks.merged.program
        losses: dict[str, Paddle] = {}
        adapters: dict[str, tuple[str, ...]] = {}
        errors: list[Diagnostic] = []
        for part in self.parts:
            before = _parameter_names(program)
            try:
                with name_scope(program, part.name):
                    losses[part.name] = self._build_part(part)
            except GraphtoolError as error:  # the problems of all parts are reported
                errors += [_with_part(found, part) for found in error.report]
            adapters[part.name] = tuple(sorted(_parameter_names(program) - before))
        if errors:
            raise PairError(*errors)
        return losses, adapters

    def _build_part(self, part: LossPart) -> Paddle:
        merged = self.networks.merged
        loss, options = named_losses()[part.loss], options_of(part, self.options)
        axis = options.get("axis")
        rank, values = 0, list[tuple[Paddle, Paddle]]()
        for pair in part.pairs:
            teacher, student = merged.teacher(pair.teacher.name), merged.student(pair.student.name)
            axes = self.networks.axes(pair, axis)
            values.append(align_pair(pair, (teacher, student), axes, name=part.name))
            rank = len(shape_of(teacher))
        teachers, students = zip(*values, strict=True)
        if needs_class_axis(loss) and (axis is None or is_axis(axis, rank)):
            options["axis"] = -1  # where `fitted` moved it
        if part.loss == "dkd" and self.label is not None:
            options = {"labels": self.label, **options}
        with warnings.catch_warnings():
            # It is in the report already.
            warnings.filterwarnings("ignore", r"warning\[GT228\]")
            return loss.build(*teachers, *students, **options)

    def _build_sum(self, losses: Mapping[str, Paddle]) -> Paddle:
        terms = [weighted(loss, self.weights[name]) for name, loss in losses.items()]
        total = terms[0]
        for term in terms[1:]:
            is_same_dtype = term.dtype == total.dtype
            total = total + (term if is_same_dtype else load_paddle().cast(term, total.dtype))
        return total


def _parameter_names(program: Paddle) -> frozenset[str]:
    return frozenset(one.name for one in program.global_block().all_parameters())


def _with_part(found: Diagnostic, part: LossPart) -> Diagnostic:
    """Add a note with the part that a Diagnostic is about."""
    ends = (f"`{pair.teacher.name}` with `{pair.student.name}`" for pair in part.pairs)
    return replace(found, notes=(*found.notes, f"in `{part.name}`: {' and '.join(ends)}"))
