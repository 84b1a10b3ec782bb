"""Read pairs from the distillation configurations of PaddleClas, PaddleOCR and PaddleSlim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    ReadError,
    Report,
    Severity,
    counted,
    listed,
)
from graphtool.graph import Graph
from graphtool.matching import problems
from graphtool.matching._entry import Entry, Loss, Name, Read, Unknown, Unread, Wanted
from graphtool.matching.candidate import Candidate, common_pair_kind
from graphtool.matching.candidates import candidates
from graphtool.matching.pairs import Kind, Pair
from graphtool.matching.score import Scorer
from graphtool.matching.suggest import pair_of
from graphtool.selectors import find, is_unknown_name
from graphtool.structure import Structure, analyse

__all__ = ["pairs_of_entries"]

# A name that is missed is compared with all there are, which takes up to 0.05 s.
_MOST_ERRORS = 20
_LISTED_REASONS = 8


def pairs_of_entries(
    entries: Sequence[Read], teacher: Graph, student: Graph
) -> tuple[list[Pair | None], list[Diagnostic]]:
    """Find the Values of entries, in order: a Pair for each that has both, None for the others.

    Returns the diagnostics as well: GT101, GT102 and GT303 for names that mean no feature map,
    GT314 for unknown losses, GT310 for repeated pairs, GT325 for entries that were not read, or
    with another loss. Stops after twenty errors.

    Raises PairError: GT324 if nothing is read as a pair.
    """
    job = _Job(Scorer(analyse(teacher), analyse(student)))
    pairs: list[Pair | None] = []
    for entry in entries:
        pairs.append(job.pair(entry))
        if len(Report(tuple(job.said)).errors) >= _MOST_ERRORS:
            break
    if not any(pairs) and not any(found.code != "GT325" for found in job.said):
        reasons = [found.message for found in job.said]
        left = len(reasons) - _LISTED_REASONS
        more = (f"and {counted(left, 'more reason')}",) if left > 0 else ()
        raise PairError(
            problems.bad_configuration(
                "no pair can be read from the configuration",
                where=problems.both_places(teacher, student),
                notes=(*reasons[:_LISTED_REASONS], *more),
            )
        )
    return pairs, job.said


class _Job:
    """The two networks, what was said so far, and the entry that each pair is read from."""

    def __init__(self, comparison: Scorer) -> None:
        self.comparison = comparison
        self.said: list[Diagnostic] = []
        self._first: dict[tuple[str, str, str], Entry] = {}

    def pair(self, entry: Read) -> Pair | None:
        """Make a Pair of an entry, and say what stands against it."""
        if isinstance(entry, Unread):
            self._unread(entry)
            return None
        if isinstance(entry, Unknown):
            self.said.append(
                problems.unknown_loss(entry.place, entry.loss, entry.known, entry.typed)
            )
            return None
        ends = [self._end(entry, side) for side in self._sides(entry)]
        names = [end for end in ends if end is not None]
        if len(names) < 2:
            return None
        pair = self._made(entry, *names)
        return pair if self._is_new(entry, pair) else None

    def _is_new(self, entry: Entry, pair: Pair) -> bool:
        """Refuse what another entry says as well; with a replaced loss it may be another loss."""
        names, loss = (pair.teacher.name, pair.student.name), entry.loss
        first = self._first.setdefault((*names, pair.loss), entry)
        if first is entry:
            if loss.unlike is not None or loss.strange:
                self.said.append(_other_loss(entry.place, loss, pair.loss))
            return True
        if loss.unlike is first.loss.unlike is None:
            self.said.append(problems.duplicate_pair(first.place, entry.place, *names))
        else:
            reason = f"with a loss of graphtool it repeats `{first.place}`"
            self._unread(Unread(place=entry.place, reason=reason))
        return False

    def _made(self, entry: Entry, teacher: str, student: str) -> Pair:
        sides = self.comparison.teacher, teacher, self.comparison.student, student
        kind = common_pair_kind(*sides) if entry.kind is None else entry.kind
        candidate = Candidate(kind, teacher, student, why=())
        pair = pair_of(len(self._first) + 1, candidate, self.comparison)
        return replace(
            pair,
            loss=pair.loss if entry.loss.ours is None else entry.loss.ours,
            weight=entry.weight,
            adapter=pair.adapter if entry.loss.may_adapt else entry.adapter,
            why=(f"read from `{entry.place}`",),
            alternatives=(),
        )

    def _sides(self, entry: Entry) -> Iterator[_Side]:
        yield _Side("teacher", 0, self.comparison.teacher, entry.teacher)
        yield _Side("student", 1, self.comparison.student, entry.student)

    def _end(self, entry: Entry, side: _Side) -> str | None:
        """Return the name of the Value that is meant, None where that has to be said."""
        found = self._found(side)
        if isinstance(found, ReadError):
            note = f"named by `{entry.place}` for the {side.role}"
            self.said += [replace(one, notes=(note, *one.notes)) for one in found.report]
            return None
        if isinstance(found, _Unsaid):
            self._unread(Unread(place=entry.place, reason=f"in the {side.role}, {found.reason}"))
            return None
        if found not in side.structure.flow.features:
            self.said.append(problems.no_feature_map(side.structure, found, side.role))
            return None
        return found

    def _found(self, side: _Side) -> str | ReadError | _Unsaid:
        if side.name.wanted is Wanted.VALUE:
            return _selected(side.structure.graph, side.name)
        if side.name.wanted is Wanted.OUTPUT and isinstance(self._outputs, tuple):
            return self._outputs[side.place]
        (part,) = side.name.spellings or ("",)
        values = _returned_by(side.structure.graph, part)
        if len(values) == 1:
            return values[0]
        if side.name.wanted is Wanted.OUTPUT and isinstance(self._outputs, _Unsaid):
            return self._outputs
        if values:
            return _Unsaid(f"`{part}` returns {len(values)} Values")
        return _Unsaid(f"no sublayer `{part}` is known, which returns `{side.name.written}`")

    @cached_property
    def _outputs(self) -> tuple[str, str] | _Unsaid:
        """The logits of both networks, where it is clear which those are."""
        heads = self.comparison.teacher.heads, self.comparison.student.heads
        if len(heads[0]) == len(heads[1]) == 1:
            return heads[0][0].logits, heads[1][0].logits
        found = [one for one in candidates(self.comparison) if one.kind is Kind.LOGITS]
        if len(found) == 1:
            return found[0].teacher, found[0].student
        counts = " and ".join(str(len(side)) for side in heads)
        return _Unsaid(f"it is not clear which output is meant: the two have {counts}")

    def _unread(self, entry: Unread) -> None:
        explain = None if entry.severity is Severity.NOTE else "graphtool explain GT325"
        message = f"`{entry.place}` is not a pair: {entry.reason}"
        self.said.append(problems.unread_entry(message, entry.severity, help=explain))


def _other_loss(place: str, loss: Loss, read_as: str) -> Diagnostic:
    """Report an entry that is read with another loss, or that has unknown options."""
    reasons = [] if loss.unlike is None else [loss.unlike]
    if loss.strange:
        reasons.append(f"there is no option {listed(loss.strange)}")
    return problems.unread_entry(
        f"`{place}`: {'; '.join(reasons)}; read with `{read_as}`",
        Severity.WARNING if loss.strange else Severity.NOTE,
        notes=(f"known options: {listed(loss.takes, len(loss.takes))}",) if loss.strange else (),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    role: str
    place: int
    structure: Structure
    name: Name


@dataclass(frozen=True, slots=True)
class _Unsaid:
    """Why a network has no Value for what is written."""

    reason: str


def _selected(graph: Graph, name: Name) -> str | ReadError:
    """Return the Value that the first spelling means that means any."""
    found = [_meant(graph, spelling) for spelling in name.spellings]
    known = (one for one in found if isinstance(one, str) or not is_unknown_name(one))
    return next(known, found[0])


def _meant(graph: Graph, spelling: str) -> str | ReadError:
    try:
        return find(graph, spelling).name
    except ReadError as error:
        return error


def _returned_by(graph: Graph, path: str) -> list[str]:
    return [value.name for value in graph.values.values() if path in value.layer_outputs]
