"""Losses between logits: soft_label, kl, dkd, skd, dist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphtool.backend.paddle import Paddle
from graphtool.both import Both
from graphtool.checks.softmax_inputs import ROLES_OF
from graphtool.diagnostics import Diagnostic
from graphtool.graph import Shape, shapes_agree
from graphtool.loss_specs import MinElements, OperandSpec, register_loss
from graphtool.losses import _ops as ops
from graphtool.losses import problems
from graphtool.losses._operands import (
    atomic,
    check_operands,
    class_operands,
    loss_operands,
    prepare,
    raise_pair_errors,
    require_valid_options,
    resolve,
    takes_of,
)
from graphtool.losses._values import dtype_of, shape_of, where_of

__all__ = ["THREE_CLASSES", "as_logits", "dist", "dkd", "kl", "skd", "soft_label"]


# Subtracted from the target's logit to exclude it, as in the code of DKD's authors.
_EXCLUDED = 1000.0
# Smaller probabilities are raised to this, whose logarithm float32 still holds.
_LEAST_PROBABILITY = 1e-30
# Added to the variance in skd, as in the authors' code.
_VARIANCE_EPSILON = 1e-7
_LABEL_DTYPES = frozenset({"int32", "int64"})
_CLASSES = ("class", "classes")
_TWO_CLASSES = MinElements(count=2, of=_CLASSES)
# Two standardised logits are always +1 and -1.
THREE_CLASSES = MinElements(count=3, of=_CLASSES)
_KNOWN_CLASSES = OperandSpec(
    ranks=(2, 2), known=(("teacher", -1),), logits=True, least=_TWO_CLASSES
)


def as_logits(values: Both[Paddle], from_probs: str | None) -> Both[Paddle]:
    """Convert the probabilities that `from_probs` names to logits: their logarithms."""

    def logits(role: str, value: Paddle) -> Paddle:
        if role not in ROLES_OF[from_probs]:
            return value
        return ops.log(ops.clip_min(value, _LEAST_PROBABILITY))

    return Both(logits("teacher", values.teacher), logits("student", values.student))


def _logit_operands(
    loss: str, teacher: Paddle | str, student: Paddle | str, from_probs: str | None
) -> Both[Paddle]:
    return as_logits(loss_operands(loss, teacher, student, from_probs=from_probs), from_probs)


def _with_equal_batch(values: Both[Paddle]) -> Both[Paddle]:
    """Make the run fail on different batches, before the teacher's broadcasts the student's."""
    return Both(values.teacher, ops.require_shape_of(values.student, values.teacher))


@register_loss(OperandSpec(ranks=(2, None), logits=True, least=_TWO_CLASSES), of_classes=True)
@atomic
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
    require_valid_options(
        "soft_label",
        positive={
            "teacher_temperature": teacher_temperature,
            "student_temperature": student_temperature,
        },
        from_probs=from_probs,
    )
    values = class_operands("soft_label", teacher, student, axis=axis, from_probs=from_probs)
    logits = as_logits(values, from_probs)
    return _cross_entropy(
        logits.teacher / teacher_temperature, logits.student / student_temperature
    )


def _cross_entropy(teacher: Paddle, student: Paddle) -> Paddle:
    # The entropy is constant. Computed apart, it lets the run compare the shapes.
    return ops.mean(ops.kl_divergence(teacher, student) + ops.entropy(teacher))


@register_loss(OperandSpec(ranks=(2, None), logits=True, least=_TWO_CLASSES), of_classes=True)
@atomic
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
    require_valid_options("kl", positive={"temperature": temperature}, from_probs=from_probs)
    values = class_operands("kl", teacher, student, axis=axis, from_probs=from_probs)
    scaled = as_logits(values, from_probs).map(lambda logits: logits / temperature)
    return ops.mean(ops.kl_divergence(*scaled)) * temperature**2


@register_loss(_KNOWN_CLASSES, of_classes=True)
@atomic
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
    require_valid_options(
        "dkd",
        positive={"temperature": temperature},
        weights={"alpha": alpha, "beta": beta},
        from_probs=from_probs,
    )
    of_student = {"student": student} if labels is None else {"student": student, "labels": labels}
    teacher, student, *given = resolve("dkd", {"teacher": teacher}, of_student)
    raise_pair_errors(_check_dkd(teacher, student, given, from_probs))
    values = as_logits(Both(*prepare(teacher, student)), from_probs)
    logits = _with_equal_batch(values)
    targets = ops.flatten(given[0], 0) if given else ops.argmax(logits.teacher)
    one_hot = ops.one_hot(targets, shape_of(logits.teacher)[1], logits.teacher)
    mask = ops.require_shape_of(one_hot, logits.teacher)
    scaled = logits.map(lambda value: value / temperature)
    decoupled = _decoupled(scaled.teacher, scaled.student, mask, alpha, beta)
    return decoupled * temperature**2


def _check_dkd(
    teacher: Paddle, student: Paddle, labels: list[Paddle], from_probs: str | None
) -> Iterator[Diagnostic]:
    yield from check_operands("dkd", takes_of("dkd"), teacher, student, from_probs=from_probs)
    for value in labels:
        shape, dtype = shape_of(value), dtype_of(value)
        if dtype not in _LABEL_DTYPES or not _labels_match(shape, shape_of(student)):
            found = f"{dtype} {list(shape)}"
            expected = f"int64 {list(shape_of(student)[:1])}, a class number per sample"
            yield problems.bad_labels("labels", where_of(value, "labels"), found, expected)


def _labels_match(labels: Shape, logits: Shape) -> bool:
    is_column = len(labels) in (1, 2) and labels[1:] in ((), (1,))
    return is_column and shapes_agree(labels[:1], logits[:1])


def _decoupled(teacher: Paddle, student: Paddle, mask: Paddle, alpha: float, beta: float) -> Paddle:
    """Return the weighted sum of target-class and non-target-class divergences."""
    target: Paddle = 0.0
    for teacher_log, student_log in zip(
        _binary_logs(teacher, mask), _binary_logs(student, mask), strict=True
    ):
        target = ops.exp(teacher_log) * (teacher_log - student_log) + target
    others = ops.kl_divergence(teacher - mask * _EXCLUDED, student - mask * _EXCLUDED)
    return ops.mean(target * alpha + others * beta)


def _binary_logs(logits: Paddle, mask: Paddle) -> tuple[Paddle, Paddle]:
    """Return the logarithms of the target's probability and of the sum of all others."""
    logs = ops.log_softmax(logits)
    others = ops.reduce_sum(ops.exp(logs) * (1.0 - mask), -1)
    target_log = ops.reduce_sum(logs * mask, -1)
    return target_log, ops.log(ops.clip_min(others, _LEAST_PROBABILITY))


