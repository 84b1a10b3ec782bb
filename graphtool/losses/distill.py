"""One loss from all pairs of a merged teacher and student."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from numbers import Real
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.arguments import bad_argument, short_repr
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.both import Both
from graphtool.checks.adapters import teacher_channels
from graphtool.checks.fits import Alignment, channels_first_order, is_axis
from graphtool.checks.pairs import (
    ComparedNetworks,
    NamedPair,
    check_options,
    fit_pairs,
    is_name_tuple,
)
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
from graphtool.graph import Graph, ProgramKind, module_path
from graphtool.loss_specs import group_flows, named_losses, spec_of
from graphtool.losses import BY_NAME
from graphtool.losses._building import SCOPE, bad_option, name_scope, rollback_on_error
from graphtool.losses._ops import as_vectors, transpose
from graphtool.losses._values import (
    CurrentProgram,
    as_number,
    is_in_main_program,
    is_value,
    shape_of,
)
from graphtool.losses.adapters import conv1x1, linear, resize_to_smaller
from graphtool.matching import End, Kind, Pair, PairSet
from graphtool.matching.candidates import pair_kind
from graphtool.matching.pairs import Relation, end_of
from graphtool.matching.problems import moved_value, no_pairs
from graphtool.matching.recipe import Recipe, recipe_text
from graphtool.merging import Merged
from graphtool.merging.merged import wrong_program
from graphtool.selectors import find
from graphtool.structure import analyse
from graphtool.text import escaped_bounded, string_literal
from graphtool.toolkits import read_recipe

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["DistillLoss", "distill_loss"]

# A number, or a scalar Value of the Program.
Weight: TypeAlias = Any

_EXAMPLE = "gt.distill_loss(merged, gt.suggest_pairs(teacher, student))"


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
        weights = self.weights.items()
        terms = [f"{_printed(weight)} · {escaped_bounded(name)}" for name, weight in weights]
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
        if wrong := check_options(options):
            raise UsageError(*wrong)
        options = options or {}
        chosen, problems = _select_pairs(merged, pairs)
        if not chosen:
            command = "graphtool suggest-pairs TEACHER STUDENT --match shape"
            raise PairError(no_pairs("there are no pairs to build a loss from", help=command))
        parts = _parts_of(chosen, options)
        graphs = Both(merged.plan.teacher, merged.plan.student)
        networks = ComparedNetworks(graphs=graphs, prefix=merged.prefix)
        alignments: list[Sequence[Alignment]] = []
        for part in parts:
            named = [NamedPair.of(pair) for pair in part.pairs]
            fit = fit_pairs(networks, named, part.options, part.indices[0])
            alignments.append(fit.alignments)
            problems += fit.diagnostics
        problems += [problem for pair in chosen for problem in _removed(merged, pair)]
        part_weights, wrong_weights = _resolve_weights(parts, chosen, weights)
        problems += wrong_weights
        if label is not None and all(part.loss != "dkd" for part in parts):
            expected = "None, as no pair has the loss `dkd`"
            example = "gt.distill_loss(merged, pairs)"
            problems.append(bad_argument("label", label, expected, example))
        report = Report.of([*problems, *_check_options(parts, options)])
        if report.errors:
            raise PairError(*report.errors)
        static = load_paddle().static
        startup = static.default_startup_program()
        with rollback_on_error(merged.program, startup), static.name_scope(SCOPE):
            losses, adapters = _build_parts(merged, parts, alignments, label)
            with name_scope(merged.program, "total"):
                total = None
                for name, loss in losses.items():
                    term = _weighted(loss, part_weights[name])
                    if total is not None and term.dtype != total.dtype:
                        term = term.astype(total.dtype)
                    total = term if total is None else total + term
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
        CurrentProgram("distill_loss")  # raises what it refuses
        return
    is_legacy = merged.before.kind is ProgramKind.LEGACY
    note = "it is a legacy Program: `OldIrGuard` has to be active, too"
    where = Where(role="merged", program=merged.before.graph.source)
    message = "the current main Program is not the merged one"
    raise UsageError(wrong_program(message, (where,), notes=(note,) if is_legacy else ()))


def _removed(merged: Merged, pair: Pair) -> Iterator[Diagnostic]:
    """Yield Values that left the Program; `fit_pairs` reports names that never existed."""
    for graph, lookup, name in (
        (merged.plan.teacher, merged.teacher, pair.teacher.name),
        (merged.plan.student, merged.student, pair.student.name),
    ):
        try:
            if name in graph.values:
                lookup(name)
        except ReadError as error:  # noqa: PERF203  # both sides are looked at
            yield from error.report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One loss: its name, its options, its pairs (two for fsp), and their indices among all."""

    name: str
    loss: str
    options: Mapping[str, object]
    pairs: tuple[Pair, ...]
    indices: tuple[int, ...]


