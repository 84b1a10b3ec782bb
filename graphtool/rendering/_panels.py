"""Build a network's Panel from its analysis: cards, rows and costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

from graphtool.graph import UNKNOWN_DIM, Graph, Origin, Value
from graphtool.ops import statistics_of
from graphtool.rendering._labels import dims
from graphtool.rendering._partition import CardBlock, CardSection, card_sections, layers_of
from graphtool.rendering.board import BlockRow, Card, CardPart, Level, Panel, RowIndex
from graphtool.rendering.scenes import network_name
from graphtool.structure import GLOBAL, Step, Structure, block_names, layer_name
from graphtool.text import printed_name

__all__ = ["panel_of"]

_INPUTS_SHOWN = 2
# Rows whose channels grow by a constant step (DenseNet's) collapse if there are this many.
_MIN_GROWING = 3
# A card with more rows than the first is condensed into about as many as the second.
_MAX_ROWS, _CONDENSED_ROWS = 48, 20
# Kinds of block that the name of a condensed row lists.
_NAMED = 2


def panel_of(
    structure: Structure, *, role: str | None, level: Level, ranks: Mapping[str, tuple[int, ...]]
) -> Panel:
    """Build the Panel of one network.

    `ranks` are those of the pairs that end at each Operator of the top-level Block, by its name.
    """
    graph = structure.graph
    sections = card_sections(structure)
    steps_by_output = {
        block.result: block.steps for section in sections for block in section.blocks
    }
    builder = _RowBuilder(structure, level, ranks, block_names(graph, steps_by_output))
    rows = [builder.rows(section) for section in sections]
    largest = max((row.multiply_adds for card_rows in rows for row in card_rows), default=0) or 1
    has_heads = sum(section.part is CardPart.HEAD for section in sections) > 1
    cards: list[Card] = []
    head_number = 0
    for section, card_rows in zip(sections, rows, strict=True):
        head_number += section.part is CardPart.HEAD
        multiply_adds = sum(row.multiply_adds for row in card_rows)
        card = Card(
            title=_card_title(structure, section, head_number if has_heads else None),
            part=section.part,
            size=card_rows[-1].size,
            parameters=sum(row.parameters for row in card_rows),
            multiply_adds=multiply_adds,
            share=multiply_adds / (structure.multiply_adds or 1),
            rows=tuple(replace(row, bar=row.multiply_adds / largest) for row in card_rows),
        )
        cards.append(card)
    edges = _row_edges(structure, cards)
    return Panel(
        role=role,
        name=network_name(graph),
        inputs=_inputs(graph),
        unit="ch" if structure.stages else "dim",
        parameters=structure.parameters,
        multiply_adds=structure.multiply_adds,
        exact=structure.is_cost_exact,
        cards=tuple(cards),
        flows=tuple(sorted({(source.card, target.card) for source, target in edges})),
        jumps=tuple((source, target) for source, target in edges if source.card + 1 != target.card),
    )


@dataclass(slots=True)
class _RowBuilder:
    """Builds the rows of each card; a shared parameter counts for the first block that reads it."""

    structure: Structure
    level: Level
    ranks: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    counted: set[str] = field(default_factory=set[str])

    def rows(self, section: CardSection) -> tuple[BlockRow, ...]:
        """Return the rows of a card."""
        if self.level is Level.MODULE:
            return _collapsed(tuple(self._layer_rows(section)))
        is_encoder = section.part is CardPart.ENCODER
        rows = _collapsed(
            [
                self._row(block, "Layer" if is_encoder else self.names[block.result])
                for block in section.blocks
            ]
        )
        rows = _numbered(rows) if is_encoder else _condensed(rows)
        return (_summary(rows),) if self.level is Level.STAGE else rows

    def _layer_rows(self, section: CardSection) -> Iterator[BlockRow]:
        """Yield a row for each layer of each block; equal blocks without a pair inside are one."""
        blocks = [
            [
                self._row(
                    CardBlock(layer, layer[-1].result), layer_name(self.structure.graph, layer)
                )
                for layer in layers_of(block.steps)
            ]
            for block in section.blocks
        ]
        start = 0
        for stop, block in enumerate(blocks, 1):
            following = blocks[stop] if stop < len(blocks) else []
            is_equal = [_kind(row) for row in block] == [_kind(row) for row in following]
            if not is_equal or any(row.ranks for row in block):
                yield from map(_combined, zip(*blocks[start:stop], strict=True))
                start = stop

    def _row(self, block: CardBlock, name: str) -> BlockRow:
        operators = tuple(step.operator.name for step in block.steps)
        size = self.structure.channels(block.result)
        graph, costs = self.structure.graph, self.structure.costs.by_operator
        read = {name for step in block.steps for name in _parameters_read(graph, step)}
        new = read - self.counted
        self.counted |= new
        return BlockRow(
            name=name,
            factor=_scale_factor(self.structure, block),
            times=1,
            size=None if size == UNKNOWN_DIM else size,
            parameters=sum(prod(graph.values[name].shape or (0,)) for name in new),
            multiply_adds=sum(costs[name].multiply_adds for name in operators if name in costs),
            bar=0.0,
            operators=operators,
            values=(block.result,),
            ranks=tuple(sorted(rank for name in operators for rank in self.ranks.get(name, ()))),
        )


def _kind(row: BlockRow) -> tuple[str, str, int | None]:
    return row.name, row.factor, row.size


def _row_edges(
    structure: Structure, cards: Sequence[Card]
) -> tuple[tuple[RowIndex, RowIndex], ...]:
    """Return the edges between Rows of different Cards, in program order of the reader."""
    spots = {
        result: RowIndex(c, r)
        for c, card in enumerate(cards)
        for r, row in enumerate(card.rows)
        for name in row.operators
        for result in structure.graph.operators[name].results
    }
    edges = (
        (spots[name], spots[step.result])
        for step in structure.flow.steps.values()
        for name in step.data
        if name in spots and step.result in spots
    )
    return tuple(dict.fromkeys(edge for edge in edges if edge[0].card != edge[1].card))


def _parameters_read(graph: Graph, step: Step) -> Iterator[str]:
    """Yield the parameters behind a step's weights, through casts for example."""
    statistics = set(statistics_of(step.operator))
    pending = [name for name in step.weights if name not in statistics]
    seen = set(pending)
    while pending:
        name = pending.pop()
        if graph.values[name].origin is Origin.PARAMETER:
            yield name
            continue
        producer = graph.producer(name)
        for operand in reversed(producer.operands if producer is not None else ()):
            if operand is not None and operand not in seen:
                seen.add(operand)
                pending.append(operand)


