"""Evidence from data: how alike the feature maps of two networks are on a few batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, Report, UsageError
from graphtool.matching import evidence_problems as problems
from graphtool.matching._samples import RANDOM, check_samples
from graphtool.readers import Source
from graphtool.readers._paddle import load_paddle, one_at_a_time

if TYPE_CHECKING:
    from graphtool.matching._measuring import Measurement
    from graphtool.matching._opening import Opened
    from graphtool.matching._running import Runner

__all__ = ["BATCHES", "Evidence", "Similarity", "check_samples", "gather", "two_digits"]

# Samples are whatever the user has; Scopes are Paddle's, which has no types.
_Given: TypeAlias = Any
_Paddle: TypeAlias = Any

BATCHES = 4
_ROLES = "teacher", "student"
# A score that moves by this much without the directions that dominate rests on them.
_MUCH = 0.1
_CALL = 'gt.suggest_pairs(teacher, student, evidence="samples.npz")'


@dataclass(frozen=True, slots=True)
class Similarity:
    """CKA of two feature maps, from -1 to 1, and what it is without the directions that dominate.

    `trimmed` is None where nothing dominates either map, or nothing is left without it.
    """

    cka: float
    trimmed: float | None = None

    @property
    def dominated(self) -> bool:
        """Tell whether a few directions decide the score."""
        return self.trimmed is not None and abs(self.cka - self.trimmed) >= _MUCH

    def __str__(self) -> str:
        if self.trimmed is None or not self.dominated:
            return two_digits(self.cka)
        return f"{two_digits(self.cka)} ({two_digits(self.trimmed)} without outliers)"


def two_digits(cka: float) -> str:
    """Write a CKA as people read it: `0.97`."""
    return f"{round(cka, 2) + 0.0:.2f}"  # not -0.00


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """CKA of teacher with student Values by their names, and what is to be said about it.

    Pairs that could not be measured, or of which one end is constant, are absent.
    """

    batches: int
    samples: int
    scores: Mapping[tuple[str, str], Similarity]
    outliers: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    report: Report = field(default_factory=Report)

    def score(self, teacher: str, student: str) -> float | None:
        """Return the CKA of two Values, None where it is not known."""
        found = self.scores.get((teacher, student))
        return None if found is None else found.cka

    def best(self, student: str, teachers: Iterable[str]) -> str | None:
        """Return which of some teacher Values is most like a student Value, the first if several.

        None where none was measured.
        """
        known = [name for name in teachers if (name, student) in self.scores]
        return max(known, key=lambda name: self.scores[name, student].cka, default=None)

    def remarks(self, teacher: str, student: str) -> tuple[str, ...]:
        """Say what is known against the score of two Values: that outliers decide it."""
        found = self.scores.get((teacher, student))
        if found is None or not found.dominated:
            return ()
        ends = (("teacher", teacher), ("student", student))
        causes = "; ".join(
            f"{end[0]}: {self.outliers[end]}" for end in ends if end in self.outliers
        )
        return (f"outliers decide how alike they are on data: CKA {found}; {causes}",)


def gather(
    teacher: Source,
    student: Source,
    names: tuple[Sequence[str], Sequence[str]],
    samples: _Given,
    *,
    batches: int = BATCHES,
    batch_size: int | None = None,
    allow_random: bool = False,
    inputs: tuple[Sequence[str], Sequence[str]] = ((), ()),
    scopes: tuple[_Paddle, _Paddle] = (None, None),
) -> Iterator[Evidence]:
    """Run two networks on the same samples and yield, batch by batch, how alike their maps are.

    The score is minibatch CKA with linear kernels, from the unbiased HSIC₁: the mean over batches
    between two maps, divided by the roots of those of each with itself. It is between -1 and 1,
    about 0 for unrelated maps, and does not depend on the numbers of channels.

    `names` are the Values of either network, and those pairs of them are scored that were not left
    out (GT380). `samples` is the path of a `.npy` or `.npz`, `module:callable`, `random`, an array,
    a dict of arrays by feed name, a function that gives batches, or anything that yields them; so
    many `batches` of `batch_size` samples (32, or what a network is fixed to) are used at most.
    Samples that come in batches keep them. `inputs` are for `module:callable`, as `read` takes
    them. `scopes` hold the parameters of live Programs: the student's is the global one unless
    given, the teacher's that of the student. Two Programs with parameters of one name there are
    refused (GT384), unless the teacher's is given and what it holds fits both. A saved model has
    its own beside it; nothing of the user's is written to.

    Maps are pooled where they are made, to means over a 4 × 4 grid, sequences to means over 16
    parts, and reduced to their n × n Gram matrices, n = 128 at most: a larger batch is divided. So
    memory does not grow with the batches. What is yielded is the evidence so far, at least once;
    the last is what to go by.

    Raises PairError: GT371 to GT378 for samples that do not fit and for parameters that were never
    loaded, unless `allow_random`; GT384; GT385. Raises UsageError: GT370, GT379, and GT248 for
    numbers of batches that can't be and what is no Scope. Raises ReadError as `read` does.

    Source: Nguyen, Raghu and Kornblith 2021, Do Wide and Deep Networks Learn the Same Things?
    (arXiv 2010.15327), equations 2 and 3; HSIC₁ from Song et al. 2012, Feature Selection via
    Dependence Maximization, equation 5.
    """
    check_samples(samples)
    load_paddle()
    from graphtool.matching._cka import LEAST_SAMPLES
    from graphtool.matching._opening import check_apart, open_network
    from graphtool.matching._running import runner_of
    from graphtool.readers.tensors import private_scope

    _check_count("batches", batches, least=1)
    if batch_size is not None:
        _check_count("batch_size", batch_size, least=LEAST_SAMPLES)
    _check_scopes(scopes)
    held = scopes[1] if scopes[0] is None else scopes[0], scopes[1]

    def opened(place: int, source: Source) -> Opened:
        return open_network(source, _ROLES[place], inputs=inputs[place], scope=held[place])

    with one_at_a_time():
        left, right = opened(0, teacher), opened(1, student)
    check_apart(left, right, meant=scopes[0] is not None)
    with private_scope() as theirs, private_scope() as ours:
        runners = (
            runner_of(left, names[0], theirs, allow_random=allow_random),
            runner_of(right, names[1], ours, allow_random=allow_random),
        )
        if not all(one.axes for one in runners):
            said = (found for one in runners for found in one.report)
            yield Evidence(batches=0, samples=0, scores={}, report=Report.of(said))
            return
        yield from _measured(runners, samples, batches, batch_size)


def _measured(
    runners: tuple[Runner, Runner], samples: _Given, batches: int, size: int | None
) -> Iterator[Evidence]:
    from graphtool.matching._batches import Reader, batches_of
    from graphtool.matching._measuring import Measurement

    left, right = (Reader(one.role, one.graph.source, one.feeds) for one in runners)
    noise = isinstance(samples, str) and samples == RANDOM
    measurement = Measurement.of(*runners)
    for batch in batches_of(samples, (left, right), batches=batches, size=size):
        measurement.add(batch)
        yield _found(measurement, runners, noise=noise)


def _found(measurement: Measurement, runners: Iterable[Runner], *, noise: bool) -> Evidence:
    found = Evidence(
        batches=measurement.batches,
        samples=measurement.samples,
        scores={
            (ours, theirs): Similarity(cka, trimmed)
            for ours, theirs, cka, trimmed in measurement.scores()
        },
        outliers=measurement.outliers(),
    )
    said = (*measurement.said(), *_dominated(found, runners))
    if noise:
        said = (problems.evidence_of_noise(), *said)
    return replace(found, report=Report.of(said))


def _check_count(name: str, given: object, *, least: int) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise UsageError(bad_argument(name, given, f"a whole number from {least}", _CALL))


def _check_scopes(scopes: tuple[_Paddle, _Paddle]) -> None:
    for name, given in zip(("teacher_scope", "scope"), scopes, strict=True):
        if not (given is None or hasattr(given, "find_var")):
            raise UsageError(bad_argument(name, given, "a Scope or None", _CALL))


def _dominated(found: Evidence, runners: Iterable[Runner]) -> Iterator[Diagnostic]:
    """Yield for each network which of its maps have scores that outliers decide."""
    pairs = [pair for pair, score in found.scores.items() if score.dominated]
    for place, runner in enumerate(runners):
        decided = {pair[place] for pair in pairs}
        causes = {
            name: found.outliers[runner.role, name]
            for name in runner.axes
            if name in decided and (runner.role, name) in found.outliers
        }
        if causes:
            yield problems.outliers_decide(runner.role, runner.graph.source, causes)
