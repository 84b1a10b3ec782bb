"""Losses between feature maps: l2, hint, attention, channel_wise, fsp."""

from __future__ import annotations

from graphtool.backend.paddle import Paddle
from graphtool.checks.adapters import is_map
from graphtool.loss_specs import channel_axis
from graphtool.losses import _ops as ops
from graphtool.losses import adapters
from graphtool.losses._operands import loss
from graphtool.losses._values import shape_of

__all__ = ["attention", "channel_wise", "fsp", "hint", "l2", "match_channels"]


@loss
def l2(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the mean of squared differences over all elements.

    mean((S - T)²), for Values of any one shape [N, ...]: the tutorial's `l2_loss`.

    Raises UsageError, ReadError or PairError, with nothing built: GT231, GT248, GT333, GT334,
    GT340, GT348, GT352; GT101 with the nearest names, GT102. Warns with GT228 if a Value comes
    from a softmax.
    """
    return _mean_square(teacher, student)


def _mean_square(teacher: Paddle, student: Paddle) -> Paddle:
    residual = ops.difference(student, teacher)
    return ops.mean(residual * residual)


@loss
def hint(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the hint loss of FitNets: l2 to the teacher's map, through a learnt regressor.

    mean((r(S) - T)²), for maps [N, C, H, W] of one H × W, tokens [N, L, C] or vectors [N, C]. If
    the channels differ, `r` is a new 1 × 1 convolution (`adapters.conv1x1`) or linear layer on the
    student, otherwise the identity. Romero et al. 2015 (arXiv 1412.6550) take half of the sum of
    squares, which grows with the map; the code that later papers compare with (RepDistiller) takes
    the mean.

    Raises what `l2` does, and PairError GT336 if the channels are unknown.
    """
    return _mean_square(teacher, match_channels(teacher, student))


def match_channels(teacher: Paddle, student: Paddle) -> Paddle:
    """Bring the student's channels to the teacher's by a new layer, if they differ."""
    axis = channel_axis(len(shape_of(teacher)))
    channels = shape_of(teacher)[axis]
    if shape_of(student)[axis] == channels:
        return student
    build = adapters.conv1x1 if is_map(shape_of(teacher)) else adapters.linear
    return build(student, channels)


@loss
def attention(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the attention transfer loss, AT: where a network looks, not what it sees there.

    mean((q(S) - q(T))²) with q(F) = v / |v|, v = the mean of F² over channels, flattened to one
    vector per sample; for maps [N, C, H, W] of one H × W, with any channels (also [N, C, L] and
    [N, C, D, H, W]). It is 0 for maps that are multiples of each other. Zagoruyko and Komodakis
    2017 (arXiv 1612.03928), who multiply it by beta / 2; the mean of squares is that of their code,
    which weighs it by 1000.

    Raises what `l2` does.
    """
    return _mean_square(_attention_map(teacher), _attention_map(student))


def _attention_map(value: Paddle) -> Paddle:
    return ops.l2_normalise(ops.flatten(ops.mean(value * value, 1), 1), 1)


@loss
def channel_wise(
    teacher: Paddle | str, student: Paddle | str, *, temperature: float = 4.0
) -> Paddle:
    """Return the channel-wise loss, CWD: each channel is a distribution over the map's positions.

    T² / (N·C) · the sum over samples and channels of KL(p(T) ‖ p(S)), where p is the softmax of a
    channel over H × W at the temperature T; for maps [N, C, H, W] of one shape (also [N, C, L] and
    [N, C, D, H, W]). It is 0 if channels differ by a constant. Shu et al. 2021 (arXiv 2011.13256),
    with the factor and the temperature 4 of the authors' code.

    Raises what `l2` does, and UsageError GT347.
    """
    divergence = ops.kl_divergence(
        ops.flatten(teacher, 2) / temperature, ops.flatten(student, 2) / temperature
    )
    return ops.mean(divergence) * temperature**2


@loss
def fsp(
    teacher_1: Paddle | str,
    teacher_2: Paddle | str,
    student_1: Paddle | str,
    student_2: Paddle | str,
) -> Paddle:
    """Return the loss between flows of the solution procedure: how one map leads to another.

    mean((G(S₁, S₂) - G(T₁, T₂))²) with G(A, B)[i, j] = the mean over H × W of A[i] · B[j]. All are
    maps; T₁ [N, C₁, H, W] and T₂ [N, C₂, H, W] have one H × W, S₁ and S₂ the same or another, and
    channels are equal between the networks. Yim et al., CVPR 2017; the mean is that of Paddle's
    distillation tutorial (`fsp_loss`).

    Raises what `l2` does, for any of the four.
    """
    return _mean_square(_flow(teacher_1, teacher_2), _flow(student_1, student_2))


def _flow(start: Paddle, end: Paddle) -> Paddle:
    """Return [N, C₁, C₂]: the mean over positions of the products of two maps' channels."""
    ones = ops.require_shape_of(
        ops.full_like(ops.mean(start, 1, keep=True), 1.0), ops.mean(end, 1, keep=True)
    )
    products = ops.matmul(ops.flatten(start, 2), ops.flatten(end, 2), transpose_b=True)
    return products / ops.reduce_sum(ops.flatten(ones, 2), 2, keep=True)