def _scale_factor(structure: Structure, block: CardBlock) -> str:
    """Return the change of resolution from the first Value read from outside: `↓2`."""
    inside = {name for step in block.steps for name in step.operator.results}
    scales = structure.scales
    inputs = (name for step in block.steps for name in step.data if name not in inside)
    before = next((scales[name] for name in inputs if name in scales), None)
    after = scales.get(block.result)
    if before is None or after is None or before == after or GLOBAL in (before, after):
        return ""
    height, width = after.height / before.height, after.width / before.width
    arrow = "↓" if height * width < 1 else "↑"
    sides = [_ratio_text(max(side, 1 / side)) for side in (height, width)]
    return f"{arrow}{sides[0]}" if sides[0] == sides[1] else f"{arrow}{sides[0]}×{sides[1]}"


def _ratio_text(ratio: Fraction) -> str:
    return str(ratio.numerator) if ratio.denominator == 1 else f"{float(ratio):.2g}"


def _collapsed(rows: Sequence[BlockRow]) -> tuple[BlockRow, ...]:
    """Collapse runs of equal rows; a row where a pair ends is the last of its run.

    Rows are equal in name, factor and size. Three or more rows whose size grows by a constant step
    collapse too.
    """
    result: list[BlockRow] = []
    start = 0
    while start < len(rows):
        length = _run_length(rows, start)
        result.append(_combined(rows[start : start + length]))
        start += length
    return tuple(result)


def _run_length(rows: Sequence[BlockRow], start: int) -> int:
    end, step = start + 1, None
    while end < len(rows):
        previous, row = rows[end - 1], rows[end]
        if previous.ranks or (previous.name, previous.factor) != (row.name, row.factor):
            break
        growth = (row.size or 0) - (previous.size or 0)
        if step is not None and growth != step:
            break
        step, end = growth, end + 1
    length = end - start
    return 1 if step and length < _MIN_GROWING else length


