"""Pairs of feature maps: what `suggest_pairs` returns and a recipe keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from graphtool.diagnostics import Report
from graphtool.graph import UNKNOWN, Graph, Shape, Value
from graphtool.structure import Tap
from graphtool.text import bounded, named

__all__ = ["Alternative", "End", "Kind", "Pair", "PairSet", "Relation", "end_of"]


class Kind(str, Enum):
    """What sort of Values a Pair joins."""

    LOGITS = "logits"
    EMBEDDING = "embedding"
    STAGE = "stage"
    FEATURE = "feature"
    HIDDEN_STATE = "hidden_state"
    ATTENTION = "attention"
    HEAD = "head"


class Relation(str, Enum):
    """How the two shapes of a Pair differ, the batch left out."""

    EQUAL = "equal"
    CHANNELS = "channels"
    SPATIAL = "spatial"
    CHANNELS_SPATIAL = "channels+spatial"
    SEQUENCE = "sequence"
    TOKENS = "tokens"
    HEADS = "heads"
    CLASSES = "classes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One side of a Pair: a Value and where it stands in its program.

    `op_index` counts every Operator of the top-level Block from 0 and is None inside a region;
    `output` says which result it is.
    """

    name: str
    op: str | None
    op_index: int | None
    output: int
    module: str | None
    layer: str | None
    shape: Shape | None
    dtype: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """The same two blocks at another tap."""

    tap: Tap
    teacher: End
    student: End


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A teacher Value and a student Value that go together, with the reasons.

    `rank` is the place in the order in which an expert would choose, `score` says how well the two
    fit each other, from 0 to 1. `adapter` is what the student side needs before a loss can compare
    the two, `loss` the name of a loss that fits, `weight` what it counts beside the others.
    `alternatives` are the same blocks at other taps. `cka` says how alike the two are on data, from
    -1 to 1; None where no evidence was asked for, or none could be had.
    """

    rank: int
    score: float
    kind: Kind
    teacher: End
    student: End
    relation: Relation
    adapter: str | None
    loss: str
    why: tuple[str, ...]
    warnings: tuple[str, ...]
    weight: float = 1.0
    alternatives: tuple[Alternative, ...] = ()
    cka: float | None = None

    @property
    def is_suggested(self) -> bool:
        """Whether two outputs were found to go together, not named by hand: reasons say so."""
        return self.kind is Kind.LOGITS and bool(self.why)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairSet:
    """Pairs in order of rank, with the Graphs they join and what is to be said about the whole.

    Printed, it lists them: rank, kind, teacher = student.
    """

    teacher: Graph
    student: Graph
    pairs: tuple[Pair, ...]
    report: Report = field(default_factory=Report)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> Pair:
        return self.pairs[place]

    def __repr__(self) -> str:
        networks = f"{bounded(self.teacher.source)} teaches {bounded(self.student.source)}"
        lines = (
            f"{pair.rank:3} {pair.kind.value:<12} "
            f"{named(pair.teacher.name)} = {named(pair.student.name)}"
            for pair in self.pairs
        )
        return "\n".join((networks, *lines))

    def _repr_html_(self) -> str:
        """Return the pairs as a table, and what is to be said about them, for a notebook."""
        from html import escape

        rows = (_HEADINGS, *map(_cells, self.pairs))
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        table = f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
        said = f"<pre>{escape(str(self.report))}</pre>" if len(self.report) else ""
        return table.replace("\n", "<br>") + said


_HEADINGS = ("#", "kind", "teacher", "student", "relation, loss", "why")


def _cells(pair: Pair) -> tuple[str, ...]:
    bridge = pair.relation.value if pair.adapter is None else pair.adapter
    why = "\n".join((*pair.why, *pair.warnings))
    ends = (_shown(pair.teacher), _shown(pair.student))
    return (str(pair.rank), pair.kind.value, *ends, f"{bridge}\nloss {pair.loss}", why)


def _shown(end: End) -> str:
    dims = ("?" if dim == UNKNOWN else str(dim) for dim in end.shape or ())
    place = end.layer or end.module
    shape = "[?]" if end.shape is None else f"[{', '.join(dims)}]"
    return "\n".join(part for part in (named(end.name), shape, place and bounded(place)) if part)


def end_of(graph: Graph, value: Value) -> End:
    """Describe a Value as one side of a Pair."""
    operator = graph.producer(value.name)
    return End(
        name=value.name,
        op=None if operator is None else operator.type,
        op_index=None if operator is None else operator.index,
        output=value.output,
        module=None if operator is None else operator.module,
        layer=value.layer,
        shape=value.shape,
        dtype=value.dtype,
    )
