"""Losses between logits: soft_label, kl, dkd, skd, lskd, dist.

Each formula gets logits with the classes last.
"""

from __future__ import annotations

from math import sqrt

from graphtool.backend.paddle import Paddle
from graphtool.losses import _ops as ops
from graphtool.losses._building import loss
from graphtool.losses._values import shape_of

__all__ = ["dist", "dkd", "kl", "lskd", "skd", "soft_label"]


# Subtracted from the target's logit to exclude it, as in the code of DKD's authors.
_EXCLUDED = 1000.0
# Added to the variance in skd, as in the authors' code.
_VARIANCE_EPSILON = 1e-7


@loss
def soft_label(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    teacher_temperature: float = 1.0,
    student_temperature: float = 1.0,
    axis: int | None = None,
    from_probs: str | None = None,
) -> Paddle:
    """Return the cross entropy of the student's predictions with the teacher's as targets.

    The mean over samples of -Σ p log q, p = softmax(T / teacher_temperature) and q = softmax(S /
    student_temperature) over the classes. Its minimum is the entropy of p, at q = p. Hinton et al.
    2015 (arXiv 1503.02531), without their factor of the temperature squared: this is the tutorial's
    `soft_label_loss`. `kl` has that factor and the minimum 0; the gradients are otherwise equal.

    For logits [N, classes]. With more dims, `axis` is the class axis, 1 for maps [N, classes, H,
    W], and the mean is over positions too. If it is None, it is derived from the layers of the
    merged networks.

    `from_probs` names the Values that hold probabilities: "teacher", "student" or "both". They are
    converted back to logits, so that temperatures apply as usual.

    Raises what `l2` does, UsageError GT347, and PairError GT228 if a Value comes from a softmax
    that `from_probs` doesn't name, or from a sigmoid; GT335 for one class; GT336 if the class axis
    cannot be derived.
    """
    return _cross_entropy(
        ops.softened(teacher, teacher_temperature), ops.softened(student, student_temperature)
    )


def _cross_entropy(teacher: Paddle, student: Paddle) -> Paddle:
    # The entropy is constant. Computed apart, it lets the run compare the shapes.
    return (ops.kl_divergence(teacher, student) + ops.entropy(teacher)).mean()


@loss
def kl(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    temperature: float = 4.0,
    axis: int | None = None,
    from_probs: str | None = None,
) -> Paddle:
    """Return the KL divergence of the student's predictions from the teacher's.

    temperature² · the mean over samples of KL(p ‖ q), p and q the softmax of T / temperature and S
    / temperature over the classes; for logits [N, classes], and of more dims with `axis` as in
    `soft_label`. It is 0 if the logits differ by a constant per sample. Hinton et al. 2015 (arXiv
    1503.02531), with their factor that keeps the size of gradients at all temperatures; 4 is the
    temperature of the comparison of Tian et al. 2020 (arXiv 1910.10699). `from_probs` as in
    `soft_label`.

    Raises what `soft_label` does.
    """
    teacher, student = (ops.softened(value, temperature) for value in (teacher, student))
    return ops.kl_divergence(teacher, student).mean() * temperature**2


@loss
def dkd(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    labels: Paddle | str | None = None,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    from_probs: str | None = None,
) -> Paddle:
    """Return the decoupled loss, DKD: the target class and the others are weighed separately.

    temperature² · the mean over samples of alpha · KL(b(T) ‖ b(S)) + beta · KL(o(T) ‖ o(S)): b is
    the pair of the target's probability and the sum of all others, o the distribution over the
    others; for logits [N, classes] and `labels` [N] or [N, 1] of int32 or int64, a Value or a name
    of the student. It is 0 if the logits differ by a constant per sample. Without labels the
    teacher's most likely class is the target, as in PaddleSlim. Zhao et al. 2022 (arXiv
    2203.08679); the defaults are those of the authors' code on CIFAR-100. `from_probs` as in
    `soft_label`.

    Raises what `soft_label` does, and PairError GT346 for other labels, GT336 if the number of
    classes is unknown. The run fails on a label that is not a class.
    """
    student = ops.require_shape_of(student, teacher)
    targets = ops.argmax(teacher) if labels is None else ops.flatten(labels, 0)
    mask = ops.one_hot(targets, shape_of(teacher)[1], teacher)
    teacher, student = (ops.softened(value, temperature) for value in (teacher, student))
    target: Paddle = 0.0
    for teacher_log, student_log in zip(
        _binary_logs(teacher, mask), _binary_logs(student, mask), strict=True
    ):
        target = ops.exp(teacher_log) * (teacher_log - student_log) + target
    others = ops.kl_divergence(teacher - mask * _EXCLUDED, student - mask * _EXCLUDED)
    return (target * alpha + others * beta).mean() * temperature**2


