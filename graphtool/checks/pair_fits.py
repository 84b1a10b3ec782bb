"""What stands against a loss between Values that are there: adapters, shapes, dtypes, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from graphtool.checks import pair_problems as problems
from graphtool.checks.adapters import (
    Adapter,
    adapter_misfits,
    behind,
    fixed_value,
    parse_adapter,
    resized,
)
from graphtool.checks.fits import (
    graph_learns,
    is_computed,
    misranked,
    too_few,
    unequal,
    unknown_dims,
)
from graphtool.checks.layouts import (
    Axes,
    are_classes_last,
    axes_of,
    channels_first,
    classes_last,
    takes_axis,
)
from graphtool.checks.pair_problems import Sides
from graphtool.checks.probabilities import normalised_before, unsaid_probabilities
from graphtool.diagnostics import Diagnostic, PairError, Where
from graphtool.graph import UNKNOWN, Graph, Shape, Value, dims_agree
from graphtool.loss_names import NamedLoss, Takes, channel_axis
from graphtool.text import literal

__all__ = ["ROLES", "Compared", "Ends", "Fitted"]

ROLES = ("teacher", "student")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The teacher's Graph and the student's, the prefix, and whether the student is restored."""

    graphs: tuple[Graph, Graph]
    prefix: str
    restored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The two Values of a pair, where they are, and whether `suggest_pairs` found them."""

    values: tuple[Value, Value]
    where: tuple[Where, Where]
    adapter: str | None
    suggested: bool = False


@dataclass(frozen=True, slots=True)
class Fitted:
    """One loss, and the networks that it compares."""

    networks: Compared
    loss: str
    known: NamedLoss
    options: Mapping[str, object]

    @property
    def takes(self) -> Takes:
        """What the loss takes with its options."""
        return self.known.taken(self.options)

    def misfits(self, ends: Sequence[Ends]) -> Iterator[Diagnostic]:
        """Yield all that stands against the loss: its pairs are two for flows."""
        yield from self._dtypes(ends)
        sides: list[Sides] = []
        for one in ends:
            told = tuple(self._adapter(one))
            yield from told
            if not told and (compared := self._compared(one)) is not None:
                sides.append(compared)
                yield from self._guessed(one, compared) or _unlike(self.takes, compared)
        if self.takes.flows and len(sides) == len(ends):
            yield from self._flows(*sides)
        if not any(one.adapter or self._learns(one) for one in ends):
            yield problems.frozen_student(self.loss, ends[0].where[1], None)
        for one in ends if self.takes.logits else ():
            yield from self._probabilities(one)

    def _dtypes(self, ends: Sequence[Ends]) -> Iterator[Diagnostic]:
        both = [
            (at, value.dtype)
            for one in ends
            for at, value in zip(one.where, one.values, strict=True)
        ]
        known = [(place, dtype) for place, dtype in both if dtype is not None]
        if known and not is_computed([dtype for _, dtype in known]):
            where, dtypes = zip(*known, strict=True)
            yield problems.pair_dtype(self.loss, where, dtypes)

    def _learns(self, ends: Ends) -> bool:
        graph, name = self.networks.graphs[1], ends.values[1].name
        return graph_learns(graph, name, restored=self.networks.restored)

    def _adapter(self, ends: Ends) -> Iterator[Diagnostic]:
        """Yield why the adapter of a pair cannot be built."""
        if ends.adapter is None:
            return
        try:
            adapter = parse_adapter(ends.adapter)
        except PairError as error:
            yield from error.report
            return
        if not self._learns(ends):
            yield fixed_value(ends.adapter, ends.where[1])
        if (shapes := self._laid_out(ends)) is not None:
            yield from adapter_misfits(ends.adapter, adapter, shapes, ends.where)

    def _laid_out(self, ends: Ends) -> tuple[Shape, Shape] | None:
        """Return both shapes with the channels of maps first, None where one is not known."""
        teacher, student = (value.shape for value in ends.values)
        if teacher is None or student is None:
            return None
        axes = self._axes(ends)
        first, second = (
            tuple(shape[axis] for axis in channels_first(len(shape), channels))
            for shape, channels in zip((teacher, student), axes, strict=True)
        )
        return first, second

    def _axes(self, ends: Ends) -> Axes:
        teacher, student = (value.name for value in ends.values)
        return axes_of(
            self.known,
            self.networks.graphs,
            (teacher, student),
            self.options.get("axis"),
            suggested=ends.suggested,
        )

    def _guessed(self, ends: Ends, sides: Sides) -> list[Diagnostic]:
        """Return a problem where nothing says which axis of two Values has the classes."""
        ranks = [len(shape) for shape in sides.shapes]
        if not takes_axis(self.known) or None not in self._axes(ends) or ranks[0] != ranks[1]:
            return []
        options = f'{{"{self.loss}": {{"axis": {channel_axis(ranks[0])}}}}}'
        call = f"gt.distill_loss(merged, pairs, options={options})"
        return [problems.which_axis(self.loss, ends.where, call)]

    def _compared(self, ends: Ends) -> Sides | None:
        """Return both sides as the loss gets them, None where a shape is not known."""
        shapes = self._laid_out(ends)
        if shapes is None:
            return None
        if ends.adapter is not None:
            shapes = behind(parse_adapter(ends.adapter), *shapes)
        if are_classes_last(self.known, self._axes(ends)):
            first, second = (
                tuple(shape[axis] for axis in classes_last(len(shape))) for shape in shapes
            )
            shapes = first, second
        return Sides(loss=self.loss, where=ends.where, shapes=shapes, adapter=ends.adapter)

    def _flows(self, start: Sides, end: Sides) -> Iterator[Diagnostic]:
        """Compare where a flow starts and where it ends, in each network."""
        for at in (0, 1):
            within = Sides(
                loss=self.loss,
                where=(start.where[at], end.where[at]),
                shapes=(start.shapes[at], end.shapes[at]),
                adapter=None,
            )
            yield from _unlike(self.takes.within, within)

    def _probabilities(self, ends: Ends) -> Iterator[Diagnostic]:
        """Yield the ends that hold probabilities, as far as no adapter stands before the loss."""
        direct = _direct(ends.adapter, self._laid_out(ends))
        before = [
            normalised_before(graph, value.name)
            for graph, value in zip(self.networks.graphs, ends.values, strict=True)
        ]
        found = {
            place: told
            for place, told, as_it_is in zip(ends.where, before, direct, strict=True)
            if as_it_is and told is not None
        }

        def call(side: str) -> str:
            options = f'{{"{self.loss}": {{"from_probs": "{side}"}}}}'
            return f"gt.distill_loss(merged, pairs, options={options})"

        names = (
            literal(value.name if told is None else told.logits)
            for value, told in zip(ends.values, before, strict=True)
        )
        said = self.options.get("from_probs")
        instead = f'({", ".join(names)}, "l2")'
        yield from unsaid_probabilities(self.loss, found, said, call, instead)


def _unlike(takes: Takes, sides: Sides) -> Iterator[Diagnostic]:
    """Yield what is wrong with the shapes of two sides."""
    teacher, student = sides.shapes
    ranks_differ = takes.equal_ranks and len(teacher) != len(student)
    if misranked(takes, sides.shapes) or ranks_differ:
        yield problems.pair_rank(sides, takes.said_of_ranks)
        return
    count = too_few(takes, sides.shapes)
    if unequal(takes, teacher, student):
        dims = [(teacher[axis], student[axis]) for axis in takes.compared(len(teacher))]
        # Paddle would stretch one to the other without a word.
        stretched = all(1 in both or dims_agree(*both) for both in dims)
        wanted = takes.said_of_dims(len(teacher))
        yield problems.pair_broadcast(sides) if stretched else problems.pair_shape(sides, wanted)
    elif takes.least is not None and count is not None:
        yield problems.constant_loss(sides.loss, sides.where, takes.least, count, _varied(sides))
    for role, place, shape in zip(ROLES, sides.where, sides.shapes, strict=True):
        for axis in unknown_dims(takes, role, shape):
            yield problems.unknown_dim(sides.loss, replace(place, shape=shape), axis)


def _direct(text: str | None, shapes: tuple[Shape, Shape] | None) -> tuple[bool, bool]:
    """Tell whether the teacher's Value, and the student's, come to the loss as they are."""
    adapter = _adapter(text)
    if adapter is None or shapes is None:
        return True, True
    same = [True, True]
    if adapter.resizes:
        same = [
            a == b and UNKNOWN not in a[2:] for a, b in zip(shapes, resized(*shapes), strict=True)
        ]
    return same[0], same[1] and adapter.layer is None


def _adapter(text: str | None) -> Adapter | None:
    with suppress(PairError):
        return None if text is None else parse_adapter(text)
    return None


def _varied(sides: Sides) -> str:
    """Write the pair with a loss that says something of such Values as well."""
    ends = ", ".join(literal(place.value or "") for place in sides.where)
    loss = "l2" if sides.shapes[0] == sides.shapes[1] else "similarity"
    return f'({ends}, "{loss}")'
