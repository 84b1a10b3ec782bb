"""From the analysis of a network to its Panel: cards, rows and sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphtool.graph import UNKNOWN, Graph, Value
from graphtool.rendering._layers import layers_of
from graphtool.rendering._rows import factors_of, folded, merged, numbered, sum_of, summary
from graphtool.rendering._sums import Sums
from graphtool.rendering._text import dims
from graphtool.rendering._units import Section, Unit, sections_of
from graphtool.rendering.board import Card, Level, Panel, Part, Row, Spot
from graphtool.rendering.names import network_name
from graphtool.structure import Structure, block_names, layer_name
from graphtool.text import named

__all__ = ["Ranks", "panel_of"]

# Ranks of the pairs that end at an Operator of the top-level Block, by its name.
Ranks = Mapping[str, tuple[int, ...]]
_INPUTS_SHOWN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    structure: Structure
    level: Level
    ranks: Ranks
    names: Mapping[str, str]
    sums: Sums


def panel_of(structure: Structure, *, role: str | None, level: Level, ranks: Ranks) -> Panel:
    """Make the Panel of one network."""
    graph = structure.graph
    sections = sections_of(structure)
    blocks = {unit.result: unit.steps for section in sections for unit in section.units}
    drawing = _Drawing(
        structure=structure,
        level=level,
        ranks=ranks,
        names=block_names(graph, blocks),
        sums=Sums(structure),
    )
    rows = [_rows(drawing, section) for section in sections]
    titles = _titles(structure, sections)
    most = max((row.multiply_adds for held in rows for row in held), default=0) or 1
    cards = tuple(
        _card(structure, section, title, [_with_bar(row, most) for row in held])
        for section, title, held in zip(sections, titles, rows, strict=True)
    )
    reads = _reads(structure, cards)
    return Panel(
        role=role,
        name=network_name(graph),
        source=graph.source,
        inputs=_inputs(graph),
        unit="ch" if structure.stages else "dim",
        parameters=structure.parameters,
        multiply_adds=structure.multiply_adds,
        exact=structure.exact,
        cards=cards,
        flows=tuple(sorted({(source.card, target.card) for source, target in reads})),
        jumps=tuple(read for read in reads if read[0].card + 1 != read[1].card),
    )


def _reads(structure: Structure, cards: Sequence[Card]) -> tuple[tuple[Spot, Spot], ...]:
    """Return which Row reads from which of another Card, in program order of the reader."""
    homes = {
        result: Spot(c, r)
        for c, card in enumerate(cards)
        for r, row in enumerate(card.rows)
        for name in row.operators
        for result in structure.graph.operators[name].results
    }
    found = (
        (homes[name], homes[step.result])
        for step in structure.flow.steps.values()
        for name in step.data
        if name in homes and step.result in homes
    )
    return tuple(dict.fromkeys(reads for reads in found if reads[0].card != reads[1].card))


def _with_bar(row: Row, most: int) -> Row:
    return replace(row, bar=row.multiply_adds / most)


def _card(structure: Structure, section: Section, title: str, rows: Sequence[Row]) -> Card:
    spent = sum(row.multiply_adds for row in rows)
    return Card(
        title=title,
        part=section.part,
        size=rows[-1].size,
        parameters=sum(row.parameters for row in rows),
        multiply_adds=spent,
        share=spent / (structure.multiply_adds or 1),
        rows=tuple(rows),
    )


def _rows(drawing: _Drawing, section: Section) -> tuple[Row, ...]:
    if drawing.level is Level.MODULE:
        return merged(tuple(_layers(drawing, section)))
    factors = factors_of(drawing.structure, section.units)
    is_encoder = section.part is Part.ENCODER
    blocks = [
        _row(
            drawing,
            unit,
            "Layer" if is_encoder else drawing.names[unit.result],
            factors[unit.result],
        )
        for unit in section.units
    ]
    rows = numbered(merged(blocks)) if is_encoder else folded(merged(blocks))
    return (summary(rows),) if drawing.level is Level.STAGE else rows


def _layers(drawing: _Drawing, section: Section) -> Iterator[Row]:
    """Yield the layers of each block; those of equal blocks that follow each other once."""
    blocks = [
        tuple(_layer(drawing, Unit(layer, layer[-1].result)) for layer in layers_of(unit.steps))
        for unit in section.units
    ]
    start = 0
    while start < len(blocks):
        stop = start + 1
        while stop < len(blocks) and _continues(blocks[stop - 1], blocks[stop]):
            stop += 1
        yield from map(sum_of, zip(*blocks[start:stop], strict=True))
        start = stop


def _continues(block: Sequence[Row], following: Sequence[Row]) -> bool:
    """Tell whether a block has the layers of the one before, in which no pair ends."""
    said, other = (
        [(row.name, row.factor, row.size) for row in rows] for rows in (block, following)
    )
    return said == other and not any(row.ranks for row in block)


def _layer(drawing: _Drawing, unit: Unit) -> Row:
    factor = factors_of(drawing.structure, (unit,))[unit.result]
    return _row(drawing, unit, layer_name(drawing.structure.graph, unit.steps), factor)


def _row(drawing: _Drawing, unit: Unit, name: str, factor: str) -> Row:
    operators = tuple(step.operator.name for step in unit.steps)
    size = drawing.structure.channels(unit.result)
    return Row(
        name=name,
        factor=factor,
        times=1,
        size=None if size == UNKNOWN else size,
        parameters=drawing.sums.parameters(unit.steps),
        multiply_adds=drawing.sums.multiply_adds(unit.steps),
        bar=0.0,
        operators=operators,
        values=(unit.result,),
        ranks=tuple(sorted(rank for name in operators for rank in drawing.ranks.get(name, ()))),
    )


def _titles(structure: Structure, sections: Sequence[Section]) -> list[str]:
    heads = sum(section.part is Part.HEAD for section in sections)
    number = 0
    titles: list[str] = []
    for section in sections:
        number += section.part is Part.HEAD
        titles.append(_title(structure, section, number if heads > 1 else None))
    return titles


def _title(structure: Structure, section: Section, number: int | None) -> str:
    match section.part:
        case Part.STAGE:
            return _resolution(structure, section.place)
        case Part.NECK:
            return " · ".join(filter(None, ("Neck", _resolution(structure, section.place))))
        case Part.ENCODER:
            return f"Encoder{_tokens(structure, section.place)}"
        case Part.HEAD:
            return "Head" if number is None else f"Head {number}"
        case Part.EMBEDDINGS:
            return "Embeddings"
        case Part.BODY:
            return "Layers"


def _resolution(structure: Structure, place: str | None) -> str:
    """Write H × W, or how it compares to the input where that is not known."""
    if place is None:
        return ""
    sides = structure.sides(place)
    if sides is not None:
        return f"{sides[0]} × {sides[1]}"
    scale = structure.scales[place]
    if scale.height == scale.width and scale.height.numerator == 1:
        return "input" if scale.height == 1 else f"input / {scale.height.denominator}"
    return f"input × {scale}"


def _tokens(structure: Structure, place: str | None) -> str:
    shape = structure.graph.values[place].shape if place is not None else None
    if shape is None or len(shape) != 3 or shape[1] == UNKNOWN:
        return ""
    return f" · {shape[1]} tokens"


def _inputs(graph: Graph) -> str:
    """Say what a network is fed, the batch left out; feeds that differ are named."""
    feeds = [graph.values[name] for name in graph.feeds]
    kinds = list(dict.fromkeys(map(_input, feeds)))
    if len(kinds) < 2:
        return f"input {kinds[0]}" if kinds else ""
    texts = [f"{named(feed.name)} {_input(feed)}" for feed in feeds]
    more = len(texts) - _INPUTS_SHOWN
    return ", ".join(texts[:_INPUTS_SHOWN]) + (f" + {more}" if more > 0 else "")


def _input(value: Value) -> str:
    if value.shape is None:
        return "?"
    dtype = value.dtype or "float32"
    if len(value.shape) == 2 and value.shape[1] != 1 and dtype.startswith("int"):
        return f"{dims(value.shape[1:])} tokens"
    return " ".join((dims(value.shape[1:]) or "1", *([] if dtype == "float32" else [dtype])))
