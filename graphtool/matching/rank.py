"""Which Values go together, in the order in which an expert would list them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, PairError, Report, UsageError
from graphtool.matching import answer_problems, problems
from graphtool.matching.candidate import Candidate
from graphtool.matching.candidates import candidates, relations, unique
from graphtool.matching.evidence import BATCHES, check_samples, gather
from graphtool.matching.forms import FORMS, FormName
from graphtool.matching.pairs import Alternative, Kind, Pair, PairSet, end_of
from graphtool.matching.relations import Sides, adapter_of, loss_of, reasons, relation_of, warnings
from graphtool.matching.score import Comparison
from graphtool.matching.weighing import names_of, weigh
from graphtool.readers import Source, read_own
from graphtool.structure import Structure, Tap, analyse

__all__ = ["check_limit", "pair_of", "pairs_of", "suggest_pairs"]

# Experts publish one to four pairs of maps, with logits and embedding at most 8 in all; each layer
# of a transformer, and each head and level of a detector.
_MOST = 8
_ALL_OF = frozenset({Kind.LOGITS, Kind.EMBEDDING, Kind.HIDDEN_STATE, Kind.ATTENTION, Kind.HEAD})
_IN_BLOCKS = frozenset({Kind.STAGE, Kind.FEATURE, Kind.HIDDEN_STATE})
_CALL = 'gt.suggest_pairs(teacher, student, limit=4, tap="before-activation", recipe="fitnet")'

_Closed = TypeVar("_Closed", bound=Enum)
# Whatever the user has: a path, arrays, a function, a DataLoader.
_Samples: TypeAlias = Any
# Scopes are Paddle's, which has no types.
_Paddle: TypeAlias = Any


def suggest_pairs(
    teacher: Source,
    student: Source,
    *,
    limit: int | None = None,
    tap: Tap | str | None = None,
    recipe: FormName | str | None = None,
    evidence: _Samples | None = None,
    batches: int = BATCHES,
    allow_random: bool = False,
    scope: _Paddle | None = None,
    teacher_scope: _Paddle | None = None,
) -> PairSet:
    """Suggest which feature maps to pair, in the order in which experts prefer them.

    `teacher` and `student` are anything that `read` takes. The list is a menu: experts train with
    the logits, or with one to four of the maps. `limit` bounds the number of pairs; without it
    there are at most eight, or all layers of transformers and all heads of detectors. `tap` says
    where in its block each map is taken: `after-activation`, `before-activation`, `before-norm` or
    `last-convolution`. `recipe` gives a whole published form instead, with its losses and weights:
    `logits`, which gains most, `features`, `transformer`, `overhaul`, `attention`, `fitnet` or
    `minilm`. The weights are meant beside 1 for the task's own loss, 0.1 with `logits`.

    `evidence` is data to weigh the pairs by: samples that both networks are run on, as `gather` of
    `graphtool.matching.evidence` takes them, at most so many `batches` of 32. Each pair then has
    its `cka`; pairs of one stage that fit as well go in the order of it, and warnings say where it
    speaks against a pair, but it never overrules. The networks need their weights for that, so they
    are a saved model with its parameters beside it, a live Program, a Network, or `module:callable`
    that loads what it builds; a Graph does not run. As in `merge`, `scope` holds the parameters of
    a live student (the global Scope where None), `teacher_scope` those of a live teacher (that same
    one where None). `allow_random` lets untrained ones pass.

    Raises ReadError where a source cannot be read, UsageError (GT248) where `limit`, `tap` or
    `recipe` cannot be meant, PairError (GT305) where the networks lack what a `recipe` pairs, and
    as `gather` does. The reasons behind the order are those of published configurations (Romero et
    al. 2015, arXiv 1412.6550, for the middle stage; Jiao et al. 2020, arXiv 1909.10351, for
    transformers).
    """
    check_limit(limit, _CALL)
    wanted = None if tap is None else _one_of(Tap, "tap", tap)
    form = None if recipe is None else _one_of(FormName, "recipe", recipe)
    check_samples(evidence)
    left, right = analyse(read_own(teacher)), analyse(read_own(student))
    pairs = pairs_of(left, right, limit=limit, tap=wanted, recipe=form)
    if evidence is None:
        return pairs
    names = names_of(pairs)
    found = gather(
        teacher,
        student,
        names,
        evidence,
        batches=batches,
        allow_random=allow_random,
        scopes=(teacher_scope, scope),
    )
    (latest,) = deque(found, maxlen=1)
    return weigh(pairs, latest)


def check_limit(limit: object, call: str) -> None:
    """Refuse what is no number of pairs, with a call that shows one.

    Raises UsageError: GT248.
    """
    is_whole = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    if limit is not None and not is_whole:
        raise UsageError(bad_argument("limit", limit, "a whole number, or None", call))


def _one_of(closed: type[_Closed], name: str, given: object) -> _Closed:
    """Return one of a closed set, given as itself or as its spelling."""
    try:
        return closed(given)
    except ValueError:
        wanted = ", ".join(f"`{member.value}`" for member in closed)
    raise UsageError(bad_argument(name, given, f"one of {wanted}", _CALL))


def pairs_of(
    teacher: Structure,
    student: Structure,
    *,
    limit: int | None = None,
    tap: Tap | None = None,
    recipe: FormName | None = None,
) -> PairSet:
    """Suggest pairs of two networks that were analysed already."""
    form = None if recipe is None else FORMS[recipe]
    comparison = Comparison(teacher, student)
    found, remarks = _found(comparison, recipe), list[Diagnostic]()
    if tap is None and form is not None:
        tap = form.tap
    if tap is not None:
        found = _tapped(found, tap, comparison, remarks)
    taken = _menu(found, teacher) if limit is None or form is not None else found[:limit]
    pairs = tuple(pair_of(rank, candidate, comparison) for rank, candidate in enumerate(taken, 1))
    if recipe is not None and form is not None:
        unfit, pairs = form.unfit(pairs), form.of(pairs)
        graphs = teacher.graph, student.graph
        apart = tuple(dict.fromkeys(pair.warnings[0] for pair in unfit))
        if not pairs:
            wanted = recipe.value, form.wanted
            raise PairError(problems.form_without_pairs(*wanted, *graphs, apart))
        if unfit:
            remarks.append(problems.form_leaves_out(recipe.value, len(unfit), *graphs, apart))
    else:
        remarks += _remarks(teacher, student, found)
    remarks += _unclear(teacher, student)
    return PairSet(
        teacher=teacher.graph,
        student=student.graph,
        pairs=pairs[:limit],
        report=Report.of(remarks),
    )


def _menu(found: Sequence[Candidate], teacher: Structure) -> tuple[Candidate, ...]:
    """Take the first; logits, which come behind the maps where classes differ, are never cut."""
    most = max(_MOST, sum(pair.kind in _ALL_OF for pair in found) + len(teacher.necks))
    cut = [pair for pair in found[most:] if pair.kind is Kind.LOGITS]
    return (*found[: most - len(cut)], *cut)


def _found(comparison: Comparison, recipe: FormName | None) -> tuple[Candidate, ...]:
    return relations(comparison) if recipe is FormName.MINILM else candidates(comparison)


def _tapped(
    found: Sequence[Candidate], tap: Tap, comparison: Comparison, remarks: list[Diagnostic]
) -> tuple[Candidate, ...]:
    """Take each map at one tap, where both blocks have it; say how many were left as they were."""
    moved = [_at(tap, candidate, comparison) for candidate in found]
    left = moved.count(None)
    if left:
        graphs = comparison.teacher.graph, comparison.student.graph
        remarks.append(problems.no_such_tap(tap.value, left, *graphs))
    return unique(new or old for new, old in zip(moved, found, strict=True))


def _at(tap: Tap, candidate: Candidate, comparison: Comparison) -> Candidate | None:
    if candidate.kind not in _IN_BLOCKS:
        return candidate
    teacher = comparison.teacher.taps(candidate.teacher).get(tap)
    student = comparison.student.taps(candidate.student).get(tap)
    if teacher is None or student is None:
        return None
    return replace(candidate, teacher=teacher, student=student)


def pair_of(rank: int, candidate: Candidate, comparison: Comparison) -> Pair:
    """Make a Pair of a Candidate: score, relation, adapter, loss, reasons, warnings, other taps."""
    teacher, student = comparison.teacher, comparison.student
    sides = Sides(
        kind=candidate.kind,
        teacher=teacher,
        teacher_name=candidate.teacher,
        student=student,
        student_name=candidate.student,
    )
    relation = relation_of(sides)
    return Pair(
        rank=rank,
        score=comparison.fit(candidate.teacher, candidate.student),
        kind=candidate.kind,
        teacher=end_of(teacher.graph, teacher.graph.values[candidate.teacher]),
        student=end_of(student.graph, student.graph.values[candidate.student]),
        relation=relation,
        adapter=adapter_of(sides, relation),
        loss=loss_of(sides, relation),
        why=candidate.why + tuple(reasons(sides)),
        warnings=tuple(warnings(sides, relation)),
        alternatives=tuple(_alternatives(candidate, comparison)),
    )


def _alternatives(candidate: Candidate, comparison: Comparison) -> Iterator[Alternative]:
    """Yield the other taps of the same two blocks, where both blocks have them."""
    graphs = comparison.teacher.graph, comparison.student.graph
    for tap in Tap if candidate.kind in _IN_BLOCKS else ():
        other = _at(tap, candidate, comparison)
        if other is not None and other != candidate:
            yield Alternative(
                tap=tap,
                teacher=end_of(graphs[0], graphs[0].values[other.teacher]),
                student=end_of(graphs[1], graphs[1].values[other.student]),
            )


def _remarks(
    teacher: Structure, student: Structure, found: Sequence[Candidate]
) -> Iterator[Diagnostic]:
    if all(pair.kind in (Kind.LOGITS, Kind.EMBEDDING) for pair in found):
        yield problems.nothing_in_common(teacher.graph, student.graph, len(found))
    sizes = [(side.parameters, side.multiply_adds) for side in (teacher, student)]
    if sizes[0][0] < sizes[1][0] and sizes[0][1] < sizes[1][1]:
        ours, theirs = (f"{count:,}" for count, _ in sizes)
        yield problems.teacher_is_smaller(teacher.graph, student.graph, (ours, theirs))
    heads = len(teacher.heads), len(student.heads)
    if heads[0] != heads[1] and min(heads) > 0 and max(heads) > 1:
        yield problems.unequal_heads(teacher.graph, student.graph, heads)


def _unclear(teacher: Structure, student: Structure) -> Iterator[Diagnostic]:
    for role, side in (("teacher", teacher), ("student", student)):
        if any(not head.is_clear for head in side.heads):
            yield answer_problems.unclear_answer(role, teacher, student)
