"""Losses between feature maps: l2, hint, attention, channel_wise, fsp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from graphtool.checks.layouts import is_map
from graphtool.diagnostics import Diagnostic, warn
from graphtool.loss_names import Least, Takes, channel_axis, for_pairs
from graphtool.losses import _ops as ops
from graphtool.losses import adapters
from graphtool.losses._ends import (
    built_whole,
    check_options,
    ends,
    frozen,
    misfits,
    of_probabilities,
    prepared,
    refuse,
    resolved,
    taken,
    unlike,
    unlike_dtypes,
)
from graphtool.losses._learning import learns
from graphtool.losses._values import shape_of

__all__ = ["attention", "channel_wise", "fsp", "hint", "l2"]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_PLACES = Least(count=2, of=("place", "places"), start=2)


@for_pairs(Takes())
@built_whole
def l2(teacher: _Paddle | str, student: _Paddle | str) -> _Paddle:
    """Return the mean of squared differences over all elements.

    mean((S - T)²), for Values of any one shape [N, ...]: what the tutorial's `l2_loss` is.

    Raises UsageError, ReadError or PairError, with nothing built: GT340 to GT345, GT348, GT350 to
    GT352; GT101 with the nearest names. Warns with GT369 where an end comes from a softmax.
    """
    left, right = resolved("l2", {"teacher": teacher}, {"student": student})
    refuse(misfits("l2", taken("l2"), left, right))
    for doubt in of_probabilities(left, right):
        warn(doubt)
    left, right = prepared(left, right)
    return _mean_square(left, right)


def _mean_square(teacher: _Paddle, student: _Paddle) -> _Paddle:
    apart = ops.difference(student, teacher)
    return ops.mean(apart * apart)


@for_pairs(Takes(ranks=(2, 4), adapts=True))
@built_whole
def hint(teacher: _Paddle | str, student: _Paddle | str) -> _Paddle:
    """Return the hint loss of FitNets: l2 to the teacher's map, through a regressor that learns.

    mean((r(S) - T)²), for maps [N, C, H, W] of one H × W, tokens [N, L, C] or vectors [N, C]. Where
    the channels differ `r` is a new 1 × 1 convolution (`adapters.conv1x1`), or linear layer, on the
    student; else nothing. Romero et al. 2015 (arXiv 1412.6550) write half of the sum of squares,
    which grows with the map; the code that later papers compare by (RepDistiller) takes the mean.

    Raises what `l2` does, and PairError GT354 where the channels are not known.
    """
    left, right = ends("hint", teacher, student)
    return _mean_square(left, adapted(left, right))


def adapted(teacher: _Paddle, student: _Paddle) -> _Paddle:
    """Bring the student's channels to the teacher's by a layer that learns."""
    axis = channel_axis(len(shape_of(teacher)))
    wanted = shape_of(teacher)[axis]
    if shape_of(student)[axis] == wanted:
        return student
    build = adapters.conv1x1 if is_map(shape_of(teacher)) else adapters.linear
    return build(student, wanted)


@for_pairs(Takes(ranks=(3, 5), start=2, least=_PLACES), of_any_channels=True)
@built_whole
def attention(teacher: _Paddle | str, student: _Paddle | str) -> _Paddle:
    """Return the attention transfer loss, AT: where a network looks, not what it sees there.

    mean((q(S) - q(T))²) with q(F) = v / |v|, v = the mean of F² over channels, as one vector per
    sample; for maps [N, C, H, W] of one H × W, channels free (also [N, C, L] and [N, C, D, H, W]).
    It is 0 for maps that are multiples of each other. Zagoruyko and Komodakis 2017 (arXiv
    1612.03928), who write beta / 2 before it; mean of squares as in their code, which weighs it by
    1000.

    Raises what `l2` does.
    """
    left, right = ends("attention", teacher, student)
    return _mean_square(_attention_map(left), _attention_map(right))


def _attention_map(value: _Paddle) -> _Paddle:
    return ops.unit(ops.flat(ops.mean(value * value, 1), 1), 1)


@for_pairs(Takes(ranks=(3, 5), least=_PLACES))
@built_whole
def channel_wise(
    teacher: _Paddle | str, student: _Paddle | str, *, temperature: float = 4.0
) -> _Paddle:
    """Return the channel-wise loss, CWD: each channel is a distribution over the map's places.

    T² / (N·C) · the sum over samples and channels of KL(p(T) ‖ p(S)), where p is the softmax of a
    channel over H × W at the temperature T; for maps [N, C, H, W] of one shape (also [N, C, L] and
    [N, C, D, H, W]). It is 0 where channels differ by a constant. Shu et al. 2021 (arXiv
    2011.13256), with the factor and the temperature 4 of the authors' code.

    Raises what `l2` does, and UsageError GT347.
    """
    check_options("channel_wise", positive={"temperature": temperature})
    left, right = ends("channel_wise", teacher, student)
    divergence = ops.divergence(ops.flat(left, 2) / temperature, ops.flat(right, 2) / temperature)
    return ops.mean(divergence) * temperature**2


@for_pairs(Takes(ranks=(4, 4), stop=2, flows=True))
@built_whole
def fsp(
    teacher_1: _Paddle | str,
    teacher_2: _Paddle | str,
    student_1: _Paddle | str,
    student_2: _Paddle | str,
) -> _Paddle:
    """Return the loss between flows of the solution procedure: how one map leads to another.

    mean((G(S₁, S₂) - G(T₁, T₂))²) with G(A, B)[i, j] = the mean over H × W of A[i] · B[j]. All are
    maps; T₁ [N, C₁, H, W] and T₂ [N, C₂, H, W] have one H × W, S₁ and S₂ another or the same, and
    channels are equal between the networks. Yim et al., CVPR 2017; the mean is that of Paddle's
    distillation tutorial (`fsp_loss`).

    Raises what `l2` does, for any of the four.
    """
    values = resolved(
        "fsp",
        {"teacher_1": teacher_1, "teacher_2": teacher_2},
        {"student_1": student_1, "student_2": student_2},
    )
    refuse(_fsp_misfits(values[:2], values[2:]))
    values = prepared(*values)
    return _mean_square(_flow(*values[:2]), _flow(*values[2:]))


def _fsp_misfits(teacher: list[_Paddle], student: list[_Paddle]) -> Iterator[Diagnostic]:
    across = taken("fsp")
    theirs = [(value, f"teacher_{number}") for number, value in enumerate(teacher, 1)]
    ours = [(value, f"student_{number}") for number, value in enumerate(student, 1)]
    for both in zip(theirs, ours, strict=True):
        yield from unlike("fsp", across, both)
    for first, second in (theirs, ours):
        yield from unlike("fsp", across.within, (first, second))
    yield from unlike_dtypes("fsp", (*theirs, *ours))
    if not any(map(learns, student)):
        yield frozen("fsp", teacher, student)


def _flow(first: _Paddle, second: _Paddle) -> _Paddle:
    """Return [N, C₁, C₂]: the mean over places of the products of two maps' channels."""
    ones = ops.same_shape(
        ops.like(ops.mean(first, 1, keep=True), 1.0), ops.mean(second, 1, keep=True)
    )
    products = ops.product(ops.flat(first, 2), ops.flat(second, 2), transposed=True)
    return products / ops.total(ops.flat(ones, 2), 2, keep=True)
