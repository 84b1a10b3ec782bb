"""What a loss was told of, also where it is written out: the last Values that no label touches.

A written-out loss is followed back from its number. Where what a label touches reads what none
touches, the network ends and the loss begins. From there arithmetic without weights is gone back
over: a network does not end in its logits less their largest, or in a logarithm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from graphtool.graph import UNKNOWN, Shape
from graphtool.structure._flow import Flow, Step
from graphtool.structure._labels import Marks, is_number, is_total, marks_of
from graphtool.structure._numbers import numbers_of, whole_numbers
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    AROUND_ANSWERS,
    NORMS,
    POOLS,
    PROBABILITIES,
    PRODUCTS,
    RECURRENT,
    REDUCTIONS,
    RESHAPES,
    RESIZES,
    is_told,
)

__all__ = ["Answer", "answers_of", "relates_samples"]

# What may stand between a loss and the one number that it becomes.
_AROUND_NUMBERS = AROUND_ANSWERS | REDUCTIONS | {"square", "squeeze"}
# What networks do end in, without a weight. Cut off to a range is what a loss takes logarithms of.
_IN_NETWORKS = (
    (ACTIVATIONS - {"clip"})
    | NORMS
    | POOLS
    | PROBABILITIES
    | RECURRENT
    | RESHAPES
    | RESIZES
    | {"dropout"}
)
_MAP, _ROWS = 4, 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What an output is about: itself, or where it is a loss what that was told of.

    `parts` are what it is made of without weights, where a loss that is written out may be told of
    those: the ends of two towers, of which it takes the product, or what it compares in a batch.
    """

    output: str
    name: str
    parts: tuple[str, ...] = ()


def answers_of(
    flow: Flow, scales: Mapping[str, Scale], outputs: Sequence[str]
) -> tuple[Answer, ...]:
    """Return what the outputs are about, each once."""
    by_labels, by_feeds = (marks_of(flow, labels=labels) for labels in (True, False))
    places = {name: place for place, name in enumerate(flow.maker)}
    losses = [one for one in outputs if is_number(flow, one) and one in by_labels.touched]
    arithmetic, found = _Arithmetic(flow, scales, by_feeds.alone, places), list[Answer]()
    for output in outputs:
        if losses and _is_beside(flow, by_labels, output):
            continue
        # Who rebuilds its input has no other label.
        marks = by_labels if losses or not is_total(flow, output) else by_feeds
        for name, is_written in _told_of(flow, marks, output).items():
            settled = name if name == output else arithmetic.settled(name)
            is_relation = name != output and relates_samples(flow, settled)
            origins = arithmetic.origins(settled) if is_written or is_relation else ()
            is_made = len(origins) > 1 or is_relation
            found.append(Answer(output, settled, origins if is_made else ()))
    wholes = arithmetic.wholes([answer.name for answer in found if answer.name != answer.output])
    named: dict[str, Answer] = {}
    for answer in found:
        name = wholes.get(answer.name, answer.name)
        # The last output is the total, or nearer to it than what one operator has besides.
        named[name] = Answer(answer.output, name, answer.parts)
    if flow.graph.fetches or all(answer.name == answer.output for answer in found):
        return tuple(named.values())
    # The terms of a loss stand in any order.
    return tuple(sorted(named.values(), key=lambda answer: arithmetic.place(answer.name)))


def relates_samples(flow: Flow, name: str) -> bool:
    """Tell a product by which the samples of a batch are compared: no dim of it is known."""
    step, shape = flow.maker.get(name), flow.graph.values[name].shape
    is_product = step is not None and step.kind in PRODUCTS and not step.weighted
    return is_product and bool(shape) and all(dim == UNKNOWN for dim in shape)


def _is_beside(flow: Flow, marks: Marks, output: str) -> bool:
    """Tell what says nothing of an answer beside a loss: a penalty, or errors to look at."""
    step = flow.maker.get(output)
    if step is not None and is_told(step.kind):
        return False
    if output in marks.touched:
        return not is_number(flow, output)
    return is_total(flow, output)


def _told_of(flow: Flow, marks: Marks, output: str) -> Mapping[str, bool]:
    """Return where the loss begins that ends in an output, and whether it is written out there.

    The output itself where it is no loss. A number counts where nothing else is found.
    """
    first = flow.maker.get(output)
    if not is_number(flow, output) and not (first and is_told(first.kind)):
        return {output: False}
    found, numbers = dict[str, bool](), dict[str, bool]()
    operands, seen = {output}, {output}
    pending = [(output, is_total(flow, output) and not flow.graph.fetches)]
    while pending:
        name, inside = pending.pop()
        step = flow.maker.get(name)
        before = () if step is None else _before(flow, marks, name, step, inside=inside)
        if step is None or not before:
            (numbers if inside and is_number(flow, name) else found)[name] = name not in operands
            continue
        if is_told(step.kind):
            operands.update(before)
        inside = not is_told(step.kind) and (inside or name in marks.touched)
        fresh = [one for one in reversed(before) if one not in seen]
        seen.update(fresh)
        pending += [(one, inside) for one in fresh]
    return found or numbers


def _before(flow: Flow, marks: Marks, name: str, step: Step, *, inside: bool) -> tuple[str, ...]:
    """Return what a loss or number comes from; () where that is the network's own."""
    if is_told(step.kind):
        return tuple(_samples_first(flow, one, step) for one in step.features[:1])
    if name in marks.touched:
        return tuple(one for one in flow.branches(step) if one not in marks.alone)
    if not is_number(flow, name) or step.weighted:
        return ()
    if inside:
        return step.features
    return step.features[:1] if step.kind in _AROUND_NUMBERS else ()


