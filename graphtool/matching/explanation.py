"""Look beyond the suggestions: explain any pair, rank partners, group Values by shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from graphtool.arguments import bad_argument
from graphtool.both import Both
from graphtool.diagnostics import PairError, ReadError, Report, UsageError
from graphtool.graph import Graph, Shape
from graphtool.matching import problems
from graphtool.matching.candidates import Candidate, can_pair, common_pair_kind, pair_kind
from graphtool.matching.pairs import End, Pair, PairSet, end_of
from graphtool.matching.relations import describe_both
from graphtool.matching.score import ScorePart, Scorer
from graphtool.matching.suggest import check_limit, pair_of, pairs_of
from graphtool.selectors import find, find_for_role
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import Role, Structure, analyse

__all__ = [
    "Explanation",
    "ShapeGroup",
    "as_pair_set",
    "explain_pair",
    "match_shapes",
    "partners",
]

_ROLES = "teacher", "student"
_BEHIND_BLOCKS = frozenset({Role.EMBEDDING, Role.LOGITS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A pair with the parts of its score and the arguments against it.

    Of `among` pairs of feature maps of equal rank, `better` have a higher score. `pair.rank` is the
    rank in `suggested`, 0 where the pair is not suggested. `nearest` is the closest suggested pair,
    which may be the pair itself, or None.
    """

    pair: Pair
    parts: tuple[ScorePart, ...]
    better: int
    among: int
    against: tuple[str, ...]
    nearest: Pair | None
    suggested: PairSet

    @property
    def is_suggested(self) -> bool:
        """Return whether `suggest_pairs` lists this pair."""
        return self.pair.rank > 0


def explain_pair(teacher: Source, student: Source, pair: str | tuple[str, str]) -> Explanation:
    """Explain how well two Values fit, what speaks against the pair, and what fits better.

    `teacher` and `student` are anything that `read` takes; `pair` is `TEACHER=STUDENT` or both
    names, in any spelling that `find` takes. The score is that of `suggest_pairs`, compared with
    every pair of feature maps of equal rank.

    Raises ReadError where a source cannot be read or a name means no Value, or several, and
    PairError: GT303 if a Value is not a feature map, GT304 if the pair cannot be read. Raises
    UsageError: GT248 if it is neither text nor two names.
    """
    structures = Both(teacher, student).map(lambda source: analyse(read_without_teachers(source)))
    names = _find_names(structures, pair)
    comparison = Scorer(*structures)
    suggested = pairs_of(*structures)
    found = next((one for one in suggested if _names_of(one) == names), None)
    explained = found
    if explained is None:
        # As `suggest_pairs` would make it; it has no rank there.
        kind = common_pair_kind(
            structures.teacher, names.teacher, structures.student, names.student
        )
        explained = replace(pair_of(1, Candidate(kind, *names, why=()), comparison), rank=0)
    teacher_maps = _maps_of_rank(structures.teacher, names.teacher)
    student_maps = _maps_of_rank(structures.student, names.student)
    return Explanation(
        pair=explained,
        parts=comparison.parts(*names),
        better=comparison.better(explained.score, teacher_maps, student_maps),
        among=len(teacher_maps) * len(student_maps),
        against=tuple(_arguments_against(structures, explained, suggested)),
        nearest=found or _nearest(structures, names, suggested),
        suggested=suggested,
    )


def as_pair_set(explanation: Explanation) -> PairSet:
    """Return a PairSet that holds only the explained pair."""
    return replace(explanation.suggested, pairs=(explanation.pair,), report=Report())


def _names_of(pair: Pair) -> Both[str]:
    return Both(pair.teacher.name, pair.student.name)