def _parts_of(
    pairs: Sequence[Pair], options: Mapping[str, Mapping[str, object]]
) -> tuple[_Part, ...]:
    """Group pairs into losses, in order; an fsp pair without a partner comes last."""
    parts: dict[str, _Part] = {}
    for indices in group_flows([pair.loss for pair in pairs]):
        members = tuple(pairs[index] for index in indices)
        loss = members[0].loss
        stem = f"{loss}_{members[-1].student.name}"
        names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        name = next(name for name in names if name not in parts)
        chosen = {**options.get(loss, {}), **options.get(name, {})}
        parts[name] = _Part(name=name, loss=loss, options=chosen, pairs=members, indices=indices)
    return tuple(parts.values())


def _select_pairs(merged: Merged, pairs: object) -> tuple[Sequence[Pair], list[Diagnostic]]:
    """Find the Values of pairs in the two merged networks; return what was found as well.

    Raises PairError as `read_recipe` does, UsageError GT248 for anything but pairs.
    """
    teacher, student = merged.plan.teacher, merged.plan.student
    source: object = pairs.pairs if isinstance(pairs, Recipe) else pairs
    if isinstance(source, PairSet):
        is_same = _is_same_program(source.teacher, teacher) and _is_same_program(
            source.student, student
        )
        if is_same or not source.pairs:
            return source.pairs, list(source.report if source.pairs else ())
        # They were suggested for other Programs of the same networks, as recipes are.
        source = recipe_text(source)
    if isinstance(source, str | PathLike):
        path = cast("str | PathLike[str]", source)
        found = read_recipe(path, teacher=teacher, student=student).pairs
        return found.pairs, list(found.report)
    if not isinstance(source, Iterable):
        expected = "a PairSet, a Recipe, the path of one, or a list of pairs"
        raise UsageError(bad_argument("pairs", pairs, expected, _EXAMPLE))
    given = tuple(cast("Iterable[object]", source))
    chosen = [_pair(one, index, merged) for index, one in enumerate(given)]
    moved = (found for one in given if isinstance(one, Pair) for found in _moved(merged, one))
    return chosen, list(moved)


def _is_same_program(graph: Graph, other: Graph) -> bool:
    """Return whether two Graphs were read from one Program, so that names mean the same."""
    return graph is other or (graph.operators == other.operators and graph.values == other.values)


def _moved(merged: Merged, pair: Pair) -> Iterator[Diagnostic]:
    """Yield the ends of a Pair whose names mean another Value than where it was made."""
    for role, graph, end in (
        ("teacher", merged.plan.teacher, pair.teacher),
        ("student", merged.plan.student, pair.student),
    ):
        value = graph.values.get(end.name)
        if value is None:
            continue
        now = end_of(graph, value)
        if not _is_same_end(end, now):
            where = Where(role=role, program=graph.source, value=end.name, shape=value.shape)
            was, now_is = (
                f"`{one.op}`{'' if one.module is None else f' of `{module_path(one.module)}`'}, "
                f"{'of unknown rank' if one.shape is None else list(one.shape)}"
                for one in (end, now)
            )
            yield moved_value(
                f"`{end.name}` was {was} where the pair was made, and is {now_is} here",
                where=(where,),
                severity=Severity.ERROR,
                help="gt.distill_loss(merged, dataclasses.replace(pairs, pairs=tuple(chosen)))",
            )


def _is_same_end(made: End, now: End) -> bool:
    """Return whether two ends agree, whatever the input size and the enclosing modules."""
    if made.shape is not None and now.shape is not None and len(made.shape) != len(now.shape):
        return False
    if made.module is None or now.module is None:
        return True
    paths = (module_path(module).split("/")[2:] for module in (made.module, now.module))
    shorter, longer = sorted(paths, key=len)
    return longer[len(longer) - len(shorter) :] == shorter


