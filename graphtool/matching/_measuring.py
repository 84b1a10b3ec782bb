"""Add up what batches show of the feature maps of two networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from graphtool.diagnostics import Diagnostic, PairError, Where, counted
from graphtool.matching import evidence_problems as problems
from graphtool.matching._batches import Batch
from graphtool.matching._cka import Reduced, Tally, reduced
from graphtool.matching._running import NOT_BY_SAMPLE, Runner

__all__ = ["Measurement"]

_Array: TypeAlias = "np.ndarray[Any, Any]"

# Memory and time grow with the square of the samples that are compared at once.
_AT_ONCE = 128
# A channel, or a sample, with this share is worth naming.
_MOST = 0.5


@dataclass(kw_only=True, eq=False)
class _Outliers:
    """Sums over batches of what dominates a feature map."""

    variances: _Array
    share: float = 0.0
    sample: float = 0.0
    directions: int = 0
    batches: int = 0

    def add(self, found: Reduced) -> None:
        self.variances = self.variances + found.variances
        self.share += found.share
        self.sample += found.sample
        self.directions = max(self.directions, found.removed)
        self.batches += 1

    def __str__(self) -> str:
        whole = float(self.variances.sum()) or 1.0
        channel = int(self.variances.argmax())
        if (share := float(self.variances[channel]) / whole) >= _MOST:
            return f"channel {channel} of {len(self.variances)} has {share:.0%} of its variance"
        if (share := self.sample / self.batches) >= _MOST:
            return f"one sample in each batch has {share:.0%} of its leading direction"
        share = self.share / self.batches
        verb = "has" if self.directions == 1 else "have"
        return f"{counted(self.directions, 'direction')} {verb} {share:.0%} of its variance"


@dataclass(kw_only=True, eq=False)
class _Side:
    """One network, and what dominates each of its maps; `refused` are those without a score."""

    runner: Runner
    outliers: dict[str, _Outliers] = field(default_factory=dict[str, _Outliers])
    refused: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.runner.axes)

    def measure(self, feed: Any, count: int, number: int) -> list[tuple[Reduced | None, ...]]:
        """Run a batch and reduce each map, by parts; None is for those that have no score."""
        maps, parts = self.runner.run(feed, count), _parts(count)
        # Each is let go as soon as it is reduced.
        by_map = [self._reduce(name, maps.pop(name), parts, number) for name in self.names]
        return list(zip(*by_map, strict=True))

    def _reduce(
        self, name: str, features: _Array | None, parts: Sequence[slice], number: int
    ) -> list[Reduced] | list[None]:
        if features is None:
            self.refused.setdefault(name, NOT_BY_SAMPLE)
        elif np.isnan(features).any():
            sample = int(np.argwhere(np.isnan(features))[0][0]) + 1
            raise PairError(self._not_finite(name, number, sample))
        elif np.isinf(features).any():
            self.refused.setdefault(name, "it has infinities, as masked scores have")
        if features is None or name in self.refused:
            return [None] * len(parts)
        axis = features.ndim + self.runner.axes[name]
        found = [reduced(features[part], axis) for part in parts]
        outliers = self.outliers.setdefault(name, _Outliers(variances=np.zeros(1)))
        for part in found:
            outliers.add(part)
        return found

    def _not_finite(self, name: str, number: int, sample: int) -> Diagnostic:
        graph = self.runner.graph
        shape = graph.values[name].shape
        place = Where(role=self.runner.role, program=graph.source, value=name, shape=shape)
        return problems.not_finite(place, what="feature maps", batch=number, sample=sample)

    def said(self, constant: Iterable[str]) -> Iterator[Diagnostic]:
        """Yield what is to be said about the network and its maps."""
        role, program = self.runner.role, self.runner.graph.source
        yield from self.runner.report
        reasons: dict[str, list[str]] = {}
        for name, reason in self.refused.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            yield problems.not_measured(role, program, names, reason)
        names = [name for name in constant if name not in self.refused]
        if names:
            yield problems.constant_maps(role, program, names)


def _parts(count: int) -> list[slice]:
    """Divide a batch into as few parts as may be, of about one size."""
    number = -(-count // _AT_ONCE)
    bounds = [count * index // number for index in range(number + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


@dataclass(kw_only=True, eq=False)
class Measurement:
    """Two networks and the sums over the batches that they were run on."""

    sides: tuple[_Side, _Side]
    whole: Tally
    trimmed: Tally
    batches: int = 0
    samples: int = 0

    @classmethod
    def of(cls, teacher: Runner, student: Runner) -> Measurement:
        """Start with no batch."""
        sizes = len(teacher.axes), len(student.axes)
        return cls(
            sides=(_Side(runner=teacher), _Side(runner=student)),
            whole=Tally.of(*sizes),
            trimmed=Tally.of(*sizes),
        )

    def add(self, batch: Batch) -> None:
        """Run both networks on a batch and add up what comes out, by parts where it is large.

        Raises PairError: GT375, GT378.
        """
        number = self.batches + 1
        feeds = batch.teacher, batch.student
        ours, theirs = (
            side.measure(feed, batch.count, number)
            for side, feed in zip(self.sides, feeds, strict=True)
        )
        for part, left, right in zip(_parts(batch.count), ours, theirs, strict=True):
            nothing = np.zeros((part.stop - part.start) ** 2)
            for tally, kept in ((self.whole, "similar"), (self.trimmed, "trimmed")):
                tally.add(
                    np.stack([nothing if one is None else getattr(one, kept) for one in left]),
                    np.stack([nothing if one is None else getattr(one, kept) for one in right]),
                )
        self.batches, self.samples = number, self.samples + batch.count

    def scores(self) -> Iterator[tuple[str, str, float, float | None]]:
        """Yield the score of each pair that has one, and that without what dominates, if any."""
        teacher, student = self.sides
        whole, trimmed = self.whole.cka(), self.trimmed.cka()
        for row, ours in enumerate(teacher.names):
            for column, theirs in enumerate(student.names):
                score, without = float(whole[row, column]), float(trimmed[row, column])
                dominated = self._dominates(teacher, ours) or self._dominates(student, theirs)
                if np.isnan(score) or ours in teacher.refused or theirs in student.refused:
                    continue
                known = dominated and not np.isnan(without)
                yield ours, theirs, score, without if known else None

    def _dominates(self, side: _Side, name: str) -> bool:
        return name in side.outliers and side.outliers[name].directions > 0

    def outliers(self) -> dict[tuple[str, str], str]:
        """Say what dominates maps, by role and name."""
        return {
            (side.runner.role, name): str(found)
            for side in self.sides
            for name, found in side.outliers.items()
            if found.directions
        }

    def said(self) -> Iterator[Diagnostic]:
        """Yield what is to be said about both networks."""
        selves = self.whole.teacher, self.whole.student
        for side, norms in zip(self.sides, selves, strict=True):
            yield from side.said(
                name for name, norm in zip(side.names, norms, strict=True) if norm <= 0
            )
