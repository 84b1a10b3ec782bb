"""The model of a picture of cards, which DOT and HTML are drawn from.

A Board holds one Panel per network, the teacher first. A Panel holds Cards from input to output. A
Card is a stage, the embeddings, an encoder, a neck or a head, and holds Rows. A Row is a block, or
`times` equal consecutive blocks.

Alignment: `bands` run from top to bottom. A Band has at most one Card of each Panel (`cards[p]` is
an index into `panels[p].cards`, or None) and Lines. A Line has at most one Row of each of these
Cards (`rows[p]`, an index into `card.rows`, or None for a blank). A Card's title is drawn directly
above its first Row: blanks before that Row are above the Card, blanks after its last Row below it.
The two Rows of a pair share a Line wherever the order of pairs allows it.

Pairs and diagnostics are Pills between the Panels, each on one Line. All pairs of the same two Rows
share a Pill.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from graphtool.diagnostics import Diagnostic, Severity

__all__ = [
    "Band",
    "BlockRow",
    "Board",
    "Card",
    "CardPart",
    "Level",
    "Line",
    "Panel",
    "Pill",
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
    BODY = "layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """A block, or `times` equal consecutive blocks.

    `factor` is the change of resolution (`↓2`), empty if there is none. `size` is the channels or
    width of the output, None if unknown. `parameters` counts elements, `multiply_adds` is for one
    sample, and `bar` is its ratio to the largest Row of the Panel. `blocks` are names of Operators
    in program order, `values` the output of each block, `ranks` those of the pairs that end here.
    """

    name: str
    factor: str
    size: int | None
    parameters: int
    multiply_adds: int
    blocks: tuple[tuple[str, ...], ...]
    values: tuple[str, ...]
    ranks: tuple[int, ...]
    times: int = 1
    bar: float = 0.0

    @property
    def operators(self) -> tuple[str, ...]:
        """The names of all its Operators."""
        return tuple(name for block in self.blocks for name in block)


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
    flows: tuple[tuple[int, int], ...] = ()
    jumps: tuple[tuple[RowIndex, RowIndex], ...] = ()
    state: str = ""

    @property
    def spots(self) -> dict[str, RowIndex]:
        """The Row of each Operator, by its name."""
        return {
            name: RowIndex(c, r)
            for c, card in enumerate(self.cards)
            for r, row in enumerate(card.rows)
            for name in row.operators
        }


@dataclass(frozen=True, slots=True)
class Tag:
    """A part of a Pill: the ranks of pairs or a code; a text; another one in small type.

    The text of pairs compares their two sizes (`256 ← 24`, `768 = 768`). In small type are the
    adapter, and for a merge the loss.
    """

    label: str
    text: str
    extra: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pill:
    """All pairs of the same two Rows, or one diagnostic, with the Row of each Panel, or None."""

    name: str
    tags: tuple[Tag, ...]
    spots: tuple[RowIndex | None, ...]
    ranks: tuple[int, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A Row of each Panel (or None) side by side, with the indices of the Pills between them."""

    rows: tuple[int | None, ...]
    pills: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """Cards side by side, at most one per Panel, and their Lines."""

    cards: tuple[int | None, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One network, or two with their pairs.

    Of a Report, `findings` are the diagnostics, the worst first, each with a Pill behind those of
    the pairs. `headline` is a summary in two lines, `notes` list what the picture leaves out.
    """

    level: Level
    panels: tuple[Panel, ...]
    bands: tuple[Band, ...]
    pills: tuple[Pill, ...] = ()
    findings: tuple[Diagnostic, ...] | None = None
    headline: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Return the number of Rows of all Panels."""
        return sum(len(card.rows) for panel in self.panels for card in panel.cards)
