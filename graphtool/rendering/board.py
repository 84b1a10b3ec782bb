"""The model of a picture of cards, which DOT and HTML are drawn from.

A Board holds one Panel per network, the teacher first. A Panel holds Cards from input to output. A
Card is a stage, the embeddings, an encoder, a neck or a head, and holds Rows. A Row is a block, or
`times` equal consecutive blocks. It lists its Operators and the outputs of its blocks, so that a
view can expand it.

Alignment: `bands` run from top to bottom. A Band has at most one Card of each Panel (`cards[p]` is
an index into `panels[p].cards`, or None) and Lines. A Line has at most one Row of each of these
Cards (`rows[p]`, an index into `card.rows`, or None for a blank). A Card's title is drawn directly
above its first Row: blanks before that Row are above the Card, blanks after its last Row below it.
The two Rows of a pair share a Line wherever the order of pairs allows it.

Pairs are Tags on Links between two Spots; `line.links` are the Links whose pill is drawn in that
Line, between the Panels. All pairs of the same two Rows share one Link.

Diagnostics of a Report are Marks at the Rows they concern. Like Links, each belongs to a Line.

Everything is frozen, in program order and deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from graphtool.diagnostics import Severity

__all__ = [
    "Band",
    "BlockRow",
    "Board",
    "Card",
    "CardPart",
    "Level",
    "Line",
    "Link",
    "Mark",
    "Panel",
    "RowIndex",
    "Tag",
]


class Level(str, Enum):
    """What one box shows, from coarse to fine."""

    STAGE = "stage"
    BLOCK = "block"
    MODULE = "module"
    OP = "op"


class CardPart(Enum):
    """The part of a network that a Card shows."""

    STAGE = "stage"
    EMBEDDINGS = "embeddings"
    ENCODER = "encoder"
    NECK = "neck"
    HEAD = "head"
    BODY = "body"

    @property
    def has_resolution(self) -> bool:
        """Return whether a network has one such part per resolution."""
        return self in (CardPart.STAGE, CardPart.NECK)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """A block, or `times` equal consecutive blocks.

    `factor` is the change of resolution (`↓2`), empty if there is none. `size` is the channels or
    width of the output, None if unknown. `parameters` counts elements, `multiply_adds` is for one
    sample, and `bar` is its ratio to the largest Row of the Panel. `operators` are names in program
    order, `values` the output of each block. `ranks` are those of the pairs that end here,
    `severity` is that of the worst diagnostic here.
    """

    name: str
    factor: str
    times: int
    size: int | None
    parameters: int
    multiply_adds: int
    bar: float
    operators: tuple[str, ...]
    values: tuple[str, ...]
    ranks: tuple[int, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A part of a network with its totals; `share` is its share of the Panel's multiply-adds."""

    title: str
    part: CardPart
    size: int | None
    parameters: int
    multiply_adds: int
    share: float
    rows: tuple[BlockRow, ...]


@dataclass(frozen=True, slots=True, order=True)
class RowIndex:
    """A Row of a Panel, by the indices of its Card and of the Row."""

    card: int
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One network; `role` is `teacher` or `student`, None if it is drawn alone.

    `inputs` describes its feeds, `state` its state after the merge (`frozen`, `trained`), `unit`
    what `size` counts (`ch` or `dim`). `exact` is False if an unknown dim was given a nominal size,
    or an Operator could not be counted. `flows` are edges between Cards: pairs of indices, source
    first. `jumps` are edges between Rows that skip Cards or go back up, source first.
    """

    role: str | None
    name: str
    inputs: str
    unit: str
    parameters: int
    multiply_adds: int
    exact: bool
    cards: tuple[Card, ...]
    state: str = ""
    flows: tuple[tuple[int, int], ...] = ()
    jumps: tuple[tuple[RowIndex, RowIndex], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """The text of a pill for one pair, or for several with the same text.

    `text` compares the two sizes (`256 ← 24`, `768 = 768`). `adapter` abbreviates the student's
    adapter, empty if it needs none; for a merge, the loss comes first.
    """

    ranks: tuple[int, ...]
    text: str
    adapter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """All pairs of the same two Rows."""

    tags: tuple[Tag, ...]
    teacher: RowIndex
    student: RowIndex

    @property
    def ranks(self) -> tuple[int, ...]:
        """Return the ranks of all its pairs, sorted."""
        return tuple(sorted(rank for tag in self.tags for rank in tag.ranks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A diagnostic; `spots` has the Row that it concerns in each Panel, or None."""

    code: str
    slug: str
    severity: Severity
    message: str
    count: int
    spots: tuple[RowIndex | None, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A Row of each Panel (or None) side by side, with the Links and Marks drawn between them."""

    rows: tuple[int | None, ...]
    links: tuple[int, ...] = ()
    marks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """Cards side by side, at most one per Panel, and their Lines."""

    cards: tuple[int | None, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One network, or two with their pairs.

    `headline` is a summary in two lines; for a Report, `worst` is its highest severity.
    `notes` list what the picture leaves out.
    """

    level: Level
    panels: tuple[Panel, ...]
    bands: tuple[Band, ...]
    links: tuple[Link, ...] = ()
    marks: tuple[Mark, ...] = ()
    headline: tuple[str, str] = ("", "")
    worst: Severity | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Return the number of Rows of all Panels."""
        return sum(len(card.rows) for panel in self.panels for card in panel.cards)