def _combined(rows: Sequence[BlockRow]) -> BlockRow:
    """Combine rows into one: its name and size are the last row's, costs and Operators add up."""
    return replace(
        rows[-1],
        times=sum(row.times for row in rows),
        parameters=sum(row.parameters for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        operators=tuple(name for row in rows for name in row.operators),
        values=tuple(name for row in rows for name in row.values),
    )


def _numbered(rows: Sequence[BlockRow]) -> tuple[BlockRow, ...]:
    """Number the layers of an encoder from 0: `Layer 0`, `Layers 0 – 1`."""
    result: list[BlockRow] = []
    first = 0
    for row in rows:
        last = first + row.times - 1
        name = f"Layer {first}" if first == last else f"Layers {first} – {last}"
        result.append(replace(row, name=name))
        first = last + 1
    return tuple(result)


def _condensed(rows: Sequence[BlockRow]) -> tuple[BlockRow, ...]:
    """Combine neighbouring rows of a long card; a group ends at a row where a pair ends.

    A combined row is named after its two most frequent kinds of block.
    """
    if len(rows) <= _MAX_ROWS:
        return tuple(rows)
    share = -(-len(rows) // _CONDENSED_ROWS)
    result: list[BlockRow] = []
    group: list[BlockRow] = []
    for row in rows:
        group.append(row)
        if row.ranks or len(group) == share or row is rows[-1]:
            times: Counter[str] = Counter()
            for each in group:
                times[each.name.partition(" + ")[0]] += each.times
            names = [name for name, _ in times.most_common(_NAMED)]
            name = ", ".join(names) + (" …" if len(times) > _NAMED else "")
            result.append(replace(_combined(group), name=name))
            group = []
    return tuple(result)


def _summary(rows: Sequence[BlockRow]) -> BlockRow:
    """Return one row for a whole card: its most expensive kind of block, and how many it has."""
    costs: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for row in rows:
        costs[row.name] += row.multiply_adds
        times[row.name] += row.times
    name = max(costs, key=lambda name: (costs[name], times[name]))
    ranks = tuple(sorted({rank for row in rows for rank in row.ranks}))
    return replace(_combined(rows), name=name, factor="", times=times[name], ranks=ranks)


def _card_title(structure: Structure, section: CardSection, head_number: int | None) -> str:
    match section.part:
        case CardPart.STAGE:
            return _resolution(structure, section.title_value)
        case CardPart.NECK:
            return " · ".join(filter(None, ("Neck", _resolution(structure, section.title_value))))
        case CardPart.ENCODER:
            return f"Encoder{_tokens(structure, section.title_value)}"
        case CardPart.HEAD:
            return "Head" if head_number is None else f"Head {head_number}"
        case CardPart.EMBEDDINGS:
            return "Embeddings"
        case CardPart.BODY:
            return "Layers"


def _resolution(structure: Structure, value: str | None) -> str:
    """Write H × W, or the ratio to the input if H × W is unknown."""
    if value is None:
        return ""
    sides = structure.sides(value)
    if sides is not None:
        return f"{sides[0]} × {sides[1]}"
    scale = structure.scales[value]
    if scale.height == scale.width and scale.height.numerator == 1:
        return "input" if scale.height == 1 else f"input / {scale.height.denominator}"
    return f"input × {scale}"


def _tokens(structure: Structure, value: str | None) -> str:
    shape = structure.graph.values[value].shape if value is not None else None
    if shape is None or len(shape) != 3 or shape[1] == UNKNOWN_DIM:
        return ""
    return f" · {shape[1]} tokens"


def _inputs(graph: Graph) -> str:
    """Describe the feeds without the batch; name them if they differ."""
    feeds = [graph.values[name] for name in graph.feeds]
    kinds = list(dict.fromkeys(map(_feed_text, feeds)))
    if len(kinds) < 2:
        return f"input {kinds[0]}" if kinds else ""
    texts = [f"{printed_name(feed.name)} {_feed_text(feed)}" for feed in feeds]
    more = len(texts) - _INPUTS_SHOWN
    return ", ".join(texts[:_INPUTS_SHOWN]) + (f" + {more}" if more > 0 else "")


def _feed_text(value: Value) -> str:
    if value.shape is None:
        return "?"
    dtype = value.dtype or "float32"
    if len(value.shape) == 2 and value.shape[1] != 1 and dtype.startswith("int"):
        return f"{dims(value.shape[1:])} tokens"
    return " ".join((dims(value.shape[1:]) or "1", *([] if dtype == "float32" else [dtype])))
