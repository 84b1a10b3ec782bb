"""Compare suggested pairs with an expert's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from graphtool.graph import Graph, Shape
from graphtool.matching import PairSet
from tests.matching.families.cases import (
    Case,
    Expected,
    Never,
    find_value,
    graph_of,
    places,
)

__all__ = ["Verdict", "judge", "overlaps"]

# What does not change which place of a network a Value stands for, as long as the shape stays.
_TAPS = frozenset(
    (
        *("relu", "relu6", "hardswish", "swish", "silu", "gelu", "leaky_relu"),
        *("dropout", "batch_norm", "layer_norm", "scale", "assign", "cast"),
    )
)
_RESHAPES = frozenset({"flatten", "reshape", "squeeze"})
# `stage`, `feature`, `hidden_state` and `embedding` differ in name, not in the place.
_FAMILIES = {"logits": "outputs", "head": "outputs", "attention": "attention"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a list of suggestions compares with what an expert expects.

    `ranks` holds the rank at which each expected pair is listed, None where it is not.
    """

    case: Case
    ranks: tuple[int | None, ...]
    kinds: tuple[str | None, ...]
    wrong: tuple[tuple[int, Never], ...]
    first: str
    length: int

    @property
    def found(self) -> int:
        """The number of expected pairs that are listed."""
        return sum(rank is not None for rank in self.ranks)

    @property
    def leads(self) -> bool:
        """Tell whether the first suggestion is one that may be first."""
        return 1 in self.ranks[: self.case.lead]

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the list, one line for each."""
        case = self.case
        lines = [
            f"missed {_title(pair)}: {pair.why}"
            for pair, rank in zip(case.expected, self.ranks, strict=True)
            if rank is None
        ]
        lines += [f"#{rank} is wrong, {_ends(pair)}: {pair.why}" for rank, pair in self.wrong]
        if not self.leads:
            lines.append(f"#1 is {self.first}, and should be {_title(case.expected[0])}")
        if self.length > case.most:
            lines.append(f"{self.length} pairs are listed, at most {case.most} are wanted")
        return tuple(lines)

    def __str__(self) -> str:
        case = self.case
        head = f"{case.name}: {self.found} of {len(case.expected)} found, {self.length} listed"
        rows = [
            f"  {'-' if rank is None else rank:>3}  {_title(pair)}{_other_kind(pair, kind)}"
            for pair, rank, kind in zip(case.expected, self.ranks, self.kinds, strict=True)
        ]
        return "\n".join([head, *rows, *(f"  ! {fault}" for fault in self.faults)])


def judge(case: Case, pairs: PairSet) -> Verdict:
    """Look up each expected and each wrong pair of a case in a list of suggestions."""
    listed = [
        _Listed(rank, pair.kind.value, pair.teacher.name, pair.student.name)
        for rank, pair in enumerate(pairs, 1)
    ]
    hits = [_first_hit(_located(case, wanted), wanted.kind, listed) for wanted in case.expected]
    wrong = [
        (item.rank, never)
        for never in case.never
        for item in listed
        if _located(case, never).holds(item.teacher, item.student)
    ]
    return Verdict(
        case=case,
        ranks=tuple(hit and hit.rank for hit in hits),
        kinds=tuple(hit and hit.kind for hit in hits),
        wrong=tuple(wrong),
        first=_described(case, listed),
        length=len(listed),
    )


def overlaps(case: Case) -> tuple[tuple[Expected, Never], ...]:
    """Return the expected pairs that a case calls wrong as well; there should be none.

    Raises LookupError where a pair names a Value that its network does not have.
    """
    wrong = [(never, _located(case, never)) for never in case.never]
    return tuple(
        (wanted, never)
        for wanted in case.expected
        for teacher, student in _located(case, wanted).pairs
        for never, located in wrong
        if located.holds(teacher, student)
    )


@dataclass(frozen=True, slots=True)
class _Listed:
    rank: int
    kind: str
    teacher: str
    student: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Located:
    """The Values that a pair may mean on each side."""

    graphs: tuple[Graph, Graph]
    teacher: tuple[str, ...]
    student: tuple[str, ...]

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        return product(self.teacher, self.student)

    def holds(self, teacher: str, student: str) -> bool:
        """Tell whether two Values are these, but for what only taps them."""
        first, second = self.graphs
        return any(_same_place(first, teacher, name) for name in self.teacher) and any(
            _same_place(second, student, name) for name in self.student
        )


def _located(case: Case, pair: Expected | Never) -> _Located:
    first, second = graph_of(case.teacher), graph_of(case.student)
    return _Located(
        graphs=(first, second),
        teacher=tuple(find_value(first, at) for at in places(pair.teacher)),
        student=tuple(find_value(second, at) for at in places(pair.student)),
    )


def _same_place(graph: Graph, name: str, other: str) -> bool:
    return name in _taps(graph, other) or other in _taps(graph, name)


def _taps(graph: Graph, name: str) -> Iterator[str]:
    """Yield a Value and those that it is a tap of, nearest first."""
    while True:
        yield name
        value, operator = graph.values[name], graph.producer(name)
        if operator is None or value.output or not operator.operands:
            return
        before = operator.operands[0]
        if before is None:
            return
        if not _keeps_place(operator.kind, graph.values[before].shape, value.shape):
            return
        name = before


def _keeps_place(kind: str, before: Shape | None, after: Shape | None) -> bool:
    if before is None or after is None:
        return False
    if kind in _TAPS:
        return before == after
    return kind in _RESHAPES and _is_squeezed(before, after)


def _is_squeezed(before: Shape, after: Shape) -> bool:
    """Tell whether only axes of size 1 differ; a pooled map of unknown size counts as 1 × 1."""
    kept = [[dim for dim in shape if dim != 1] for shape in (before, after)]
    pooled = len(before) == 4 and before[:2] == after and set(before[2:]) <= {-1, 1}
    return kept[0] == kept[1] or pooled


def _first_hit(located: _Located, kind: str, listed: list[_Listed]) -> _Listed | None:
    for item in listed:
        if _family(item.kind) == _family(kind) and located.holds(item.teacher, item.student):
            return item
    return None


def _family(kind: str) -> str:
    return _FAMILIES.get(kind, "features")


def _ends(pair: Expected | Never) -> str:
    return f"{places(pair.teacher)[0]} -> {places(pair.student)[0]}"


def _title(pair: Expected) -> str:
    return f"{pair.kind} {_ends(pair)}"


def _other_kind(pair: Expected, kind: str | None) -> str:
    return "" if kind in (None, pair.kind) else f" (listed as {kind})"


def _described(case: Case, listed: list[_Listed]) -> str:
    if not listed:
        return "nothing"
    first = listed[0]
    ends = ((case.teacher, first.teacher), (case.student, first.student))
    layers = (graph_of(net).values[name].layer or name for net, name in ends)
    return f"{first.kind} {' -> '.join(layers)}"
