"""What is to be said for and against any pair that somebody has in mind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from graphtool.diagnostics import PairError, ReadError, Report
from graphtool.graph import Graph
from graphtool.matching import problems
from graphtool.matching.candidate import Candidate, are_alike, kind_of, kind_of_both
from graphtool.matching.evidence import Evidence
from graphtool.matching.pairs import Pair, PairSet
from graphtool.matching.rank import pair_of, pairs_of
from graphtool.matching.relations import in_both
from graphtool.matching.score import Comparison, Part
from graphtool.matching.weighing import weigh
from graphtool.readers import Source, read_own
from graphtool.selectors import find, find_in
from graphtool.structure import Role, Structure, analyse

__all__ = ["Explanation", "alone", "explain_pair", "weigh_explanation"]

_BEHIND_BLOCKS = frozenset({Role.EMBEDDING, Role.LOGITS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A pair taken apart.

    `parts` make up its score, `better` of `among` pairs of feature maps with as many axes have a
    higher one, `against` says what speaks against it. `pair.rank` is its place in `suggested` or
    None's stand-in 0, and `nearest` the suggested pair that is closest to it, itself if it is one.
    """

    pair: Pair
    parts: tuple[Part, ...]
    better: int
    among: int
    against: tuple[str, ...]
    nearest: Pair | None
    suggested: PairSet

    @property
    def is_suggested(self) -> bool:
        """Tell whether `suggest_pairs` lists this very pair."""
        return self.pair.rank > 0


def explain_pair(teacher: Source, student: Source, pair: str | tuple[str, str]) -> Explanation:
    """Say how well two Values go together, what speaks against it, and what fits better.

    `teacher` and `student` are anything that `read` takes; `pair` is `TEACHER=STUDENT` or both
    names, in any spelling that `find` takes. The score is that of `suggest_pairs`, and counted
    against every pair of feature maps with as many axes.

    Raises ReadError where a source cannot be read or a name means no Value, or several, and
    PairError: GT303 where a Value is no feature map, GT304 where the pair cannot be read.
    """
    left, right = analyse(read_own(teacher)), analyse(read_own(student))
    names = _names(left, right, pair)
    comparison = Comparison(left, right)
    suggested = pairs_of(left, right)
    found = next((x for x in suggested if (x.teacher.name, x.student.name) == names), None)
    shown = _pair(comparison, names) if found is None else found
    ours, theirs = _of_rank(left, names[0]), _of_rank(right, names[1])
    return Explanation(
        pair=shown,
        parts=comparison.parts(*names),
        better=comparison.better(shown.score, ours, theirs),
        among=len(ours) * len(theirs),
        against=tuple(_against(comparison, shown, suggested)),
        nearest=found or _nearest(comparison, names, suggested),
        suggested=suggested,
    )


def alone(explanation: Explanation) -> PairSet:
    """Return the pair in question as the only one of its networks."""
    return replace(explanation.suggested, pairs=(explanation.pair,), report=Report())


def weigh_explanation(explanation: Explanation, evidence: Evidence) -> Explanation:
    """Say how alike the two Values are on data, and what in that speaks against the pair."""
    before = explanation.pair
    (pair,) = weigh(alone(explanation), evidence)
    return replace(
        explanation,
        pair=pair,
        against=(*explanation.against, *pair.warnings[len(before.warnings) :]),
        nearest=pair if explanation.nearest is before else explanation.nearest,
    )


def _names(teacher: Structure, student: Structure, pair: str | tuple[str, str]) -> tuple[str, str]:
    splits = _splits(pair) if isinstance(pair, str) else (pair,)
    names = _found(teacher.graph, student.graph, splits)
    sides = ("teacher", teacher), ("student", student)
    for (role, structure), name in zip(sides, names, strict=True):
        if name not in structure.flow.features:
            raise PairError(problems.no_feature_map(structure, name, role))
    return names


