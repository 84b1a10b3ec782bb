"""One loss from all pairs of a merged teacher and student."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphtool.arguments import bad_argument
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.both import Both
from graphtool.checks.adapters import Adapter, teacher_channels
from graphtool.checks.fits import Alignment, channels_first_order, is_axis
from graphtool.checks.pairs import (
    ComparedNetworks,
    NamedPair,
    fit_pairs,
    is_mapping_of_mappings,
)
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    PairError,
    ReadError,
    Report,
    UsageError,
    Where,
    listed,
)
from graphtool.graph import ProgramKind
from graphtool.loss_specs import named_losses, spec_of
from graphtool.losses import BY_NAME
from graphtool.losses._building import SCOPE, bad_option, name_scope, rollback_on_error
from graphtool.losses._ops import as_vectors, transpose
from graphtool.losses._parts import (
    LossPart,
    Weight,
    parts_of,
    resolve_weights,
    select_pairs,
    unknown_part,
    weighted,
)
from graphtool.losses._values import CurrentProgram, shape_of
from graphtool.losses.adapters import conv1x1, linear, resize_to_smaller
from graphtool.matching import Pair, PairSet
from graphtool.matching.problems import no_pairs
from graphtool.matching.recipe import Recipe
from graphtool.merging import Merged
from graphtool.merging.merged import wrong_program
from graphtool.text import escaped_bounded

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["DistillLoss", "align_pair", "distill_loss"]


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
        if options is not None and not is_mapping_of_mappings(options):
            expected, example = "a mapping to mappings", 'options={"kl": {"temperature": 4.0}}'
            raise UsageError(bad_argument("options", options, expected, example))
        options = options or {}
        chosen, problems = select_pairs(merged, pairs)
        if not chosen:
            command = "graphtool suggest-pairs TEACHER STUDENT --match shape"
            raise PairError(no_pairs("there are no pairs to build a loss from", help=command))
        parts = parts_of(chosen)
        networks = ComparedNetworks(
            graphs=Both(merged.plan.teacher, merged.plan.student), prefix=merged.prefix
        )
        fits = [
            fit_pairs(
                networks,
                [NamedPair.of(pair) for pair in part.pairs],
                part.options(options),
                part.indices[0],
            )
            for part in parts
        ]
        found = [*problems, *(problem for fit in fits for problem in fit.diagnostics)]
        found += [
            problem for part in parts for pair in part.pairs for problem in _removed(merged, pair)
        ]
        part_weights, wrong_weights = resolve_weights(
            parts, [pair.weight for pair in chosen], weights
        )
        found += wrong_weights
        if label is not None and all(part.loss != "dkd" for part in parts):
            expected = "None, as no pair has the loss `dkd`"
            example = "gt.distill_loss(merged, pairs)"
            found.append(bad_argument("label", label, expected, example))
        report = Report.of([*found, *_check_options(parts, options)])
        if report.errors:
            raise PairError(*report.errors)
        static = load_paddle().static
        startup = static.default_startup_program()
        with rollback_on_error(merged.program, startup), static.name_scope(SCOPE):
            losses, adapters = _build_parts(
                merged, parts, [fit.alignments for fit in fits], options, label
            )
            with name_scope(merged.program, "total"):
                terms = [weighted(loss, part_weights[name]) for name, loss in losses.items()]
                total = terms[0]
                for term in terms[1:]:
                    is_same_dtype = term.dtype == total.dtype
                    total = total + (
                        term if is_same_dtype else load_paddle().cast(term, total.dtype)
                    )
            for part in parts:
                weight = part_weights[part.name]
                number = float(weight) if isinstance(weight, int | float) else 1.0
                merged.losses.extend(replace(pair, weight=number) for pair in part.pairs)
        return DistillLoss(
            total=total,
            parts=MappingProxyType(losses),
            weights=MappingProxyType(part_weights),
            pairs=MappingProxyType({part.name: part.pairs for part in parts}),
            adapters=MappingProxyType(adapters),
            report=report,
            merged=merged,
        )


def _require_program(merged: object) -> None:
    if not isinstance(merged, Merged):
        example = "gt.distill_loss(gt.merge(teacher, student, feed_map), pairs)"
        raise UsageError(bad_argument("merged", merged, "what `merge` returns", example))
    # Dynamic mode has no Program.
    paddle = load_paddle()
    if paddle.in_dynamic_mode() or paddle.static.default_main_program() is merged.program:
        CurrentProgram("distill_loss")
        return
    is_legacy = merged.before.kind is ProgramKind.LEGACY
    note = "it is a legacy Program: `OldIrGuard` has to be active, too"
    where = Where(role="merged", program=merged.before.graph.source)
    message = "the current main Program is not the merged one"
    raise UsageError(wrong_program(message, (where,), notes=(note,) if is_legacy else ()))


def _removed(merged: Merged, pair: Pair) -> Iterator[Diagnostic]:
    """Yield Values that left the Program; `fit_pairs` reports names that never existed."""
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
        allowed = () if loss is None else tuple(loss.options)
        for option in given:
            if option not in allowed:
                yield bad_option(
                    f"`{name}` has no option `{option}`",
                    notes=(f"its options: {listed(allowed, len(allowed)) or 'none'}",),
                    help=f"help(gt.losses.{name})",
                )


def _build_parts(
    merged: Merged,
    parts: Sequence[LossPart],
    alignments: Sequence[Sequence[Alignment]],
    options: Mapping[str, Mapping[str, object]],
    label: Paddle | str | None,
) -> tuple[dict[str, Paddle], dict[str, tuple[str, ...]]]:
    """Build each part; return the losses and the names of the parameters each added."""
    losses: dict[str, Paddle] = {}
    adapters: dict[str, tuple[str, ...]] = {}
    errors: list[Diagnostic] = []
    for part, aligned in zip(parts, alignments, strict=True):
        before = _parameter_names(merged.program)
        try:
            with name_scope(merged.program, part.name):
                losses[part.name] = _build_part(merged, part, aligned, part.options(options), label)
        except GraphtoolError as error:  # the problems of all parts are reported
            ends = (f"`{pair.teacher.name}` with `{pair.student.name}`" for pair in part.pairs)
            note = f"in `{part.name}`: {' and '.join(ends)}"
            errors += [replace(found, notes=(*found.notes, note)) for found in error.report]
        adapters[part.name] = tuple(sorted(_parameter_names(merged.program) - before))
    if errors:
        raise PairError(*errors)
    return losses, adapters


def _build_part(
    merged: Merged,
    part: LossPart,
    alignments: Sequence[Alignment],
    options: dict[str, object],
    label: Paddle | str | None,
) -> Paddle:
    teachers: list[Paddle] = []
    students: list[Paddle] = []
    for pair, alignment in zip(part.pairs, alignments, strict=True):
        values = Both(merged.teacher(pair.teacher.name), merged.student(pair.student.name))
        rank, axis = len(shape_of(values.teacher)), options.get("axis")
        teacher, student = align_pair(values, alignment, name=part.name)
        teachers.append(teacher)
        students.append(student)
        if spec_of(part.loss).needs_class_axis and (axis is None or is_axis(axis, rank)):
            # The classes were moved where maps have their channels, or to the end.
            options["axis"] = 1 if len(shape_of(teacher)) == 4 else -1
    if part.loss == "dkd" and label is not None:
        options = {"labels": label, **options}
    with warnings.catch_warnings():
        # It is in the report already.
        warnings.filterwarnings("ignore", r"warning\[GT228\]")
        return BY_NAME[part.loss](*teachers, *students, **options)


def align_pair(values: Both[Paddle], alignment: Alignment, *, name: str) -> Both[Paddle]:
    """Return both Values with their channels first, through the adapter of their pair.

    `name` names the parameters of an adapter.
    """
    teacher, student = (
        transpose(value, channels_first_order(len(shape_of(value)), axis))
        for value, axis in zip(values, alignment.axes, strict=True)
    )
    adapter = alignment.adapter or Adapter(layer=None, channels=None, resizes=False)
    if adapter.resizes:
        teacher, student = resize_to_smaller(teacher, student)
    channels = teacher_channels(shape_of(teacher))
    if adapter.layer == "conv1x1":
        student = conv1x1(student, channels, name=name)
    elif adapter.layer == "linear":
        teacher, student = as_vectors(teacher), linear(student, channels, name=name)
    return Both(teacher, student)


def _parameter_names(program: Paddle) -> frozenset[str]:
    return frozenset(one.name for one in program.global_block().all_parameters())
