"""Linear CKA of many feature maps at once, from one batch after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_SAMPLES", "Reduced", "Tally", "reduced"]

_Array: TypeAlias = npt.NDArray[np.float64]

# The unbiased estimator divides by n - 3.
LEAST_SAMPLES = 4
# More features than that are thinned out: every k-th is kept.
_MOST_FEATURES = 65_536
# A direction with this share of what is left of the variance dominates. At most three are few, and
# at most an eighth of those that there can be: five logits have a leading direction by nature.
_DOMINATING = 0.5
_FEW = 3
_FEW_OF = 8
# Variance below this share of the mean square is rounding: float32 has 2⁻²⁴, squared 4e-15.
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reduced:
    """What is kept of one feature map and one batch of n samples.

    `similar` and `trimmed` are U-centred n × n Gram matrices, laid out flat, the second without the
    directions that dominate. `variances` are those of the channels, summed over samples and places.
    `share` is what the removed directions have of the variance, 0 where there are none; `sample` is
    what the heaviest sample has of the first of them.
    """

    similar: _Array
    trimmed: _Array
    variances: _Array
    removed: int
    share: float
    sample: float


def reduced(features: np.ndarray[Any, Any], axis: int) -> Reduced:
    """Reduce features of n samples, the first axis, to their Gram matrix; `axis` holds channels.

    Source: the U-centred matrices of Székely and Rizzo 2014 (arXiv 1310.2926), whose inner product
    is the unbiased HSIC₁ of Song et al. 2012 with linear kernels.
    """
    whole = features.astype(np.float64)
    square = float(np.square(whole).sum())
    whole -= whole.mean(axis=0)
    others = tuple(place for place in range(whole.ndim) if place != axis)
    variances: _Array = np.square(whole).sum(axis=others)
    flat = whole.reshape(len(whole), -1)
    flat = flat[:, :: -(-flat.shape[1] // _MOST_FEATURES)]
    gram = flat @ np.transpose(flat)
    if variances.sum() <= _NOTHING * square:
        gram, variances = np.zeros_like(gram), np.zeros_like(variances)
    trimmed, removed, share, sample = _without_dominating(gram, flat.shape[1])
    return Reduced(
        similar=_u_centred(gram),
        trimmed=_u_centred(trimmed),
        variances=variances,
        removed=removed,
        share=share,
        sample=sample,
    )


def _without_dominating(gram: _Array, width: int) -> tuple[_Array, int, float, float]:
    """Take out the leading directions while each has half of what is left, if they are few."""
    most = min(_FEW, min(len(gram) - 1, width) // _FEW_OF)
    values, vectors = np.linalg.eigh(gram)
    whole = left = float(values.sum())
    sample, removed = 0.0, 0
    while removed < most and left > 0 and values[-1 - removed] >= _DOMINATING * left:
        removed += 1
        value, vector = values[-removed], vectors[:, -removed]
        gram = gram - value * np.outer(vector, vector)
        left = left - float(value) if left - value > _NOTHING * whole else 0.0
        sample = sample or float(np.square(vector).max())
    share = 1 - left / whole if removed else 0.0
    return (gram if left else np.zeros_like(gram)), removed, share, sample


def _u_centred(gram: _Array) -> _Array:
    """U-centre a symmetric matrix and lay it out flat; the diagonal does not count."""
    count = len(gram)
    matrix: _Array = np.array(gram)
    np.fill_diagonal(matrix, 0.0)
    rows = matrix.sum(axis=1) / (count - 2)
    matrix = matrix - rows[:, None] - rows[None, :] + rows.sum() / (count - 1)
    np.fill_diagonal(matrix, 0.0)
    return matrix.ravel()


@dataclass(kw_only=True, eq=False)
class Tally:
    """Sums over batches of HSIC₁ between all feature maps of two networks.

    CKA is a mean of HSIC₁ over batches, divided by the roots of both ends' own means.
    Source: Nguyen, Raghu and Kornblith 2021 (arXiv 2010.15327), equations 2 and 3.
    """

    cross: _Array
    teacher: _Array
    student: _Array

    @classmethod
    def of(cls, teacher: int, student: int) -> Tally:
        """Start with nothing for so many feature maps of either network."""
        return cls(
            cross=np.zeros((teacher, student)),
            teacher=np.zeros(teacher),
            student=np.zeros(student),
        )

    def add(self, teacher: _Array, student: _Array) -> None:
        """Add a batch: in each row the U-centred matrix of a feature map, laid out flat."""
        count = round(teacher.shape[1] ** 0.5)
        scale = 1 / (count * (count - 3))
        self.cross += scale * (teacher @ np.transpose(student))
        self.teacher += scale * np.square(teacher).sum(axis=1)
        self.student += scale * np.square(student).sum(axis=1)

    def cka(self) -> _Array:
        """Return CKA of each teacher with each student map, NaN where one of them is constant."""
        norms = np.sqrt(np.outer(self.teacher, self.student))
        undefined = np.full_like(self.cross, np.nan)
        return np.divide(self.cross, norms, out=undefined, where=norms > 0)
