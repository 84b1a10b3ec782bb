"""Build a network's Panel from its analysis: cards, rows and costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from types import MappingProxyType
from typing import TypeAlias

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
# Builds the row of a block, or of a layer, with a name.
_Rower: TypeAlias = "Callable[[CardBlock, str], BlockRow]"


def panel_of(
    structure: Structure,
    *,
    role: str | None,
    level: Level,
    ranks: Mapping[str, Sequence[int]] = MappingProxyType({}),
    state: str = "",
) -> Panel:
    """Build the Panel of one network.

    `ranks` are those of the pairs that end at each Operator of the top-level Block, by its name.
    """
    graph, total = structure.graph, structure.multiply_adds
    sections = card_sections(structure)
    blocks = [block for section in sections for block in section.blocks]
    names = block_names(graph, {block.result: block.steps for block in blocks})
    # A shared parameter counts for the first block that reads it.
    row = partial(_row, structure, ranks, set[str]())
    rows = [_rows(section, level, row, names, graph) for section in sections]
    largest = max((row.multiply_adds for card_rows in rows for row in card_rows), default=0) or 1
    heads = sum(section.part is CardPart.HEAD for section in sections)
    cards: list[Card] = []
    for section, card_rows in zip(sections, rows, strict=True):
        number = 1 + sum(card.part is CardPart.HEAD for card in cards)
        multiply_adds = sum(row.multiply_adds for row in card_rows)
        card = Card(
            title=_card_title(structure, section, f" {number}" if heads > 1 else ""),
            part=section.part,
            size=card_rows[-1].size,
            parameters=sum(row.parameters for row in card_rows),
            multiply_adds=multiply_adds,
            share=multiply_adds / (total or 1),
            rows=tuple(replace(row, bar=row.multiply_adds / largest) for row in card_rows),
        )
        cards.append(card)
    panel = Panel(
        role=role,
        name=network_name(graph),
        inputs=_inputs(graph),
        unit="ch" if structure.stages else "dim",
        parameters=structure.parameters,
        multiply_adds=total,
        exact=structure.is_cost_exact,
        cards=tuple(cards),
        state=state,
    )
    edges = _row_edges(structure, panel)
    return replace(
        panel,
        flows=tuple(sorted({(source.card, target.card) for source, target in edges})),
        jumps=tuple((source, target) for source, target in edges if source.card + 1 != target.card),
    )


def _rows(
    section: CardSection, level: Level, row: _Rower, names: Mapping[str, str], graph: Graph
) -> Sequence[BlockRow]:
    """Return the rows of a card."""
    if level is Level.MODULE:
        return _collapsed([*_layer_rows(section, row, graph)])
    is_encoder = section.part is CardPart.ENCODER
    rows = _collapsed(
        [row(block, "Layer" if is_encoder else names[block.result]) for block in section.blocks]
    )
    rows = _numbered(rows) if is_encoder else _condensed(rows)
    return (_summary(rows),) if level is Level.STAGE else rows


def _layer_rows(section: CardSection, row: _Rower, graph: Graph) -> Iterator[BlockRow]:
    """Yield a row for each layer of each block; equal blocks without a pair inside are one."""
    blocks = [
        [
            row(CardBlock(layer, layer[-1].result), layer_name(graph, layer))
            for layer in layers_of(block.steps)
        ]
        for block in section.blocks
    ]
    kinds = [[(row.name, row.factor, row.size) for row in block] for block in blocks]
    start = 0
    for stop, block in enumerate(blocks, 1):
        if kinds[stop : stop + 1] != [kinds[start]] or any(row.ranks for row in block):
            yield from map(_combined, zip(*blocks[start:stop], strict=True))
            start = stop


def _row(
    structure: Structure,
    ranks: Mapping[str, Sequence[int]],
    counted: set[str],
    block: CardBlock,
    name: str,
) -> BlockRow:
    graph, costs = structure.graph, structure.costs.by_operator
    operators = tuple(step.operator.name for step in block.steps)
    size = structure.channels(block.result)
    new = {name for step in block.steps for name in _parameters_read(graph, step)} - counted
    counted |= new
    return BlockRow(
        name=name,
        factor=_scale_factor(structure, block),
        size=None if size == UNKNOWN_DIM else size,
        parameters=sum(prod(graph.values[name].shape or (0,)) for name in new),
        multiply_adds=sum(costs[name].multiply_adds for name in operators if name in costs),
        blocks=(operators,),
        values=(block.result,),
        ranks=tuple(sorted(rank for name in operators for rank in ranks.get(name, ()))),
    )


def _row_edges(structure: Structure, panel: Panel) -> Sequence[tuple[RowIndex, RowIndex]]:
    """Return the edges between Rows of different Cards, in program order of the reader."""
    rows, maker = panel.spots, structure.flow.maker
    edges = (
        (rows[maker[name].operator.name], rows[step.operator.name])
        for step in structure.flow.steps.values()
        for name in step.data
        if step.operator.name in rows and name in maker and maker[name].operator.name in rows
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
    """Return the change of resolution from the first Value read from outside: `↓2`, `↑2×1`."""
    inside = {name for step in block.steps for name in step.operator.results}
    scales = structure.scales
    inputs = (name for step in block.steps for name in step.data if name not in inside)
    before = next((scales[name] for name in inputs if name in scales), None)
    after = scales.get(block.result)
    if before is None or after is None or before == after or GLOBAL in (before, after):
        return ""
    height, width = after.height / before.height, after.width / before.width
    sides = (f"{float(max(side, 1 / side)):.3g}" for side in (height, width))
    return f"{'↓' if height * width < 1 else '↑'}{'×'.join(dict.fromkeys(sides))}"


def _collapsed(rows: Sequence[BlockRow]) -> Sequence[BlockRow]:
    """Collapse runs of equal rows; a row where a pair ends is the last of its run.

    Rows are equal in name, factor and size. Three or more rows whose size grows by a constant step
    collapse too.
    """
    result: list[BlockRow] = []
    start = 0
    while start < len(rows):
        end, step = start + 1, None
        while end < len(rows):
            previous, row = rows[end - 1], rows[end]
            growth = (row.size or 0) - (previous.size or 0)
            is_alike = (previous.name, previous.factor) == (row.name, row.factor)
            if previous.ranks or not is_alike or step not in (None, growth):
                break
            step, end = growth, end + 1
        if step and end - start < _MIN_GROWING:
            end = start + 1
        result.append(_combined(rows[start:end]))
        start = end
    return result


def _combined(rows: Sequence[BlockRow]) -> BlockRow:
    """Combine rows into one: its name and size are the last row's, costs and blocks add up."""
    return replace(
        rows[-1],
        times=sum(row.times for row in rows),
        parameters=sum(row.parameters for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        blocks=tuple(block for row in rows for block in row.blocks),
        values=tuple(name for row in rows for name in row.values),
    )


def _numbered(rows: Sequence[BlockRow]) -> Sequence[BlockRow]:
    """Number the layers of an encoder from 0: `Layer 0`, `Layers 0 – 1`."""
    result: list[BlockRow] = []
    first = 0
    for row in rows:
        last = first + row.times - 1
        name = f"Layer {first}" if first == last else f"Layers {first} – {last}"
        result.append(replace(row, name=name))
        first = last + 1
    return result


def _condensed(rows: Sequence[BlockRow]) -> Sequence[BlockRow]:
    """Combine neighbouring rows of a long card; a group ends at a row where a pair ends.

    A combined row is named after its two most frequent kinds of block.
    """
    if len(rows) <= _MAX_ROWS:
        return rows
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
    return result


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


def _card_title(structure: Structure, section: CardSection, head_number: str) -> str:
    name = section.part.value.capitalize()
    match section.part:
        case CardPart.STAGE:
            return _resolution(structure, section.title_value)
        case CardPart.NECK:
            return " · ".join(filter(None, (name, _resolution(structure, section.title_value))))
        case CardPart.ENCODER:
            return f"{name}{_tokens(structure, section.title_value)}"
        case CardPart.HEAD:
            return f"{name}{head_number}"
        case _:
            return name


def _resolution(structure: Structure, value: str | None) -> str:
    """Write H × W, or the ratio to the input if H × W is unknown."""
    if value is None:
        return ""
    sides, scale = structure.sides(value), structure.scales.get(value, GLOBAL)
    if sides is not None:
        return dims(sides)
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
