"""Minibatch CKA with linear kernels, of many feature maps at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_SAMPLES", "HsicSums", "MapSummary", "summarise"]

_Array: TypeAlias = npt.NDArray[np.float64]

# The unbiased estimator divides by n - 3.
LEAST_SAMPLES = 4
# Of more features, only every k-th is kept.
_MOST_FEATURES = 65_536
# A direction with this share of the remaining variance is dominant. At most three are removed, and
# at most an eighth of all: five logits have a leading direction by nature.
_DOMINANT_SHARE = 0.5
_MOST_REMOVED = 3
_LEAST_DIRECTIONS_PER_REMOVED = 8
# Variance below this share of the mean square is rounding: float32 has 2⁻²⁴, squared 4e-15.
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapSummary:
    """What is kept of one feature map and one batch of n samples.

    `gram` and `trimmed` are flattened U-centred n × n Gram matrices, `trimmed` without the dominant
    directions, of which there are `removed`. `variances` are those of the channels, summed over
    samples and positions. `share` is the share of the variance that the removed directions have, 0
    where there are none; `sample` is the share of the heaviest sample in the first of them.
    """

    gram: _Array
    trimmed: _Array
    variances: _Array
    removed: int
    share: float
    sample: float


def summarise(features: np.ndarray[Any, Any], axis: int) -> MapSummary:
    """Reduce features [n samples, ...] to their Gram matrix; `axis` is the channel axis.

    Source: the U-centred matrices of Székely and Rizzo 2014 (arXiv 1310.2926), whose inner product
    is the unbiased HSIC₁ of Song et al. 2012 with linear kernels.
    """
    centred = features.astype(np.float64)
    square = float(np.square(centred).sum())
    centred -= centred.mean(axis=0)
    others = tuple(other for other in range(centred.ndim) if other != axis)
    variances: _Array = np.square(centred).sum(axis=others)
    flat = centred.reshape(len(centred), -1)
    flat = flat[:, :: -(-flat.shape[1] // _MOST_FEATURES)]
    gram = flat @ np.transpose(flat)
    if variances.sum() <= _NEGLIGIBLE * square:
        gram, variances = np.zeros_like(gram), np.zeros_like(variances)
    trimmed, removed, share, sample = _without_dominant_directions(gram, flat.shape[1])
    return MapSummary(
        gram=_u_centred(gram),
        trimmed=_u_centred(trimmed),
        variances=variances,
        removed=removed,
        share=share,
        sample=sample,
    )


def _without_dominant_directions(gram: _Array, width: int) -> tuple[_Array, int, float, float]:
    """Remove leading directions while each has half of the remaining variance, if they are few.

    Return the matrix, and `removed`, `share` and `sample` of a MapSummary.
    """
    most = min(_MOST_REMOVED, min(len(gram) - 1, width) // _LEAST_DIRECTIONS_PER_REMOVED)
    values, vectors = np.linalg.eigh(gram)
    total = remaining = float(values.sum())
    sample, removed = 0.0, 0
    while removed < most and remaining > 0 and values[-1 - removed] >= _DOMINANT_SHARE * remaining:
        removed += 1
        value, vector = values[-removed], vectors[:, -removed]
        gram = gram - value * np.outer(vector, vector)
        is_left = remaining - value > _NEGLIGIBLE * total
        remaining = remaining - float(value) if is_left else 0.0
        sample = sample or float(np.square(vector).max())
    share = 1 - remaining / total if removed else 0.0
    return (gram if remaining else np.zeros_like(gram)), removed, share, sample


def _u_centred(gram: _Array) -> _Array:
    """U-centre a symmetric matrix, whose diagonal is ignored, and flatten it."""
    count = len(gram)
    matrix: _Array = np.array(gram)
    np.fill_diagonal(matrix, 0.0)
    rows = matrix.sum(axis=1) / (count - 2)
    matrix = matrix - rows[:, None] - rows[None, :] + rows.sum() / (count - 1)
    np.fill_diagonal(matrix, 0.0)
    return matrix.ravel()


@dataclass(kw_only=True, eq=False)
class HsicSums:
    """Sums over batches of HSIC₁ between all feature maps of two networks, and of each with itself.

    CKA is the mean HSIC₁ of two maps over batches, divided by the roots of those with themselves.
    Source: Nguyen, Raghu and Kornblith 2021 (arXiv 2010.15327), equations 2 and 3.
    """

    cross: _Array
    teacher: _Array
    student: _Array

    @classmethod
    def of(cls, teacher: int, student: int) -> HsicSums:
        """Return zeros for this many feature maps of the teacher and the student."""
        return cls(
            cross=np.zeros((teacher, student)),
            teacher=np.zeros(teacher),
            student=np.zeros(student),
        )

    def add(self, teacher: _Array, student: _Array) -> None:
        """Add a batch; each row is the flattened U-centred matrix of a feature map."""
        count = round(teacher.shape[1] ** 0.5)
        scale = 1 / (count * (count - 3))
        self.cross += scale * (teacher @ np.transpose(student))
        self.teacher += scale * np.square(teacher).sum(axis=1)
        self.student += scale * np.square(student).sum(axis=1)

    def cka(self) -> _Array:
        """Return the CKA of each teacher and student map, NaN where either is constant."""
        norms = np.sqrt(np.outer(self.teacher, self.student))
        undefined = np.full_like(self.cross, np.nan)
        return np.divide(self.cross, norms, out=undefined, where=norms > 0)
