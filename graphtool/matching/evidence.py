"""Measure how similar the feature maps of two networks are on a few batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.arguments import bad_argument
from graphtool.backend.paddle import Paddle, load_paddle, program_lock
from graphtool.diagnostics import Diagnostic, Report, UsageError
from graphtool.matching import evidence_problems as problems
from graphtool.matching._samples import RANDOM, check_samples
from graphtool.sources import Source

if TYPE_CHECKING:
    from graphtool.matching._measuring import Measurement
    from graphtool.matching._running import Runner

__all__ = ["BATCHES", "Evidence", "Similarity", "check_samples", "cka_text", "gather"]

# Samples are whatever the user has; Scopes are Paddle's, which has no types.
_Given: TypeAlias = Any

BATCHES = 4
# Dominant directions decide a score that changes by this much without them.
_MARGIN = 0.1
_CALL = 'gt.suggest_pairs(teacher, student, evidence="samples.npz")'


@dataclass(frozen=True, slots=True)
class Similarity:
    """CKA of two feature maps, from -1 to 1, and `trimmed`, that without dominant directions.

    `trimmed` is None where no direction dominates either map, or nothing is left without them.
    """

    cka: float
    trimmed: float | None = None

    @property
    def dominated(self) -> bool:
        """Return whether a few directions decide the score."""
        return self.trimmed is not None and abs(self.cka - self.trimmed) >= _MARGIN

    def __str__(self) -> str:
        if self.trimmed is None or not self.dominated:
            return cka_text(self.cka)
        return f"{cka_text(self.cka)} ({cka_text(self.trimmed)} without outliers)"


def cka_text(cka: float) -> str:
    """Return a CKA as text: `0.97`."""
    return f"{round(cka, 2) + 0.0:.2f}"  # not -0.00


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """CKA of teacher and student Values by their names, and diagnostics.

    `outliers` describes by role and name what dominates a map. Pairs that could not be measured, or
    with a constant end, are absent.
    """

    batches: int
    samples: int
    scores: Mapping[tuple[str, str], Similarity]
    outliers: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    report: Report = field(default_factory=Report)

    def score(self, teacher: str, student: str) -> float | None:
        """Return the CKA of two Values, None where it is unknown."""
        similarity = self.scores.get((teacher, student))
        return None if similarity is None else similarity.cka

    def best(self, student: str, teachers: Iterable[str]) -> str | None:
        """Return the teacher Value most similar to a student Value, the first of equal ones.

        Return None where no pair was measured.
        """
        measured = [name for name in teachers if (name, student) in self.scores]
        return max(measured, key=lambda name: self.scores[name, student].cka, default=None)

    def remarks(self, teacher: str, student: str) -> tuple[str, ...]:
        """Return a warning where outliers decide the score of two Values."""
        similarity = self.scores.get((teacher, student))
        if similarity is None or not similarity.dominated:
            return ()
        ends = (("teacher", teacher), ("student", student))
        causes = "; ".join(
            f"{end[0]}: {self.outliers[end]}" for end in ends if end in self.outliers
        )
        return (f"outliers decide how alike they are on data: CKA {similarity}; {causes}",)


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
    scopes: tuple[Paddle, Paddle] = (None, None),
) -> Iterator[Evidence]:
    """Run two networks on the same samples; yield, batch by batch, how similar their maps are.

    The score is minibatch CKA with linear kernels, from the unbiased HSIC₁: the mean over batches
    of the HSIC₁ of two maps, divided by the roots of the means of each map with itself. It is
    between -1 and 1, about 0 for unrelated maps, and independent of the numbers of channels.

    `names` are the teacher's and the student's Values; every pair of them is scored, except for
    those left out (GT380). `samples` is the path of a `.npy` or `.npz`, `module:callable`,
    `random`, an array, a dict of arrays by feed name, a function that returns batches, or an
    iterable of them. At most `batches` batches of `batch_size` samples are used (32, or the size
    that a network is fixed to); samples that come in batches keep their size. `inputs` are for
    `module:callable`, as `read` takes them. `scopes` hold the parameters of live Programs: the
    global Scope for the student unless given, the student's for the teacher unless given. Two
    Programs whose parameters have equal names in one Scope are refused (GT384), unless the
    teacher's Scope is given and its tensors fit both. A saved model has its parameters beside it.
    Nothing of the user's is written to.

    Maps are pooled where they are computed, to means over a 4 × 4 grid, sequences to means over 16
    parts, and reduced to n × n Gram matrices. n is at most 128: a larger batch is divided. So
    memory does not grow with the number of batches. Each item is the evidence so far, and there is
    at least one; the last item is the result.

    Raises PairError: GT370, GT372, GT256 and GT258 for unusable samples; GT376 for parameters that
    were never loaded, unless `allow_random`; GT384; GT385. Raises UsageError: GT370, and GT248 for
    invalid numbers of batches and for what is not a Scope. Raises ReadError as `read` does.

    Source: Nguyen, Raghu and Kornblith 2021, Do Wide and Deep Networks Learn the Same Things?
    (arXiv 2010.15327), equations 2 and 3; HSIC₁ from Song et al. 2012, Feature Selection via
    Dependence Maximization, equation 5.
    """
    check_samples(samples)
    load_paddle()
    from graphtool.backend.tensors import private_scope
    from graphtool.matching._cka import LEAST_SAMPLES
    from graphtool.matching._opening import check_apart, open_network
    from graphtool.matching._running import runner_of

    _check_count("batches", batches, least=1)
    if batch_size is not None:
        _check_count("batch_size", batch_size, least=LEAST_SAMPLES)
    _check_scopes(scopes)
    teacher_scope, student_scope = scopes
    if teacher_scope is None:
        teacher_scope = student_scope

    with program_lock():
        opened_teacher = open_network(teacher, "teacher", inputs=inputs[0], scope=teacher_scope)
        opened_student = open_network(student, "student", inputs=inputs[1], scope=student_scope)
    check_apart(opened_teacher, opened_student, teacher_scope_given=scopes[0] is not None)
    with private_scope() as private_teacher, private_scope() as private_student:
        runners = (
            runner_of(opened_teacher, names[0], private_teacher, allow_random=allow_random),
            runner_of(opened_student, names[1], private_student, allow_random=allow_random),
        )
        if not all(runner.axes for runner in runners):
            diagnostics = (found for runner in runners for found in runner.report)
            yield Evidence(batches=0, samples=0, scores={}, report=Report.of(diagnostics))
            return
        yield from _measured(runners, samples, batches, batch_size)


def _measured(
    runners: tuple[Runner, Runner], samples: _Given, batches: int, size: int | None
) -> Iterator[Evidence]:
    from graphtool.matching._batches import NetworkFeeds, batches_of
    from graphtool.matching._measuring import Measurement

    teacher, student = (
        NetworkFeeds(runner.role, runner.graph.source, runner.feeds) for runner in runners
    )
    is_noise = isinstance(samples, str) and samples == RANDOM
    measurement = Measurement.of(*runners)
    for batch in batches_of(samples, (teacher, student), batches=batches, size=size):
        measurement.add(batch)
        yield _evidence_of(measurement, runners, is_noise=is_noise)


def _evidence_of(
    measurement: Measurement, runners: Iterable[Runner], *, is_noise: bool
) -> Evidence:
    evidence = Evidence(
        batches=measurement.batches,
        samples=measurement.samples,
        scores={
            (teacher, student): Similarity(cka, trimmed)
            for teacher, student, cka, trimmed in measurement.scores()
        },
        outliers=measurement.outliers(),
    )
    diagnostics = (*measurement.diagnostics(), *_decided_by_outliers(evidence, runners))
    if is_noise:
        diagnostics = (problems.random_samples(), *diagnostics)
    return replace(evidence, report=Report.of(diagnostics))


def _check_count(name: str, given: object, *, least: int) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise UsageError(bad_argument(name, given, f"a whole number from {least}", _CALL))


def _check_scopes(scopes: tuple[Paddle, Paddle]) -> None:
    for name, given in zip(("teacher_scope", "scope"), scopes, strict=True):
        if not (given is None or hasattr(given, "find_var")):
            raise UsageError(bad_argument(name, given, "a Scope or None", _CALL))


def _decided_by_outliers(evidence: Evidence, runners: Iterable[Runner]) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each network that has maps whose scores outliers decide."""
    pairs = [pair for pair, similarity in evidence.scores.items() if similarity.dominated]
    for index, runner in enumerate(runners):
        decided = {pair[index] for pair in pairs}
        causes = {
            name: evidence.outliers[runner.role, name]
            for name in runner.axes
            if name in decided and (runner.role, name) in evidence.outliers
        }
        if causes:
            yield problems.dominant_outliers(runner.role, runner.graph.source, causes)