@register_loss(replace(_KNOWN_CLASSES, least=THREE_CLASSES), of_classes=True)
@atomic
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
    positive = {} if multiplier is None else {"multiplier": multiplier}
    require_valid_options("skd", positive=positive, from_probs=from_probs)
    teacher, student = _with_equal_batch(_logit_operands("skd", teacher, student, from_probs))
    scale = _standard_deviation(teacher) if multiplier is None else multiplier
    return _cross_entropy(_standardised(teacher) * scale, _standardised(student) * scale)


def _standardised(logits: Paddle) -> Paddle:
    centred = ops.centre(logits, 1)
    return centred / ops.sqrt(ops.mean(centred * centred, 1, keep=True) + _VARIANCE_EPSILON)


def _standard_deviation(logits: Paddle) -> Paddle:
    centred, classes = ops.centre(logits, 1), shape_of(logits)[1]
    return ops.sqrt(ops.reduce_sum(centred * centred, 1, keep=True) / max(classes - 1, 1))


@register_loss(OperandSpec(ranks=(2, 2), logits=True, least=_TWO_CLASSES), of_classes=True)
@atomic
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
    require_valid_options(
        "dist",
        positive={"temperature": temperature},
        weights={"beta": beta, "gamma": gamma},
        from_probs=from_probs,
    )
    values = _logit_operands("dist", teacher, student, from_probs)
    teacher_probs, student_probs = values.map(
        lambda logits: ops.exp(ops.log_softmax(logits / temperature))
    )
    over_classes = ops.mean(ops.correlation_distance(teacher_probs, student_probs, 1)) * beta
    over_samples = ops.mean(ops.correlation_distance(teacher_probs, student_probs, 0)) * gamma
    return (over_classes + over_samples) * temperature**2
