"""Pairs as Links between rows: where they end, and what the pill says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphtool.graph import UNKNOWN, Graph, Operator
from graphtool.matching import End, Kind, Pair, PairSet, Relation
from graphtool.rendering._panels import Ranks
from graphtool.rendering._text import dims
from graphtool.rendering.board import Link, Panel, Spot, Tag
from graphtool.structure import Structure

__all__ = ["Sides", "links_of", "outermost", "ranks_of", "spots_of"]

# More than these on the same two rows would make the gutter wider than a card.
_TAGS = 2


@dataclass(frozen=True, slots=True)
class Sides:
    """The analyses of both networks."""

    teacher: Structure
    student: Structure


def ranks_of(graph: Graph, ends: Iterable[tuple[int, End]]) -> Ranks:
    """Return which pairs end at which Operator of the top-level Block."""
    found: dict[str, tuple[int, ...]] = {}
    for rank, end in ends:
        operator = _maker(graph, end.name)
        if operator is not None:
            found[operator] = (*found.get(operator, ()), rank)
    return found


def _maker(graph: Graph, value: str) -> str | None:
    """Return the Operator of the top-level Block that makes a Value, or holds what does."""
    producer = graph.producer(value)
    return None if producer is None else outermost(graph, producer).name


def outermost(graph: Graph, operator: Operator) -> Operator:
    """Return the Operator of the top-level Block that an Operator is, or lies in."""
    while operator.block:
        owner = graph.blocks[operator.block].owner
        assert owner is not None
        operator = graph.operators[owner]
    return operator


def links_of(
    pairs: PairSet, sides: Sides, panels: tuple[Panel, Panel], *, losses: bool
) -> tuple[Link, ...]:
    """Return the Links, in order of rank; pairs that end in no row have none.

    With `losses`, pills say by which loss two Values are compared.
    """
    spots = spots_of(panels[0]), spots_of(panels[1])
    joined: dict[tuple[Spot, Spot], list[Pair]] = {}
    for pair in pairs:
        ends = (
            spots[0].get(_maker(pairs.teacher, pair.teacher.name) or ""),
            spots[1].get(_maker(pairs.student, pair.student.name) or ""),
        )
        if ends[0] is not None and ends[1] is not None:
            joined.setdefault((ends[0], ends[1]), []).append(pair)
    found = [
        Link(tags=_tags(held, sides, losses=losses), teacher=ends[0], student=ends[1])
        for ends, held in joined.items()
    ]
    return tuple(sorted(found, key=lambda link: link.ranks))


def spots_of(panel: Panel) -> Mapping[str, Spot]:
    """Return the row of each Operator."""
    return {
        name: Spot(c, r)
        for c, card in enumerate(panel.cards)
        for r, row in enumerate(card.rows)
        for name in row.operators
    }


def _tags(pairs: Sequence[Pair], sides: Sides, *, losses: bool) -> tuple[Tag, ...]:
    """Say what there is to say once; where that is too much for a line, how many pairs it is."""
    alike: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        said = ", ".join(filter(None, (_loss(pair) if losses else "", _adapter(pair))))
        alike.setdefault((_text(pair, sides), said), []).append(pair)
    tags = [_tag(held, text, adapter) for (text, adapter), held in alike.items()]
    if len(tags) > _TAGS:
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


def _text(pair: Pair, sides: Sides) -> str:
    """Compare what differs: channels, H × W, lengths, heads; else what both have."""
    teacher = _size(pair, sides.teacher, pair.teacher)
    student = _size(pair, sides.student, pair.student)
    noun = " heads" if pair.kind is Kind.ATTENTION else ""
    return f"{teacher} {_SIGNS.get(pair.relation, '←')} {student}{noun}"


_SIGNS = {Relation.EQUAL: "=", Relation.UNKNOWN: "?"}
_PLACES = frozenset({Relation.SPATIAL, Relation.CHANNELS_SPATIAL})
_LENGTHS = frozenset({Relation.SEQUENCE, Relation.TOKENS})


def _size(pair: Pair, structure: Structure, end: End) -> str:
    if pair.kind is Kind.ATTENTION:
        return _known(end.shape[1] if end.shape is not None and len(end.shape) > 1 else UNKNOWN)
    channels = _known(structure.channels(end.name))
    if pair.relation in _LENGTHS and end.shape is not None:
        return dims(end.shape[1:])
    if pair.relation not in _PLACES:
        return channels
    places = structure.sides(end.name)
    where = str(structure.scales.get(end.name, "?")) if places is None else dims(places)
    return where if pair.relation is Relation.SPATIAL else f"{channels}, {where}"


def _known(dim: int) -> str:
    return "?" if dim == UNKNOWN else str(dim)


def _adapter(pair: Pair) -> str:
    """Say in short what the student's side needs: `conv 1×1`, `linear`, `resize`."""
    parts = [part.partition("(")[0] for part in (pair.adapter or "").split("+")]
    return " + ".join(_ADAPTERS.get(part, part) for part in parts)


_ADAPTERS = {"conv1x1": "conv 1×1"}


def _loss(pair: Pair) -> str:
    return pair.loss if pair.weight == 1 else f"{pair.weight:g} × {pair.loss}"