def _find_names(structures: Both[Structure], pair: Any) -> Both[str]:
    """Return the Value names of the first split at a `=` of which both selectors are known.

    Names may hold `=` as well. Raises PairError: GT304. Raises UsageError: GT248.
    """
    match pair:
        case [str(teacher_name), str(student_name)]:
            splits = [(teacher_name, student_name)]
        case str():
            parts = pair.split("=")
            both = [("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts))]
            splits = [split for split in both if all(split)]
            if not splits:
                raise PairError(problems.not_a_pair(pair))
        case _:
            call = 'gt.explain_pair(teacher, student, "relu_48=relu_26")'
            raise UsageError(bad_argument("pair", pair, "`TEACHER=STUDENT`, or two names", call))
    teacher, student = structures.map(lambda structure: structure.graph)
    names: Both[str] | None = None
    for teacher_selector, student_selector in splits[:-1]:
        with suppress(ReadError):
            names = Both(find(teacher, teacher_selector).name, find(student, student_selector).name)
            break
    if names is None:
        last = splits[-1]
        names = Both(
            find_for_role("teacher", teacher, student, last[0]).name,
            find_for_role("student", student, teacher, last[1]).name,
        )
    for role, structure, name in zip(_ROLES, structures, names, strict=True):
        if name not in structure.flow.features:
            raise PairError(problems.no_feature_map(structure, name, role))
    return names


def _maps_of_rank(structure: Structure, name: str) -> list[str]:
    """List the feature maps that have the rank of this one."""
    values, features = structure.graph.values, structure.flow.features
    rank = values[name].rank
    return [
        other for other in structure.flow.steps if other in features and values[other].rank == rank
    ]


def _arguments_against(
    structures: Both[Structure], pair: Pair, suggested: PairSet
) -> Iterator[str]:
    """Yield what speaks against a pair, worst first."""
    names = _names_of(pair)
    kinds = [pair_kind(structure, name) for structure, name in zip(structures, names, strict=True)]
    if not can_pair(*kinds):
        texts = (kind.value.replace("_", " ") for kind in kinds)
        yield "the two are not of a kind: " + describe_both(*texts)
    for role, structure, name in zip(_ROLES, structures, names, strict=True):
        step = structure.flow.maker.get(name)
        for head in structure.heads:
            if step is not None and step.operator.name == head.softmax:
                yield f"the {role}'s are probabilities: losses take the logits, `{head.logits}`"
    yield from pair.warnings
    # Published pairs never cross.
    teacher, student = structures
    for other in suggested:
        offsets = (
            teacher.depth(names.teacher) - teacher.depth(other.teacher.name),
            student.depth(names.student) - student.depth(other.student.name),
        )
        if offsets[0] * offsets[1] < 0:
            ends = f"`{other.teacher.name}` with `{other.student.name}`"
            yield f"it crosses pair {other.rank}, {ends}"
    for role, structure, name in zip(_ROLES, structures, names, strict=True):
        yield from _off_main_line(role, structure, name)


def _off_main_line(role: str, structure: Structure, name: str) -> Iterator[str]:
    """Name the block output to take instead of a Value inside a block, or behind all blocks."""
    if structure.is_on_main_line(name) or not structure.main_line:
        return
    depths = structure.flow.depth
    end = next((other for other in structure.main_line if depths[other] >= depths[name]), None)
    if end is None or name in structure.taps(end).values():
        return
    if structure.role(end) in _BEHIND_BLOCKS:
        yield f"the {role}'s `{name}` ends no block: it leads to `{end}`"
    else:
        yield f"the {role}'s `{name}` lies inside a block, whose output is `{end}`"


def _nearest(structures: Both[Structure], names: Both[str], suggested: PairSet) -> Pair | None:
    """Return the suggested pair with both ends closest in depth, of the same kind if possible."""
    teacher, student = structures
    kinds = {pair_kind(teacher, names.teacher), pair_kind(student, names.student)}

    def distance(pair: Pair) -> tuple[bool, float]:
        teacher_gap = abs(teacher.depth(pair.teacher.name) - teacher.depth(names.teacher))
        student_gap = abs(student.depth(pair.student.name) - student.depth(names.student))
        return pair.kind not in kinds, teacher_gap + student_gap

    return min(suggested, key=distance, default=None)


def partners(teacher: Source, student: Source, selector: str, *, limit: int | None = 8) -> PairSet:
    """Rank the student Values that could be paired with one teacher Value.

    `selector` names the teacher Value in any spelling that `find` takes. The partners that
    `suggest_pairs` gives it come first, then block outputs of the student, best fit first. `limit`
    bounds their number; None returns all.

    Raises ReadError where a source cannot be read or the selector means no Value, or several,
    UsageError (GT248) where `limit` is no whole number, and PairError (GT303) if the Value is not a
    feature map.
    """
    check_limit(limit, 'gt.partners(teacher, student, "relu_48", limit=8)')
    structures = Both(teacher, student).map(lambda source: analyse(read_without_teachers(source)))
    graphs = structures.map(lambda structure: structure.graph)
    name = find_for_role("teacher", graphs.teacher, graphs.student, selector).name
    if name not in structures.teacher.flow.features:
        raise PairError(problems.no_feature_map(structures.teacher, name, "teacher"))
    suggested = [pair for pair in pairs_of(*structures) if pair.teacher.name == name]
    paired = {pair.student.name for pair in suggested}
    comparison = Scorer(*structures)
    kind = pair_kind(structures.teacher, name)
    others = [
        other
        for other in structures.student.main_line
        if other not in paired and can_pair(kind, pair_kind(structures.student, other))
    ]
    ranked = sorted(others, key=lambda other: -comparison.fit(name, other))
    pairs = [replace(pair, rank=rank) for rank, pair in enumerate(suggested, 1)]
    for rank, other in enumerate(ranked, len(suggested) + 1):
        why = ("the one that fits best",) if rank == 1 else ()
        pairs.append(pair_of(rank, Candidate(kind, name, other, why), comparison))
    diagnostics = (
        () if pairs else (problems.nothing_in_common(structures.teacher, structures.student, 0),)
    )
    return PairSet(
        teacher=graphs.teacher,
        student=graphs.student,
        pairs=tuple(pairs[:limit]),
        report=Report.of(diagnostics),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeGroup:
    """All feature maps of one shape, without the batch, in program order."""

    shape: Shape
    teacher: tuple[End, ...]
    student: tuple[End, ...]

    @property
    def pairs(self) -> int:
        """The number of pairs: every teacher Value with every student Value."""
        return len(self.teacher) * len(self.student)


def match_shapes(teacher: Source, student: Source) -> tuple[ShapeGroup, ...]:
    """Group the feature maps of two networks by equal shape, the deepest shapes last.

    `teacher` and `student` are anything that `read` takes. The batch is ignored; an unknown dim
    equals only an unknown dim. Equal shape is a weak signal: `suggest_pairs` returns the pairs that
    an expert would choose.

    Raises ReadError where a source cannot be read.
    """
    maps = Both(teacher, student).map(lambda source: _by_shape(read_without_teachers(source)))
    return tuple(
        ShapeGroup(shape=shape, teacher=tuple(ends), student=tuple(maps.student[shape]))
        for shape, ends in maps.teacher.items()
        if shape in maps.student
    )


def _by_shape(graph: Graph) -> dict[Shape, list[End]]:
    flow = analyse(graph).flow
    features = (
        graph.values[name]
        for step in flow.steps.values()
        if step.kind not in ("fetch", "shadow_output")
        for name in step.operator.results
        if name in flow.features
    )
    groups: dict[Shape, list[End]] = {}
    for value in features:
        if value.shape is not None and len(value.shape) > 1:
            groups.setdefault(value.shape[1:], []).append(end_of(graph, value))
    return groups