def _binary_logs(logits: Paddle, mask: Paddle) -> tuple[Paddle, Paddle]:
    """Return the logarithms of the target's probability and of the sum of all others."""
    logs = ops.log_softmax(logits)
    others = ops.reduce_sum(ops.exp(logs) * (1.0 - mask), -1)
    target_log = ops.reduce_sum(logs * mask, -1)
    return target_log, ops.log_probability(others)


@loss
def skd(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    multiplier: float | None = None,
    from_probs: str | None = None,
) -> Paddle:
    """Return the spherical loss, SKD: logits are compared at the same norm.

    The mean over samples of -Σ p log q, p = softmax(m · n(T)) and q = softmax(m · n(S)), with n(x)
    = (x - mean) / √(variance + 1e-7) over the classes; for logits [N, classes]. `m` is `multiplier`
    or, if None, the standard deviation (of n - 1) of the teacher's logits for each sample, so that
    they keep their scale. Its minimum is the entropy of p; shift and scale of the student's logits
    do not matter. Guo et al. 2020 (arXiv 2010.07485), as PaddleSlim and PaddleClas compute it.
    `from_probs` as in `soft_label`.

    Raises what `soft_label` does, for two classes too, and PairError GT336 if the number of classes
    is unknown.
    """
    student = ops.require_shape_of(student, teacher)
    scale = _standard_deviation(teacher) if multiplier is None else multiplier
    return _cross_entropy(_standardised(teacher) * scale, _standardised(student) * scale)


def _standardised(logits: Paddle) -> Paddle:
    centred = ops.centre(logits, 1)
    return centred / ops.sqrt((centred * centred).mean(1, keepdim=True) + _VARIANCE_EPSILON)


def _standard_deviation(logits: Paddle) -> Paddle:
    centred, classes = ops.centre(logits, 1), shape_of(logits)[1]
    return ops.sqrt(ops.reduce_sum(centred * centred, 1, keep=True) / max(classes - 1, 1))


@loss
def lskd(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    temperature: float = 2.0,
    axis: int | None = None,
    from_probs: str | None = None,
) -> Paddle:
    """Return the KL divergence of the student's standardised logits from the teacher's, LSKD.

    temperature² · the mean over samples of KL(p ‖ q), p and q the softmax of z(T) / temperature and
    z(S) / temperature, z(x) = (x - mean) / the standard deviation (of n - 1) over the classes; for
    logits [N, classes], and of more dims with `axis` as in `soft_label`. It is 0 if each sample's
    logits are the teacher's, shifted and times a positive number. Logits that are all equal become
    0 and get no gradient. Sun et al. 2024 (arXiv 2403.01427); deviation, factor and temperature are
    those of the authors' code, which weighs it by 9. `from_probs` as in `soft_label`.

    Raises what `soft_label` does, for two classes too, and PairError GT336 if the number of classes
    is unknown.
    """
    # The norm of centred logits is their standard deviation times this.
    scale = sqrt(shape_of(teacher)[-1] - 1)
    teacher, student = (
        ops.l2_normalise(ops.centre(value, -1), -1) * scale / temperature
        for value in (teacher, student)
    )
    return ops.kl_divergence(teacher, student).mean() * temperature**2


@loss
def dist(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    from_probs: str | None = None,
) -> Paddle:
    """Return DIST: predictions correlate with the teacher's, over classes and over samples.

    temperature² · (beta · (1 - the mean over samples of r between rows of p and q) + gamma · (1 -
    the mean over classes of r between their columns)), r = Pearson's correlation, p and q the
    softmax of T / temperature and S / temperature; for logits [N, classes]. It is 0 if the logits
    differ by a constant per sample. Rows or columns without variance, such as all columns of a
    batch of one, have a correlation of 1 with each other. Huang et al. 2022 (arXiv 2205.10536);
    defaults and the factor are those of the authors' code. `from_probs` as in `soft_label`.

    Raises what `soft_label` does.
    """
    teacher_probs, student_probs = (
        ops.exp(ops.log_softmax(ops.softened(value, temperature))) for value in (teacher, student)
    )
    over_classes = ops.correlation_distance(teacher_probs, student_probs, 1).mean() * beta
    over_samples = ops.correlation_distance(teacher_probs, student_probs, 0).mean() * gamma
    return (over_classes + over_samples) * temperature**2
