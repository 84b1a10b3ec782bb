"""Run two networks batch by batch and accumulate the similarity of their feature maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from graphtool.diagnostics import Diagnostic, PairError, Severity, Where, counted
from graphtool.matching import evidence_problems as problems
from graphtool.matching._batches import Batch
from graphtool.matching._cka import HsicSums, MapSummary, summarise
from graphtool.matching._running import NOT_BY_SAMPLE, Runner

__all__ = ["Measurement"]

_Array: TypeAlias = "np.ndarray[Any, Any]"

# Memory and time grow with the square of the samples that are compared at once.
_MOST_SAMPLES = 128
# A channel, or a sample, with this share is named.
_NAMED_SHARE = 0.5


@dataclass(kw_only=True, eq=False)
class _Outliers:
    """Sums over batches of what dominates a feature map."""

    variances: _Array
    share: float = 0.0
    sample: float = 0.0
    directions: int = 0
    batches: int = 0

    def add(self, summary: MapSummary) -> None:
        self.variances = self.variances + summary.variances
        self.share += summary.share
        self.sample += summary.sample
        self.directions = max(self.directions, summary.removed)
        self.batches += 1

    def __str__(self) -> str:
        total = float(self.variances.sum()) or 1.0
        channel = int(self.variances.argmax())
        if (share := float(self.variances[channel]) / total) >= _NAMED_SHARE:
            return f"channel {channel} of {len(self.variances)} has {share:.0%} of its variance"
        if (share := self.sample / self.batches) >= _NAMED_SHARE:
            return f"one sample in each batch has {share:.0%} of its leading direction"
        share = self.share / self.batches
        verb = "has" if self.directions == 1 else "have"
        return f"{counted(self.directions, 'direction')} {verb} {share:.0%} of its variance"


@dataclass(kw_only=True, eq=False)
class _MeasuredNetwork:
    """One network, the outliers of each map, and by name why a map has no score."""

    runner: Runner
    outliers: dict[str, _Outliers] = field(default_factory=dict[str, _Outliers])
    unmeasured: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.runner.axes)

    def measure(self, feed: Any, count: int, number: int) -> list[tuple[MapSummary | None, ...]]:
        """Run a batch and summarise each map, part by part; None stands for unmeasured maps."""
        maps, parts = self.runner.run(feed, count), _parts(count)
        # Each map is freed as soon as it is summarised.
        by_map = [self._summarise(name, maps.pop(name), parts, number) for name in self.names]
        return list(zip(*by_map, strict=True))

    def _summarise(
        self, name: str, features: _Array | None, parts: Sequence[slice], number: int
    ) -> list[MapSummary] | list[None]:
        if features is None:
            self.unmeasured.setdefault(name, NOT_BY_SAMPLE)
        elif np.isnan(features).any():
            sample = int(np.argwhere(np.isnan(features))[0][0]) + 1
            raise PairError(self._not_finite(name, number, sample))
        elif np.isinf(features).any():
            self.unmeasured.setdefault(name, "it has infinities, as masked scores have")
        if features is None or name in self.unmeasured:
            return [None] * len(parts)
        axis = features.ndim + self.runner.axes[name]
        summaries = [summarise(features[part], axis) for part in parts]
        outliers = self.outliers.setdefault(name, _Outliers(variances=np.zeros(1)))
        for summary in summaries:
            outliers.add(summary)
        return summaries

    def _not_finite(self, name: str, number: int, sample: int) -> Diagnostic:
        graph = self.runner.graph
        shape = graph.values[name].shape
        place = Where(role=self.runner.role, program=graph.source, value=name, shape=shape)
        return problems.unusable_evidence(
            f"the feature maps have a NaN or an infinity: batch {number}, sample {sample}, both "
            "from 1",
            (place,),
            help="images / numpy.abs(images).max()",
        )

    def diagnostics(self, constant: Iterable[str]) -> Iterator[Diagnostic]:
        """Yield the diagnostics of the network and its maps."""
        role, program = self.runner.role, self.runner.graph.source
        yield from self.runner.report
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.unmeasured.items():
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            yield problems.not_measured(role, program, names, reason)
        names = [name for name in constant if name not in self.unmeasured]
        if names:
            reason = "the same for all samples"
            yield problems.not_measured(role, program, names, reason, Severity.WARNING)

    def removed(self, name: str) -> int:
        """Return the number of dominant directions of a map, 0 where it has none."""
        return self.outliers[name].directions if name in self.outliers else 0


def _parts(count: int) -> list[slice]:
    """Divide a batch into as few parts as possible, of about equal size."""
    number = -(-count // _MOST_SAMPLES)
    bounds = [count * index // number for index in range(number + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


@dataclass(kw_only=True, eq=False)
class Measurement:
    """Two networks, and the sums over the batches that they ran on."""

    teacher: _MeasuredNetwork
    student: _MeasuredNetwork
    full: HsicSums
    trimmed: HsicSums
    batches: int = 0
    samples: int = 0

    @classmethod
    def of(cls, teacher: Runner, student: Runner) -> Measurement:
        """Return a Measurement without any batch."""
        sizes = len(teacher.axes), len(student.axes)
        return cls(
            teacher=_MeasuredNetwork(runner=teacher),
            student=_MeasuredNetwork(runner=student),
            full=HsicSums.of(*sizes),
            trimmed=HsicSums.of(*sizes),
        )

    def add(self, batch: Batch) -> None:
        """Run both networks on a batch and add the result, by parts where it is large.

        Raises PairError: GT372, GT258.
        """
        number = self.batches + 1
        teacher = self.teacher.measure(batch.teacher, batch.count, number)
        student = self.student.measure(batch.student, batch.count, number)
        for part, of_teacher, of_student in zip(_parts(batch.count), teacher, student, strict=True):
            nothing = np.zeros((part.stop - part.start) ** 2)
            for sums, matrix in ((self.full, "gram"), (self.trimmed, "trimmed")):
                sums.add(
                    np.stack(
                        [nothing if one is None else getattr(one, matrix) for one in of_teacher]
                    ),
                    np.stack(
                        [nothing if one is None else getattr(one, matrix) for one in of_student]
                    ),
                )
        self.batches, self.samples = number, self.samples + batch.count

    def scores(self) -> Iterator[tuple[str, str, float, float | None]]:
        """Yield both names of each measured pair, its CKA, and that without dominant directions."""
        full, trimmed = self.full.cka(), self.trimmed.cka()
        for row, teacher in enumerate(self.teacher.names):
            for column, student in enumerate(self.student.names):
                score, trimmed_score = float(full[row, column]), float(trimmed[row, column])
                if teacher in self.teacher.unmeasured or student in self.student.unmeasured:
                    continue
                if np.isnan(score):
                    continue
                removed = self.teacher.removed(teacher) + self.student.removed(student)
                is_known = removed > 0 and not np.isnan(trimmed_score)
                yield teacher, student, score, trimmed_score if is_known else None

    def outliers(self) -> dict[tuple[str, str], str]:
        """Describe what dominates maps, by role and name."""
        return {
            (network.runner.role, name): str(outliers)
            for network in (self.teacher, self.student)
            for name, outliers in network.outliers.items()
            if outliers.directions
        }

    def diagnostics(self) -> Iterator[Diagnostic]:
        """Yield the diagnostics of both networks."""
        for network, norms in (
            (self.teacher, self.full.teacher),
            (self.student, self.full.student),
        ):
            yield from network.diagnostics(
                name for name, norm in zip(network.names, norms, strict=True) if norm <= 0
            )
