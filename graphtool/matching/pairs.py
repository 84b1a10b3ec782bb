"""Pairs of feature maps, as `suggest_pairs` returns them and a recipe holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from graphtool.diagnostics import Report
from graphtool.graph import Graph, Shape, Value, shape_text
from graphtool.structure import Tap
from graphtool.text import escaped_bounded, printed_name

__all__ = ["Alternative", "End", "Kind", "Pair", "PairSet", "Relation", "end_of"]


class Kind(str, Enum):
    """What kind of Values a Pair compares."""

    LOGITS = "logits"
    EMBEDDING = "embedding"
    STAGE = "stage"
    FEATURE = "feature"
    HIDDEN_STATE = "hidden_state"
    ATTENTION = "attention"
    HEAD = "head"


class Relation(str, Enum):
    """How the shapes of a Pair differ, without the batch."""

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
    """One end of a Pair: a Value and its position in the program.

    `op_index` is the index of its Operator in the top-level Block, from 0, and None inside a
    region; `output` is the index of the result.
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
    """A teacher Value and a student Value to compare, with the reasons.

    `rank` is the place in the order in which an expert would choose, `score` how well the two fit,
    from 0 to 1. `adapter` is what the student needs before `loss`, the name of a suitable loss, can
    compare the two; `weight` is that of the loss. `alternatives` are the same blocks at other taps.
    `cka` is their similarity on data, from -1 to 1, and None where no evidence was requested or the
    pair could not be measured.
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
        """Return whether a rule, which gives reasons, paired these logits, not the user."""
        return self.kind is Kind.LOGITS and bool(self.why)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairSet:
    """Pairs in order of rank, with the two Graphs and a report.

    Printing lists the pairs: rank, kind, teacher = student.
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
        networks = (
            f"{escaped_bounded(self.teacher.source)} teaches {escaped_bounded(self.student.source)}"
        )
        lines = (
            f"{pair.rank:3} {pair.kind.value:<12} "
            f"{printed_name(pair.teacher.name)} = {printed_name(pair.student.name)}"
            for pair in self.pairs
        )
        return "\n".join((networks, *lines))

    def _repr_html_(self) -> str:
        """Return the pairs as a table, then the report, for a notebook."""
        from html import escape

        rows = (_HEADINGS, *map(_cells, self.pairs))
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        table = f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
        report = f"<pre>{escape(str(self.report))}</pre>" if len(self.report) else ""
        return table.replace("\n", "<br>") + report


_HEADINGS = ("#", "kind", "teacher", "student", "relation, loss", "why")


def _cells(pair: Pair) -> tuple[str, ...]:
    relation = pair.relation.value if pair.adapter is None else pair.adapter
    why = "\n".join((*pair.why, *pair.warnings))
    ends = _end_cell(pair.teacher), _end_cell(pair.student)
    return (str(pair.rank), pair.kind.value, *ends, f"{relation}\nloss {pair.loss}", why)


def _end_cell(end: End) -> str:
    place = end.layer or end.module
    parts = printed_name(end.name), shape_text(end.shape), place and escaped_bounded(place)
    return "\n".join(filter(None, parts))


def end_of(graph: Graph, value: Value) -> End:
    """Describe a Value as one end of a Pair."""
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