def _pair(given: object, index: int, merged: Merged) -> Pair:
    if isinstance(given, Pair):
        return given
    if not is_name_tuple(given):
        expected = "a Pair, or (teacher name, student name) with or without a loss"
        raise UsageError(bad_argument(f"pairs[{index}]", given, expected, _EXAMPLE))
    teacher_name, student_name, *loss = given
    with suppress(ReadError):  # an unknown name is reported later
        teacher_name = merged.teacher_name(teacher_name)
    graph, student = merged.plan.student, _end(merged.plan.student, student_name)
    is_known = student.name in graph.values
    return Pair(
        rank=index + 1,
        score=1.0,
        kind=pair_kind(analyse(graph), student.name) if is_known else Kind.FEATURE,
        teacher=_end(merged.plan.teacher, teacher_name),
        student=student,
        relation=Relation.UNKNOWN,
        adapter=None,
        loss=loss[0] if loss else "l2",
        why=(),
        warnings=(),
    )


def _end(graph: Graph, selector: str) -> End:
    """Return the end that a selector finds; `fit_pairs` reports one that finds nothing."""
    try:
        return end_of(graph, find(graph, selector))
    except ReadError:
        unknown = dict.fromkeys(("op", "op_index", "module", "layer", "shape", "dtype"))
        return End(name=selector, output=0, **unknown)


def _resolve_weights(
    parts: Sequence[_Part], pairs: Sequence[Pair], given: object
) -> tuple[dict[str, Weight], list[Diagnostic]]:
    """Return the weight of each part by its name, and the problems of those given.

    `given` is None, one weight for each pair, or a mapping from the name of a part, the rank or the
    kind of a pair: the more specific key wins. A pair that it leaves out has its default.

    Raises UsageError GT248 for anything else.
    """
    weights: list[Weight] = [pair.weight for pair in pairs]
    total, known = len(pairs), [part.name for part in parts]
    example = "weights=[1.0]" if total == 1 else f"weights=[1.0] * {total}"
    checked = [(f"pair {rank}", weight, example) for rank, weight in enumerate(weights, 1)]
    problems: list[Diagnostic] = []
    if isinstance(given, Mapping):
        keyed = cast("Mapping[object, Weight]", given)
        # Other keys are not compared: PIR Values crash once their Program is gone.
        by_key = {key: one for key, one in keyed.items() if isinstance(key, str | int)}
        checked += [(f"`{key}`", one, f"weights={{{key!r}: 1.0}}") for key, one in by_key.items()]
        unused = _set_by_key(parts, by_key, weights)
        strange = [short_repr(key) for key in keyed if not isinstance(key, str | int)]
        problems += [_unknown_part("weights", key, known) for key in (*strange, *unused)]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        listing = cast("Sequence[Weight]", given)
        if len(listing) != total:
            message = f"`weights` has length {len(listing)}; wanted {total}, one for each pair"
            problems.append(bad_option(message, help=example))
        else:
            weights = list(listing)
            checked += [(f"pair {rank}", one, example) for rank, one in enumerate(weights, 1)]
    elif given is not None:
        expected = "one weight for each pair, or a mapping"
        raise UsageError(bad_argument("weights", given, expected, 'weights={"l2_relu_22": 0.5}'))
    problems += [found for one in checked for found in _check_weight(*one)]
    if problems:
        return {}, problems
    by_name = {part.name: weights[part.indices[-1]] for part in parts}
    for part in parts:
        first, last = weights[part.indices[0]], by_name[part.name]
        # Comparing PIR Values would build an operator.
        is_same = first is last if is_value(first) or is_value(last) else first == last
        if not is_same:
            weigh = f"`{short_repr(first)}` and `{short_repr(last)}`"
            message = f"the two pairs of `{part.name}` have the weights {weigh}; wanted one weight"
            typed = f"weights={{{string_literal(part.name)}: 1.0}}"
            problems.append(bad_option(message, help=typed))
    if not any(is_value(weight) or weight for weight in by_name.values()):
        message = "the weight of every pair is `0.0`; wanted a weight above 0 for one of them"
        problems.append(bad_option(message, help=example))
    return {name: one if is_value(one) else float(one) for name, one in by_name.items()}, problems


def _set_by_key(
    parts: Sequence[_Part], given: Mapping[str | int, Weight], weights: list[Weight]
) -> list[str | int]:
    """Set the weights of pairs by the keys of a mapping; return the keys of no pair."""
    unused = dict.fromkeys(given)
    for part in parts:
        for index, pair in zip(part.indices, part.pairs, strict=True):
            # The last of them that is given wins.
            for key in (pair.kind.value, pair.rank, part.name):
                if key in given:
                    unused.pop(key, None)
                    weights[index] = given[key]
    return list(unused)