def _splits(pair: str) -> Sequence[tuple[str, str]]:
    """Split `TEACHER=STUDENT`, at each sign since names may hold it themselves."""
    parts = pair.split("=")
    splits = [("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts))]
    splits = [split for split in splits if all(split)]
    if not splits:
        raise PairError(problems.not_a_pair(pair))
    return splits


def _found(teacher: Graph, student: Graph, splits: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Find both names at the first split at which both are known."""
    *others, last = splits
    for left, right in others:
        with suppress(ReadError):
            return find(teacher, left).name, find(student, right).name
    ours = find_in("teacher", teacher, student, last[0]).name
    return ours, find_in("student", student, teacher, last[1]).name


def _pair(comparison: Comparison, names: tuple[str, str]) -> Pair:
    """Make the pair as `suggest_pairs` would; it has no rank there."""
    kind = kind_of_both(comparison.teacher, names[0], comparison.student, names[1])
    return replace(pair_of(1, Candidate(kind, *names, why=()), comparison), rank=0)


def _sides(comparison: Comparison, names: tuple[str, str]) -> Sequence[tuple[Structure, str]]:
    return tuple(zip((comparison.teacher, comparison.student), names, strict=True))


def _of_rank(structure: Structure, name: str) -> list[str]:
    """List the feature maps with as many axes as this one."""
    values = structure.graph.values
    rank = values[name].rank
    features = structure.flow.features
    return [name for name in structure.flow.steps if name in features and values[name].rank == rank]


def _against(comparison: Comparison, pair: Pair, suggested: PairSet) -> Iterator[str]:
    """Say what speaks against a pair, worst first."""
    names = pair.teacher.name, pair.student.name
    sides = _sides(comparison, names)
    kinds = [kind_of(side, name) for side, name in sides]
    if not are_alike(*kinds):
        words = (kind.value.replace("_", " ") for kind in kinds)
        yield "the two are not of a kind: " + in_both(*words)
    yield from _probabilities(sides)
    yield from pair.warnings
    yield from _crossed(comparison, names, suggested)
    for role, (structure, name) in zip(("teacher", "student"), sides, strict=True):
        yield from _inside(role, structure, name)


def _probabilities(sides: Sequence[tuple[Structure, str]]) -> Iterator[str]:
    for role, (structure, name) in zip(("teacher", "student"), sides, strict=True):
        for head in structure.heads:
            step = structure.flow.maker.get(name)
            if step is not None and step.operator.name == head.normalised:
                yield f"the {role}'s are probabilities: losses take the logits, `{head.logits}`"


def _crossed(comparison: Comparison, names: tuple[str, str], suggested: PairSet) -> Iterator[str]:
    """Name the suggested pairs that this one crosses: published pairs never cross."""
    places = [side.depth(name) for side, name in _sides(comparison, names)]
    for pair in suggested:
        ends = _sides(comparison, (pair.teacher.name, pair.student.name))
        others = [side.depth(name) for side, name in ends]
        if (places[0] - others[0]) * (places[1] - others[1]) < 0:
            yield f"it crosses pair {pair.rank}, `{pair.teacher.name}` with `{pair.student.name}`"


def _inside(role: str, structure: Structure, name: str) -> Iterator[str]:
    """Say so where a Value lies inside a block, or behind all, and what is paired instead."""
    if structure.is_on_main_line(name) or not structure.main_line:
        return
    depth = structure.flow.depth[name]
    after = (x for x in structure.main_line if structure.flow.depth[x] >= depth)
    end = next(after, None)
    if end is None or name in structure.taps(end).values():
        return
    if structure.role(end) in _BEHIND_BLOCKS:
        yield f"the {role}'s `{name}` ends no block: it leads to `{end}`"
    else:
        yield f"the {role}'s `{name}` lies inside a block, whose output is `{end}`"


def _nearest(comparison: Comparison, names: tuple[str, str], suggested: PairSet) -> Pair | None:
    """Return the suggested pair with both ends closest in depth, of the same kind if there is."""
    kinds = {kind_of(side, name) for side, name in _sides(comparison, names)}
    places = [side.depth(name) for side, name in _sides(comparison, names)]

    def gap(pair: Pair) -> tuple[bool, float]:
        teacher = abs(comparison.teacher.depth(pair.teacher.name) - places[0])
        student = abs(comparison.student.depth(pair.student.name) - places[1])
        return pair.kind not in kinds, teacher + student

    return min(suggested, key=gap, default=None)
