"""Measure the minibatch CKA of the feature maps of two networks, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from graphtool.arguments import bad_argument
from graphtool.backend.paddle import Paddle, program_lock
from graphtool.backend.tensors import private_scope
from graphtool.diagnostics import Diagnostic, Report, Severity, UsageError
from graphtool.evidence import BATCHES, Evidence
from graphtool.evidence.networks import (
    NOT_BY_SAMPLE,
    Runner,
    check_apart,
    not_measured,
    open_network,
    runner_of,
)
from graphtool.evidence.samples import (
    RANDOM,
    batches_of,
    check_samples,
    random_samples,
    refuse_any,
)
from graphtool.sources import Source

__all__ = ["gather"]

# Samples are whatever the user has; Scopes are Paddle's, which has no types.
_Given: TypeAlias = Any
_Array: TypeAlias = npt.NDArray[np.float64]

# Memory and time grow with the square of the samples that are compared at once.
_MOST_SAMPLES = 128
# Of more features, only every k-th is kept.
_MOST_FEATURES = 65_536
# Variance below this share of the mean square is rounding: float32 has 2⁻²⁴, squared 4e-15.
_NEGLIGIBLE = 1e-12
_CALL = 'gt.suggest_pairs(teacher, student, evidence="samples.npz")'


def gather(
    teacher: Source,
    student: Source,
    names: tuple[Sequence[str], Sequence[str]],
    samples: _Given,
    *,
    batches: int = BATCHES,
    allow_random: bool = False,
    inputs: tuple[Sequence[str], Sequence[str]] = ((), ()),
    scopes: tuple[Paddle, Paddle] = (None, None),
) -> Iterator[Evidence]:
    """Run two networks on the same samples; yield, batch by batch, how similar their maps are.

    The score is minibatch CKA with linear kernels, from the unbiased HSIC₁: the mean over batches
    of the HSIC₁ of two maps, divided by the roots of the means of each map with itself. It is
    between -1 and 1, about 0 for unrelated maps, and independent of the numbers of channels.

    Every pair of the teacher's and the student's `names` is scored, except for those left out
    (GT380). The other arguments are as in `suggest_pairs`, and `inputs` as `read` takes them.

    Maps are pooled where they are computed, to means over a 4 × 4 grid, sequences to means over 16
    parts, and reduced to n × n Gram matrices. n is at most 128: a larger batch is divided. So
    memory does not grow with the number of batches. Each item is the evidence so far, and there is
    at least one; the last item is the result. Raises as `suggest_pairs` does.

    Source: Nguyen, Raghu and Kornblith 2021, Do Wide and Deep Networks Learn the Same Things?
    (arXiv 2010.15327), equations 2 and 3; HSIC₁ from Song et al. 2012, Feature Selection via
    Dependence Maximization, equation 5.
    """
    check_samples(samples)
    count: _Given = batches
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(bad_argument("batches", count, "a whole number from 1", _CALL))
    for name, scope in zip(("teacher_scope", "scope"), scopes, strict=True):
        if scope is not None and not hasattr(scope, "find_var"):
            raise UsageError(bad_argument(name, scope, "a Scope or None", _CALL))
    teacher_scope, student_scope = scopes
    first = student_scope if teacher_scope is None else teacher_scope
    with private_scope() as private, private_scope() as other:
        with program_lock():
            opened = (
                open_network(teacher, "teacher", private, inputs=inputs[0], scope=first),
                open_network(student, "student", other, inputs=inputs[1], scope=student_scope),
            )
        check_apart(*opened, teacher_scope_given=teacher_scope is not None)
        runners = (
            runner_of(opened[0], names[0], allow_random=allow_random),
            runner_of(opened[1], names[1], allow_random=allow_random),
        )
        if not all(runner.names for runner in runners):
            found = (one for runner in runners for one in _diagnostics(runner, ()))
            yield Evidence(batches=0, samples=0, scores={}, report=Report.of(found))
            return
        yield from _measured(runners, samples, batches)


def _measured(runners: tuple[Runner, Runner], samples: _Given, batches: int) -> Iterator[Evidence]:
    """Sum the HSIC₁ of all pairs of maps, and of each with itself, over the batches."""
    shape = tuple(len(runner.names) for runner in runners)
    cross = np.zeros(shape)
    norms = np.zeros(shape[0]), np.zeros(shape[1])
    total = 0
    is_noise = isinstance(samples, str) and samples == RANDOM
    taken = batches_of(samples, runners, batches=batches)
    for number, (feeds, count) in enumerate(taken, 1):
        pieces = -(-count // _MOST_SAMPLES)
        parts = list(pairwise(count * index // pieces for index in range(pieces + 1)))
        grams = (
            _grams(runner, feed, parts, number) for runner, feed in zip(runners, feeds, strict=True)
        )
        for (start, stop), of_teacher, of_student in zip(parts, *grams, strict=True):
            scale = 1 / ((stop - start) * (stop - start - 3))
            cross += scale * (of_teacher @ np.transpose(of_student))
            for sums, matrices in zip(norms, (of_teacher, of_student), strict=True):
                sums += scale * np.square(matrices).sum(axis=1)
        total += count
        roots = np.sqrt(np.outer(*norms))
        scores = {
            (teacher, student): float(cross[row, column] / roots[row, column])
            for row, teacher in enumerate(runners[0].names)
            for column, student in enumerate(runners[1].names)
            if teacher not in runners[0].unmeasured
            and student not in runners[1].unmeasured
            and roots[row, column] > 0
        }
        found = [random_samples()] if is_noise else []
        for runner, sums in zip(runners, norms, strict=True):
            named = zip(runner.names, sums, strict=True)
            found += _diagnostics(runner, [name for name, norm in named if norm <= 0])
        yield Evidence(batches=number, samples=total, scores=scores, report=Report.of(found))


def _grams(
    runner: Runner,
    feed: Mapping[str, np.ndarray[Any, Any]],
    parts: Sequence[tuple[int, int]],
    number: int,
) -> list[_Array]:
    """Run a batch; return for each part the flattened Gram matrices of all maps.

    Those of maps that cannot be measured are zeros, and `unmeasured` of the Runner gets the reason.

    Raises PairError: GT372, GT258.
    """
    maps, samples = runner.run(feed), parts[-1][1]
    grams = [np.zeros((len(runner.names), (stop - start) ** 2)) for start, stop in parts]
    for row, name in enumerate(runner.names):
        features = maps.pop(name)  # Each map is freed as soon as it is reduced.
        if not features.ndim or not features.shape[0] or features.shape[0] % samples:
            runner.unmeasured.setdefault(name, NOT_BY_SAMPLE)
            continue
        # Windows may be folded into the batch.
        features = np.reshape(features, (samples, -1))
        place, fix = runner.network.place_of(name), "images / numpy.abs(images).max()"
        refuse_any(np.isnan(features), "the feature maps", place, fix, number)
        if np.isinf(features).any():
            runner.unmeasured.setdefault(name, "it has infinities, as masked scores have")
            continue
        for (start, stop), matrices in zip(parts, grams, strict=True):
            matrices[row] = _u_centred_gram(features[start:stop])
    return grams


def _u_centred_gram(features: np.ndarray[Any, Any]) -> _Array:
    """Reduce features [n, d] to their U-centred n × n Gram matrix, flattened; zeros if constant.

    Source: the U-centred matrices of Székely and Rizzo 2014 (arXiv 1310.2926), whose inner product
    is the unbiased HSIC₁ of Song et al. 2012 with linear kernels.
    """
    count, width = len(features), int(features.shape[1])
    flat: _Array = np.array(features, np.float64)
    square = float(np.square(flat).sum())
    flat -= flat.mean(axis=0)
    if float(np.square(flat).sum()) <= _NEGLIGIBLE * square:
        return np.zeros(count * count)
    flat = flat[:, :: -(-width // _MOST_FEATURES)]
    matrix: _Array = flat @ np.transpose(flat)
    np.fill_diagonal(matrix, 0.0)
    rows: _Array = matrix.sum(axis=1) / (count - 2)
    matrix = matrix - rows[:, None] - rows[None, :] + rows.sum() / (count - 1)
    np.fill_diagonal(matrix, 0.0)
    return np.ravel(matrix)


def _diagnostics(runner: Runner, constant: Sequence[str]) -> Iterator[Diagnostic]:
    """Yield the diagnostics of a network, and of its maps without a score by reason."""
    yield from runner.report
    by_reason: dict[str, list[str]] = {}
    for name, reason in runner.unmeasured.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield not_measured(runner.network.where, names, reason)
    same = [name for name in constant if name not in runner.unmeasured]
    if same:
        yield not_measured(runner.network.where, same, "the same for all samples", Severity.WARNING)
