"""Turn pairs into Links: the rows they end at, and the text of their pills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphtool.both import Both
from graphtool.graph import UNKNOWN_DIM, Graph, Operator
from graphtool.matching import End, Kind, Pair, PairSet, Relation
from graphtool.rendering._panels import Ranks
from graphtool.rendering._text_metrics import dims
from graphtool.rendering.board import Link, Panel, RowIndex, Tag
from graphtool.structure import Structure

__all__ = ["links_of", "outermost", "ranks_of", "spots_of"]

# More tags between the same two rows would make the pair column wider than a card.
_MAX_TAGS = 2
# Symbols between two sizes.
_SIGNS = {Relation.EQUAL: "=", Relation.UNKNOWN: "?"}
# Relations whose text has height and width, or the sequence length.
_SPATIAL = frozenset({Relation.SPATIAL, Relation.CHANNELS_SPATIAL})
_SEQUENTIAL = frozenset({Relation.SEQUENCE, Relation.TOKENS})
_ADAPTER_NAMES = {"conv1x1": "conv 1×1"}


def ranks_of(graph: Graph, ends: Iterable[tuple[int, End]]) -> Ranks:
    """Return the ranks of the pairs that end at each Operator of the top-level Block."""
    ranks: dict[str, tuple[int, ...]] = {}
    for rank, end in ends:
        operator = _top_level_producer(graph, end.name)
        if operator is not None:
            ranks[operator] = (*ranks.get(operator, ()), rank)
    return ranks


def _top_level_producer(graph: Graph, value: str) -> str | None:
    """Return the Operator of the top-level Block that produces a Value or contains its producer."""
    producer = graph.producer(value)
    return None if producer is None else outermost(graph, producer).name


def outermost(graph: Graph, operator: Operator) -> Operator:
    """Return the Operator of the top-level Block that an Operator is or lies in."""
    while operator.block:
        owner = graph.blocks[operator.block].owner
        assert owner is not None
        operator = graph.operators[owner]
    return operator


def links_of(
    pairs: PairSet, structures: Both[Structure], panels: Both[Panel], *, show_losses: bool
) -> tuple[Link, ...]:
    """Return the Links in order of rank; pairs without a row at both ends have none."""
    spots = panels.map(spots_of)
    pairs_by_spots: dict[tuple[RowIndex, RowIndex], list[Pair]] = {}
    for pair in pairs:
        teacher = spots.teacher.get(_top_level_producer(pairs.teacher, pair.teacher.name) or "")
        student = spots.student.get(_top_level_producer(pairs.student, pair.student.name) or "")
        if teacher is not None and student is not None:
            pairs_by_spots.setdefault((teacher, student), []).append(pair)
    links = [
        Link(
            tags=_tags(group, structures, show_losses=show_losses), teacher=teacher, student=student
        )
        for (teacher, student), group in pairs_by_spots.items()
    ]
    return tuple(sorted(links, key=lambda link: link.ranks))


def spots_of(panel: Panel) -> Mapping[str, RowIndex]:
    """Return the Spot of each Operator of a Panel."""
    return {
        name: RowIndex(c, r)
        for c, card in enumerate(panel.cards)
        for r, row in enumerate(card.rows)
        for name in row.operators
    }


def _tags(
    pairs: Sequence[Pair], structures: Both[Structure], *, show_losses: bool
) -> tuple[Tag, ...]:
    """Return a tag for each distinct text; if they don't fit on a line, one that counts pairs."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        loss = _loss(pair) if show_losses else ""
        adapter = ", ".join(filter(None, (loss, _adapter(pair))))
        groups.setdefault((_text(pair, structures), adapter), []).append(pair)
    tags = [_tag(group, text, adapter) for (text, adapter), group in groups.items()]
    if len(tags) > _MAX_TAGS:
        return (_tag(pairs, f"{len(pairs)} pairs", ""),)
    return tuple(sorted(tags, key=lambda tag: tag.ranks))


def _tag(pairs: Sequence[Pair], text: str, adapter: str) -> Tag:
    return Tag(
        ranks=tuple(sorted(pair.rank for pair in pairs)),
        text=text,
        adapter=adapter,
        kind=pairs[0].kind,
        relation=pairs[0].relation,
    )


def _text(pair: Pair, structures: Both[Structure]) -> str:
    """Compare the sizes that differ: channels, H × W, lengths or heads."""
    teacher = _size(pair, structures.teacher, pair.teacher)
    student = _size(pair, structures.student, pair.student)
    unit = " heads" if pair.kind is Kind.ATTENTION else ""
    return f"{teacher} {_SIGNS.get(pair.relation, '←')} {student}{unit}"


def _size(pair: Pair, structure: Structure, end: End) -> str:
    if pair.kind is Kind.ATTENTION:
        return _dim(end.shape[1] if end.shape is not None and len(end.shape) > 1 else UNKNOWN_DIM)
    channels = _dim(structure.channels(end.name))
    if pair.relation in _SEQUENTIAL and end.shape is not None:
        return dims(end.shape[1:])
    if pair.relation not in _SPATIAL:
        return channels
    height_width = structure.sides(end.name)
    resolution = (
        str(structure.scales.get(end.name, "?")) if height_width is None else dims(height_width)
    )
    return resolution if pair.relation is Relation.SPATIAL else f"{channels}, {resolution}"


def _dim(dim: int) -> str:
    return "?" if dim == UNKNOWN_DIM else str(dim)


def _adapter(pair: Pair) -> str:
    """Abbreviate the student's adapter: `conv 1×1`, `linear`, `resize`."""
    parts = [part.partition("(")[0] for part in (pair.adapter or "").split("+")]
    return " + ".join(_ADAPTER_NAMES.get(part, part) for part in parts)


def _loss(pair: Pair) -> str:
    return pair.loss if pair.weight == 1 else f"{pair.weight:g} × {pair.loss}"
