"""Problems of a loss between existing Values: adapters, shapes, dtypes and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from graphtool.checks import pair_problems as problems
from graphtool.checks.adapters import (
    ADAPTER_CALL,
    TRAINABLE_INPUT,
    adapted_shapes,
    check_adapter,
    misapplied,
    parse_adapter,
    resized,
)
from graphtool.checks.comparability import (
    are_comparable_dtypes,
    insufficient_count,
    reaches_parameter_in,
    unequal_axes,
    unknown_axes,
    wrong_rank_indices,
)
from graphtool.checks.layouts import (
    Axes,
    axes_of,
    channels_first_order,
    classes_last_order,
    has_classes_last,
    needs_class_axis,
)
from graphtool.checks.pair_problems import ComparedValues
from graphtool.checks.softmax_inputs import source_logits, undeclared_probabilities
from graphtool.diagnostics import Diagnostic, PairError, Where
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import UNKNOWN_DIM, Graph, Shape, Value, dims_agree
from graphtool.loss_specs import LossSpec, OperandSpec, channel_axis
from graphtool.text import string_literal

__all__ = ["ROLES", "ComparedNetworks", "PairLoss", "PairValues"]

ROLES = ("teacher", "student")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedNetworks:
    """The teacher's Graph and the student's, the prefix, and whether the student is restored."""

    graphs: tuple[Graph, Graph]
    prefix: str
    restored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairValues:
    """The two Values of a pair, where they are, and whether `suggest_pairs` found them."""

    values: tuple[Value, Value]
    where: tuple[Where, Where]
    adapter: str | None
    suggested: bool = False


@dataclass(frozen=True, slots=True)
class PairLoss:
    """A loss with its options, and the networks that it compares."""

    networks: ComparedNetworks
    name: str
    loss: LossSpec
    options: Mapping[str, object]

    @property
    def takes(self) -> OperandSpec:
        """What the loss takes with its options."""
        return self.loss.takes_with(self.options)

    def check(self, pairs: Sequence[PairValues]) -> Iterator[Diagnostic]:
        """Yield all problems of the loss; it has two pairs if it compares flows."""
        yield from self._check_dtypes(pairs)
        all_compared: list[ComparedValues] = []
        for pair in pairs:
            adapter_problems = tuple(self._check_adapter(pair))
            yield from adapter_problems
            if not adapter_problems and (compared := self._compared(pair)) is not None:
                all_compared.append(compared)
                yield from self._check_class_axis(pair, compared) or _check_shapes(
                    self.takes, compared
                )
        if self.takes.flows and len(all_compared) == len(pairs):
            yield from self._check_flows(*all_compared)
        if not any(pair.adapter or self._student_reaches_parameter(pair) for pair in pairs):
            yield problems.frozen_student(self.name, pairs[0].where[1], None)
        for pair in pairs if self.takes.logits else ():
            yield from self._check_probabilities(pair)

    def _check_dtypes(self, pairs: Sequence[PairValues]) -> Iterator[Diagnostic]:
        known = [
            (where, value.dtype)
            for pair in pairs
            for where, value in zip(pair.where, pair.values, strict=True)
            if value.dtype is not None
        ]
        if known and not are_comparable_dtypes([dtype for _, dtype in known]):
            where, dtypes = zip(*known, strict=True)
            dtype = dtypes[-1] if dtypes[-1] in FLOAT_DTYPES else "float32"
            name = string_literal(where[0].value or "")
            cast = f'paddle.cast(merged.teacher({name}), "{dtype}")'
            yield problems.pair_dtype(self.name, where, dtypes, cast)

    def _student_reaches_parameter(self, pair: PairValues) -> bool:
        graph, name = self.networks.graphs[1], pair.values[1].name
        return reaches_parameter_in(graph, name, restored=self.networks.restored)

    def _check_adapter(self, pair: PairValues) -> Iterator[Diagnostic]:
        """Yield why the adapter of a pair cannot be built."""
        if pair.adapter is None:
            return
        try:
            adapter = parse_adapter(pair.adapter)
        except PairError as error:
            yield from error.report
            return
        if not self._student_reaches_parameter(pair):
            yield misapplied(pair.adapter, pair.where[1], TRAINABLE_INPUT, help=ADAPTER_CALL)
        if (shapes := self._channels_first_shapes(pair)) is not None:
            yield from check_adapter(pair.adapter, adapter, shapes, pair.where)

    def _channels_first_shapes(self, pair: PairValues) -> tuple[Shape, Shape] | None:
        """Return both shapes with the channels of maps first, None if one is unknown."""
        teacher, student = (value.shape for value in pair.values)
        if teacher is None or student is None:
            return None
        permuted = [
            tuple(shape[at] for at in channels_first_order(len(shape), axis))
            for shape, axis in zip((teacher, student), self._axes(pair), strict=True)
        ]
        return permuted[0], permuted[1]

    def _axes(self, pair: PairValues) -> Axes:
        teacher, student = pair.values
        return axes_of(
            self.loss,
            self.networks.graphs,
            (teacher.name, student.name),
            self.options.get("axis"),
            suggested=pair.suggested,
        )

    def _check_class_axis(self, pair: PairValues, compared: ComparedValues) -> list[Diagnostic]:
        """Return a problem if the class axis of two Values is unknown."""
        ranks = [len(shape) for shape in compared.shapes]
        if not needs_class_axis(self.loss) or None not in self._axes(pair) or ranks[0] != ranks[1]:
            return []
        options = f'{{"{self.name}": {{"axis": {channel_axis(ranks[0])}}}}}'
        call = f"gt.distill_loss(merged, pairs, options={options})"
        return [problems.unknown_class_axis(self.name, pair.where, call)]

    def _compared(self, pair: PairValues) -> ComparedValues | None:
        """Return both Values with the shapes that the loss compares, None if one is unknown."""
        shapes = self._channels_first_shapes(pair)
        if shapes is None:
            return None
        if pair.adapter is not None:
            shapes = adapted_shapes(parse_adapter(pair.adapter), *shapes)
        if has_classes_last(self.loss, self._axes(pair)):
            teacher, student = (
                tuple(shape[axis] for axis in classes_last_order(len(shape))) for shape in shapes
            )
            shapes = teacher, student
        return ComparedValues(loss=self.name, where=pair.where, shapes=shapes, adapter=pair.adapter)

    def _check_flows(self, start: ComparedValues, end: ComparedValues) -> Iterator[Diagnostic]:
        """Compare the start of a flow with its end, in each network."""
        for index in (0, 1):
            within = ComparedValues(
                loss=self.name,
                where=(start.where[index], end.where[index]),
                shapes=(start.shapes[index], end.shapes[index]),
                adapter=None,
            )
            yield from _check_shapes(self.takes.within_network, within)

    def _check_probabilities(self, pair: PairValues) -> Iterator[Diagnostic]:
        """Yield the Values that hold probabilities, unless an adapter changes them."""
        unchanged = _are_unchanged(pair.adapter, self._channels_first_shapes(pair))
        sources = [
            source_logits(graph, value.name)
            for graph, value in zip(self.networks.graphs, pair.values, strict=True)
        ]
        found = {
            where: source
            for where, source, is_unchanged in zip(pair.where, sources, unchanged, strict=True)
            if is_unchanged and source is not None
        }

        def call(roles: str) -> str:
            options = f'{{"{self.name}": {{"from_probs": "{roles}"}}}}'
            return f"gt.distill_loss(merged, pairs, options={options})"

        names = (
            string_literal(value.name if source is None else source.logits)
            for value, source in zip(pair.values, sources, strict=True)
        )
        yield from undeclared_probabilities(
            self.name, found, self.options.get("from_probs"), call, f'({", ".join(names)}, "l2")'
        )


def _check_shapes(takes: OperandSpec, compared: ComparedValues) -> Iterator[Diagnostic]:
    """Yield the problems of the shapes of two Values."""
    teacher, student = compared.shapes
    ranks_differ = takes.equal_ranks and len(teacher) != len(student)
    if wrong_rank_indices(takes, compared.shapes) or ranks_differ:
        ranks = " and ".join(str(len(shape)) for shape in compared.shapes)
        message = f"{compared.names} have ranks {ranks}; `{compared.loss}` wants {takes.ranks_text}"
        yield problems.pair_shape(message, compared.where, problems.partners_command(compared))
        return
    count = insufficient_count(takes, compared.shapes)
    if unequal_axes(takes, teacher, student):
        dims = [(teacher[axis], student[axis]) for axis in takes.equal_axes(len(teacher))]
        # Paddle would broadcast one to the other silently.
        if all(1 in pair or dims_agree(*pair) for pair in dims):
            message = f"{compared.description}; `{compared.loss}` would broadcast one to the other"
            yield problems.pair_shape(message, compared.where, problems.partners_command(compared))
        else:
            wanted = takes.dims_text(len(teacher))
            message = f"{compared.description}; `{compared.loss}` wants {wanted}"
            yield problems.pair_shape(message, compared.where, problems.shape_fix(compared))
    elif takes.least is not None and count is not None:
        other_loss = _with_other_loss(compared)
        yield problems.constant_loss(compared.loss, compared.where, takes.least, count, other_loss)
    for role, where, shape in zip(ROLES, compared.where, compared.shapes, strict=True):
        for axis in unknown_axes(takes, role, shape):
            yield problems.unknown_dim(compared.loss, replace(where, shape=shape), axis)


def _are_unchanged(text: str | None, shapes: tuple[Shape, Shape] | None) -> tuple[bool, bool]:
    """Return whether an adapter leaves the teacher's Value, and the student's, unchanged."""
    adapter = None
    with suppress(PairError):
        adapter = None if text is None else parse_adapter(text)
    if adapter is None or shapes is None:
        return True, True
    same = [True, True]
    if adapter.resizes:
        same = [
            old == new and UNKNOWN_DIM not in old[2:]
            for old, new in zip(shapes, resized(*shapes), strict=True)
        ]
    return same[0], same[1] and adapter.layer is None


def _with_other_loss(compared: ComparedValues) -> str:
    """Return the code of the pair with a loss that is not constant for such Values."""
    names = ", ".join(string_literal(where.value or "") for where in compared.where)
    loss = "l2" if compared.shapes[0] == compared.shapes[1] else "similarity"
    return f'({names}, "{loss}")'
