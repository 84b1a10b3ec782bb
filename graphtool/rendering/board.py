"""The model of a picture of cards, free of DOT: what the DOT, and any other view, is drawn from.

A Board holds one Panel per network, the teacher first. A Panel holds Cards from input to output; a
Card is a stage, the embeddings, an encoder, a neck or a head, and holds Rows; a Row is a block, or
`times` equal ones that follow each other. Rows know the Operators they stand for and the Values
they hand on, so that a view can open them.

What is beside what: `bands` go from top to bottom. A Band has at most one Card of each Panel
(`cards[p]` is an index into `panels[p].cards`, or None), and Lines. A Line has at most one Row of
each of these Cards (`rows[p]`, an index into `card.rows`, or None for a blank). A Card's title
stands directly above its first Row, so blanks before that are above the Card, blanks behind its
last Row below it. The two Rows of a pair stand in one Line wherever the order of pairs allows it.

Pairs are Tags on Links between two Spots; `line.links` are the Links whose pill stands in that
Line, between the Panels. All pairs that join the same two Rows are on one Link.

Findings of a Report are Marks, at the Rows that they speak of; like Links, they stand in a Line.

Everything is frozen, in program order, and the same for the same input.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from graphtool.diagnostics import Severity
from graphtool.matching import Kind, Relation

__all__ = [
    "Band",
    "Board",
    "Card",
    "Level",
    "Line",
    "Link",
    "Mark",
    "Panel",
    "Part",
    "Row",
    "Spot",
    "Tag",
]


class Level(str, Enum):
    """How much one box stands for, from most to least."""

    STAGE = "stage"
    BLOCK = "block"
    MODULE = "module"
    OP = "op"


class Part(Enum):
    """Which part of a network a Card is."""

    STAGE = "stage"
    EMBEDDINGS = "embeddings"
    ENCODER = "encoder"
    NECK = "neck"
    HEAD = "head"
    BODY = "body"

    @property
    def has_resolution(self) -> bool:
        """Tell a part that is one of several, at a resolution of its own."""
        return self in (Part.STAGE, Part.NECK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A block, or `times` equal ones that follow each other.

    `factor` says how the resolution changes (`↓2`), empty where it doesn't; `size` is the channels
    or width of the output, None where unknown. `parameters` are elements, `multiply_adds` are for
    one sample; `bar` is the latter's share of the largest Row of the Panel. `operators` are names
    in program order, `values` what each merged block hands on. `ranks` are those of the pairs that
    end here, `severity` that of the worst finding here.
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
    """A part of a network with its sums; `share` is that of all the Panel's multiply-adds."""

    title: str
    part: Part
    size: int | None
    parameters: int
    multiply_adds: int
    share: float
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """A Row of a Panel, by indices."""

    card: int
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One network; `role` is teacher or student, None where it stands alone.

    `inputs` says what it is fed, `state` what merging makes of it, `unit` what `size` counts (`ch`
    or `dim`). Not `exact` where an unknown dim was given a nominal size, or an Operator could not
    be counted. `flows` says which Card reads from which: pairs of indices, source first. `jumps`
    are the Rows between which a branch passes other Cards by, or comes back up.
    """

    role: str | None
    name: str
    source: str
    inputs: str
    unit: str
    parameters: int
    multiply_adds: int
    exact: bool
    cards: tuple[Card, ...]
    state: str = ""
    flows: tuple[tuple[int, int], ...] = ()
    jumps: tuple[tuple[Spot, Spot], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What a pill says of one pair, or of several that say the same.

    `text` compares the two sizes (`256 ← 24`, `768 = 768`), `adapter` says in short what the
    student's side needs, empty where nothing; of a merge, first by which loss they are compared.
    """

    ranks: tuple[int, ...]
    text: str
    adapter: str
    kind: Kind
    relation: Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """All pairs that join the same two Rows."""

    tags: tuple[Tag, ...]
    teacher: Spot
    student: Spot

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks of all its pairs, sorted."""
        return tuple(sorted(rank for tag in self.tags for rank in tag.ranks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A finding; `spots` are the Rows that it speaks of, one for each Panel, None for no Row."""

    code: str
    slug: str
    severity: Severity
    message: str
    count: int
    spots: tuple[Spot | None, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """What stands side by side: a Row of each Panel, or None; and the Links and Marks between."""

    rows: tuple[int | None, ...]
    links: tuple[int, ...] = ()
    marks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """Cards of equal height side by side, or one alone, and their Lines."""

    cards: tuple[int | None, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One network, or two with their pairs.

    `headline` says in two lines what joins them, `worst` how bad that is where findings do. `pairs`
    counts those given; `notes` say what the picture leaves out.
    """

    level: Level
    panels: tuple[Panel, ...]
    bands: tuple[Band, ...]
    links: tuple[Link, ...] = ()
    marks: tuple[Mark, ...] = ()
    headline: tuple[str, str] = ("", "")
    worst: Severity | None = None
    pairs: int = 0
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of Rows of all Panels."""
        return sum(len(card.rows) for panel in self.panels for card in panel.cards)
