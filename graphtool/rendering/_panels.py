"""Build a network's Panel from its analysis: cards, rows and costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from graphtool.graph import UNKNOWN_DIM, Graph, Origin, Value
from graphtool.ops import statistics_of
from graphtool.rendering._card_rows import (
    collapsed,
    combined,
    condensed,
    numbered,
    scale_factors,
    summary,
)
from graphtool.rendering._card_sections import CardBlock, CardSection, card_sections
from graphtool.rendering._layers import layers_of
from graphtool.rendering._text_metrics import dims
from graphtool.rendering.board import BlockRow, Card, CardPart, Level, Panel, RowIndex
from graphtool.rendering.names import network_name
from graphtool.structure import Step, Structure, block_names, layer_name
from graphtool.text import printed_name

__all__ = ["Ranks", "panel_of"]

# Ranks of the pairs that end at each Operator of the top-level Block, by its name.
Ranks = Mapping[str, tuple[int, ...]]
_INPUTS_SHOWN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _PanelContext:
    structure: Structure
    level: Level
    ranks: Ranks
    names: Mapping[str, str]
    costs: _CostCounter


class _CostCounter:
    """Sums the cost of blocks; a shared parameter counts for the first block that reads it."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._counted: set[str] = set()

    def parameters(self, steps: Iterable[Step]) -> int:
        """Return the number of elements of the parameters that no earlier block reads."""
        graph = self._structure.graph
        read = {name for step in steps for name in _parameters_read(graph, step)}
        new = read - self._counted
        self._counted |= new
        return sum(prod(graph.values[name].shape or (0,)) for name in new)

    def multiply_adds(self, steps: Iterable[Step]) -> int:
        """Return the multiply-adds of steps for one sample."""
        by_operator = self._structure.costs.by_operator
        costs = (by_operator.get(step.operator.name) for step in steps)
        return sum(cost.multiply_adds for cost in costs if cost is not None)


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


def panel_of(structure: Structure, *, role: str | None, level: Level, ranks: Ranks) -> Panel:
    """Build the Panel of one network."""
    graph = structure.graph
    sections = card_sections(structure)
    steps_by_output = {
        block.result: block.steps for section in sections for block in section.blocks
    }
    context = _PanelContext(
        structure=structure,
        level=level,
        ranks=ranks,
        names=block_names(graph, steps_by_output),
        costs=_CostCounter(structure),
    )
    rows = [_rows(context, section) for section in sections]
    titles = _card_titles(structure, sections)
    largest = max((row.multiply_adds for card_rows in rows for row in card_rows), default=0) or 1
    cards = tuple(
        _card(
            structure,
            section,
            title,
            [replace(row, bar=row.multiply_adds / largest) for row in card_rows],
        )
        for section, title, card_rows in zip(sections, titles, rows, strict=True)
    )
    edges = _row_edges(structure, cards)
    return Panel(
        role=role,
        name=network_name(graph),
        source=graph.source,
        inputs=_inputs(graph),
        unit="ch" if structure.stages else "dim",
        parameters=structure.parameters,
        multiply_adds=structure.multiply_adds,
        exact=structure.is_cost_exact,
        cards=cards,
        flows=tuple(sorted({(source.card, target.card) for source, target in edges})),
        jumps=tuple((source, target) for source, target in edges if source.card + 1 != target.card),
    )


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


def _card(structure: Structure, section: CardSection, title: str, rows: Sequence[BlockRow]) -> Card:
    multiply_adds = sum(row.multiply_adds for row in rows)
    return Card(
        title=title,
        part=section.part,
        size=rows[-1].size,
        parameters=sum(row.parameters for row in rows),
        multiply_adds=multiply_adds,
        share=multiply_adds / (structure.multiply_adds or 1),
        rows=tuple(rows),
    )


def _rows(context: _PanelContext, section: CardSection) -> tuple[BlockRow, ...]:
    if context.level is Level.MODULE:
        return collapsed(tuple(_layer_rows(context, section)))
    factors = scale_factors(context.structure, section.blocks)
    is_encoder = section.part is CardPart.ENCODER
    block_rows = [
        _row(
            context,
            block,
            "Layer" if is_encoder else context.names[block.result],
            factors[block.result],
        )
        for block in section.blocks
    ]
    rows = numbered(collapsed(block_rows)) if is_encoder else condensed(collapsed(block_rows))
    return (summary(rows),) if context.level is Level.STAGE else rows


def _layer_rows(context: _PanelContext, section: CardSection) -> Iterator[BlockRow]:
    """Yield a row for each layer of each block, collapsing runs of equal blocks."""
    blocks = [
        tuple(
            _layer_row(context, CardBlock(layer, layer[-1].result))
            for layer in layers_of(block.steps)
        )
        for block in section.blocks
    ]
    start = 0
    while start < len(blocks):
        stop = start + 1
        while stop < len(blocks) and _collapses(blocks[stop - 1], blocks[stop]):
            stop += 1
        yield from map(combined, zip(*blocks[start:stop], strict=True))
        start = stop


def _collapses(block: Sequence[BlockRow], following: Sequence[BlockRow]) -> bool:
    """Return whether the following block has the same layers, and no pair ends in this one."""
    layers, following_layers = (
        [(row.name, row.factor, row.size) for row in rows] for rows in (block, following)
    )
    return layers == following_layers and not any(row.ranks for row in block)


def _layer_row(context: _PanelContext, layer: CardBlock) -> BlockRow:
    factor = scale_factors(context.structure, (layer,))[layer.result]
    return _row(context, layer, layer_name(context.structure.graph, layer.steps), factor)


def _row(context: _PanelContext, block: CardBlock, name: str, factor: str) -> BlockRow:
    operators = tuple(step.operator.name for step in block.steps)
    size = context.structure.channels(block.result)
    return BlockRow(
        name=name,
        factor=factor,
        times=1,
        size=None if size == UNKNOWN_DIM else size,
        parameters=context.costs.parameters(block.steps),
        multiply_adds=context.costs.multiply_adds(block.steps),
        bar=0.0,
        operators=operators,
        values=(block.result,),
        ranks=tuple(sorted(rank for name in operators for rank in context.ranks.get(name, ()))),
    )


def _card_titles(structure: Structure, sections: Sequence[CardSection]) -> list[str]:
    head_count = sum(section.part is CardPart.HEAD for section in sections)
    head_number = 0
    titles: list[str] = []
    for section in sections:
        head_number += section.part is CardPart.HEAD
        titles.append(_card_title(structure, section, head_number if head_count > 1 else None))
    return titles


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