def _check_weight(of: str, weight: Weight, example: str) -> Iterator[Diagnostic]:
    """Yield a problem if a weight is invalid; `example` is a valid argument."""
    shown, number = short_repr(weight), as_number(weight)
    if is_value(weight):
        example = 'weight = paddle.static.data("weight", [1], "float32")'
        shown, wanted = "<Value>", "a Value of the merged Program"
        if is_in_main_program(weight):
            if shape_of(weight) in ((), (1,)):
                return
            shown, wanted = f"<Value {list(shape_of(weight))}>", "a scalar: [] or [1]"
    elif number is not None and number >= 0:
        return
    else:
        is_number = isinstance(weight, Real) and weight is not True and weight is not False
        wanted = "a finite number of 0 or more" if is_number else "a number, or a scalar Value"
    yield bad_option(f"the weight of {of} is `{shown}`; wanted {wanted}", help=example)


def _unknown_part(argument: str, key: object, known: Sequence[str]) -> Diagnostic:
    """Report a key of `weights` or `options` that belongs to no part of the loss."""
    value, more = (
        ("1.0", ", kinds of pairs, and their ranks") if argument == "weights" else ("{}", "")
    )
    return bad_option(
        f"`{argument}` has the key `{key!r}`, which belongs to no part of the loss",
        notes=(f"known: {listed(known, len(known))}{more}",),
        help=f"{argument}={{{string_literal(known[0])}: {value}}}" if known else None,
    )


def _check_options(
    parts: Sequence[_Part], options: Mapping[str, Mapping[str, object]]
) -> Iterator[Diagnostic]:
    """Yield options of unknown losses and parts, and options that a loss doesn't have."""
    known = dict.fromkeys(name for part in parts for name in (part.loss, part.name))
    for key, given in options.items():
        if key not in known:
            yield _unknown_part("options", key, tuple(known))
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
    parts: Sequence[_Part],
    alignments: Sequence[Sequence[Alignment]],
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
                losses[part.name] = _build_part(merged, part, aligned, label)
        except GraphtoolError as error:  # the problems of all parts are reported
            ends = (f"`{pair.teacher.name}` with `{pair.student.name}`" for pair in part.pairs)
            note = f"in `{part.name}`: {' and '.join(ends)}"
            errors += [replace(found, notes=(*found.notes, note)) for found in error.report]
        adapters[part.name] = tuple(sorted(_parameter_names(merged.program) - before))
    if errors:
        raise PairError(*errors)
    return losses, adapters


def _build_part(
    merged: Merged, part: _Part, alignments: Sequence[Alignment], label: Paddle | str | None
) -> Paddle:
    options = {"labels": label} if part.loss == "dkd" and label is not None else {}
    options |= part.options
    operands: list[Both[Paddle]] = []
    for pair, alignment in zip(part.pairs, alignments, strict=True):
        values = Both(merged.teacher(pair.teacher.name), merged.student(pair.student.name))
        rank, axis = len(shape_of(values.teacher)), options.get("axis")
        operands.append(_aligned(values, alignment, name=part.name))
        if spec_of(part.loss).needs_class_axis and (axis is None or is_axis(axis, rank)):
            # The classes were moved where maps have their channels, or to the end.
            options["axis"] = 1 if len(shape_of(operands[0].teacher)) == 4 else -1
    teachers, students = zip(*operands, strict=True)
    with warnings.catch_warnings():
        # It is in the report already.
        warnings.filterwarnings("ignore", r"warning\[GT228\]")
        return BY_NAME[part.loss](*teachers, *students, **options)


def _aligned(values: Both[Paddle], alignment: Alignment, *, name: str) -> Both[Paddle]:
    """Return both Values with their channels first, through the adapter of their pair.

    `name` names the parameters of an adapter.
    """
    teacher, student = (
        transpose(value, channels_first_order(len(shape_of(value)), axis))
        for value, axis in zip(values, alignment.axes, strict=True)
    )
    adapter = alignment.adapter
    if adapter is not None and adapter.resizes:
        teacher, student = resize_to_smaller(teacher, student)
    channels = teacher_channels(shape_of(teacher))
    if adapter is not None and adapter.layer == "conv1x1":
        student = conv1x1(student, channels, name=name)
    elif adapter is not None and adapter.layer == "linear":
        teacher, student = as_vectors(teacher), linear(student, channels, name=name)
    return Both(teacher, student)


def _weighted(loss: Paddle, weight: Weight) -> Paddle:
    """Return a loss times its weight, in the dtype of the loss."""
    if is_value(weight):
        return loss * weight.astype(loss.dtype).reshape([])
    return loss if weight == 1 else loss * weight


def _parameter_names(program: Paddle) -> frozenset[str]:
    return frozenset(one.name for one in program.global_block().all_parameters())