def _samples_first(flow: Flow, name: str, loss: Step) -> str:
    """Go back over the transpose that puts the time first, as CTC wants it."""
    step = flow.maker.get(name)
    is_turned = loss.kind == "warpctc" and step is not None and step.kind == "transpose"
    return step.features[0] if step is not None and is_turned else name


@dataclass(frozen=True, slots=True)
class _Arithmetic:
    """What is computed without weights, and without `feeds`, behind a network's last weights.

    `places` has what is computed in program order. `known` and `masks` keep what was found, for
    the terms of a loss share arithmetic.
    """

    flow: Flow
    scales: Mapping[str, Scale]
    feeds: Collection[str]
    places: Mapping[str, int]
    known: dict[str, str] = field(default_factory=dict[str, str])
    ends: list[str] = field(default_factory=list[str])
    masks: dict[str, int] = field(default_factory=dict[str, int])

    def settled(self, name: str) -> str:
        """Go back over arithmetic that keeps the shape: logits less their largest, a logarithm.

        And over what makes rows of all places of a map, or of all tokens, and over what leaves out
        the last token, behind which no next one is known.
        """
        passed: list[str] = []
        while name not in self.known:
            passed.append(name)
            before = self._before(name)
            if before is None:
                self.known[name] = self._unrolled(name)
            else:
                name = before
        self.known.update(dict.fromkeys(passed, self.known[name]))
        return self.known[name]

    def _before(self, name: str) -> str | None:
        step = self.flow.maker.get(name)
        if step is None or not self._is_free(step) or step.kind in _IN_NETWORKS:
            return None
        before = self._source(step.features)
        is_whole = before is not None and self._shape(before) == self._shape(name)
        return before if is_whole or self._leaves_out_the_last(step) else None

    def _leaves_out_the_last(self, step: Step) -> bool:
        is_sequence = len(self._shape(step.result) or ()) == _ROWS + 1
        if step.kind != "slice" or not step.features or not is_sequence:
            return False
        graph, operator = self.flow.graph, step.operator
        axes = whole_numbers(operator.attributes.get("axes"))
        starts = numbers_of(graph, operator, "starts", operand=1)
        ends = numbers_of(graph, operator, "ends", operand=2)
        return (axes, starts, ends) == ((1,), (0,), (-1,))

    def _unrolled(self, name: str) -> str:
        """Return the map or the sequence [N, L, D] whose places are these rows [?, D], if any."""
        step, rows = self.flow.past(name, RESHAPES), self._shape(name)
        if step is not None and self._leaves_out_the_last(step):
            step = self.flow.past(step.features[0], RESHAPES)
        whole = self._shape(step.result) if step is not None else None
        if step is None or not whole or not rows or len(rows) != _ROWS or not step.weights:
            return name
        is_sequence = len(whole) == _ROWS + 1 and whole[1] != 1 and whole[-1] == rows[-1]
        is_map = self._is_map(step.result) and rows[-1] == whole[1]
        return step.result if is_sequence or is_map else name

    def wholes(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return what several are parts of: one Value of their shape, or a detector's map."""
        by_origins: dict[int, list[str]] = {}
        for name in dict.fromkeys(names):
            by_origins.setdefault(self._mask(name), []).append(name)
        found: dict[str, str] = {}
        for parts in by_origins.values():
            if len(parts) == 1:
                continue
            whole, origins = self._source(parts), self.origins(parts[0])
            if whole is not None and all(self._shape(x) == self._shape(whole) for x in parts):
                found.update(dict.fromkeys(parts, self.settled(whole)))
            elif len(origins) == 1 and self._is_map(origins[0]):
                found.update(dict.fromkeys(parts, origins[0]))
        return found

    def origins(self, name: str) -> tuple[str, ...]:
        """Return the Values made with weights that this is a function of, in program order."""
        mask = self._mask(name)
        ends = (self.ends[place] for place in range(mask.bit_length()) if mask >> place & 1)
        return tuple(sorted(ends, key=self.place))

    def _mask(self, name: str) -> int:
        """Return the origins as bits, one for each of the `ends`."""
        pending, masks = [name], self.masks
        while pending:
            step = self.flow.maker.get(pending[-1])
            is_end = step is None or not self._is_free(step)
            fresh = [] if step is None or is_end else [x for x in step.features if x not in masks]
            if fresh:
                pending += fresh
                continue
            made = pending.pop()
            if made in masks:
                continue
            if step is None or is_end:
                masks[made] = 1 << len(self.ends)
                self.ends.append(made)
            else:
                masks[made] = 0
                for one in step.features:
                    masks[made] |= masks[one]
        return masks[name]

    def _source(self, names: Iterable[str]) -> str | None:
        """Return the nearest Value that all of these are functions of, without weights; or None."""
        seen = set(names)
        pending = [(-self.place(name), name) for name in seen]
        heapify(pending)
        while len(pending) > 1:
            step = self.flow.maker.get(heappop(pending)[1])
            if step is None or not self._is_free(step):
                return None
            for name in step.features:
                if name not in seen:
                    seen.add(name)
                    heappush(pending, (-self.place(name), name))
        return pending[0][1]

    def _is_free(self, step: Step) -> bool:
        """Tell what is a function of features alone: no weight, no feed."""
        if step.weights or step.operator.blocks or not step.features:
            return False
        return not any(name in self.feeds for name in step.data)

    def _is_map(self, name: str) -> bool:
        is_local = self.scales.get(name, GLOBAL) != GLOBAL
        return is_local and self.flow.graph.values[name].rank == _MAP

    def place(self, name: str) -> int:
        """Return where in the program a Value is computed; nothing is before what is fed."""
        return self.places.get(name, -1)

    def _shape(self, name: str) -> Shape | None:
        return self.flow.graph.values[name].shape
