"""Losses between logits: soft_label, kl, dkd, skd, dist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias

from graphtool.diagnostics import Diagnostic
from graphtool.graph import Shape, shapes_agree
from graphtool.loss_names import Least, Takes, for_pairs
from graphtool.losses import _ops as ops
from graphtool.losses import problems
from graphtool.losses._ends import (
    built_whole,
    check_options,
    class_ends,
    ends,
    misfits,
    prepared,
    refuse,
    resolved,
    taken,
)
from graphtool.losses._probabilities import LEAST, as_logits
from graphtool.losses._values import dtype_of, place_of, shape_of

__all__ = ["THREE", "dist", "dkd", "kl", "skd", "soft_label"]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# Taken from the target's logit to leave it out, as the authors of DKD do.
_OUT = 1000.0
_LABELS = frozenset({"int32", "int64"})
_CLASSES = ("class", "classes")
_TWO = Least(count=2, of=_CLASSES)
# Two that are standardised are +1 and -1, whatever they were.
THREE = Least(count=3, of=_CLASSES)
_OF_KNOWN_CLASSES = Takes(ranks=(2, 2), known=(("teacher", -1),), logits=True, least=_TWO)


@for_pairs(Takes(ranks=(2, None), logits=True, least=_TWO), of_classes=True)
@built_whole
def soft_label(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    teacher_temperature: float = 1.0,
    student_temperature: float = 1.0,
    axis: int | None = None,
    from_probs: str | None = None,
) -> _Paddle:
    """Return the cross entropy of the student's predictions to the teacher's.

    The mean over samples of -Σ p log q, p = softmax(T / teacher_temperature) and q = softmax(S /
    student_temperature) over the classes. Its least is the entropy of p, where q = p. Hinton et al.
    2015 (arXiv 1503.02531), without their factor of the temperature squared: it is the tutorial's
    `soft_label_loss`. `kl` has that factor and is 0 at its least; the gradients are else the same.

    For logits [N, classes]; of more dims `axis` says where the classes are, 1 for maps [N, classes,
    H, W], and the mean is over places as well. Where it is None the layers of the merged networks
    say it.

    `from_probs` says which ends hold probabilities already: "teacher", "student" or "both". They
    are turned back into logits, so temperatures act as on logits.

    Raises what `l2` does, UsageError GT347, and PairError GT349 where an end comes from a softmax
    and `from_probs` doesn't say so, or from a sigmoid; GT335 for one class; GT336 where nothing
    says on which axis the classes are.
    """
    check_options(
        "soft_label",
        positive={
            "teacher_temperature": teacher_temperature,
            "student_temperature": student_temperature,
        },
        from_probs=from_probs,
    )
    both = class_ends("soft_label", teacher, student, axis=axis, from_probs=from_probs)
    left, right = as_logits(both, from_probs)
    return _cross_entropy(left / teacher_temperature, right / student_temperature)


def _logits(
    loss: str, teacher: _Paddle | str, student: _Paddle | str, from_probs: str | None
) -> tuple[_Paddle, _Paddle]:
    return as_logits(ends(loss, teacher, student, from_probs=from_probs), from_probs)


def _in_step(values: tuple[_Paddle, _Paddle]) -> tuple[_Paddle, _Paddle]:
    """Stop a run whose batches differ before something of the teacher's stretches the student."""
    return values[0], ops.same_shape(values[1], values[0])


def _cross_entropy(teacher: _Paddle, student: _Paddle) -> _Paddle:
    # The entropy is constant; apart from it, shapes are compared in the run.
    return ops.mean(ops.divergence(teacher, student) + ops.entropy(teacher))


@for_pairs(Takes(ranks=(2, None), logits=True, least=_TWO), of_classes=True)
@built_whole
def kl(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    temperature: float = 4.0,
    axis: int | None = None,
    from_probs: str | None = None,
) -> _Paddle:
    """Return the divergence of the student's predictions from the teacher's.

    temperature² · the mean over samples of KL(p ‖ q), p and q the softmax of T / temperature and S
    / temperature over the classes; for logits [N, classes], and of more dims with `axis` as in
    `soft_label`. It is 0 where the logits differ by a constant per sample. Hinton et al. 2015
    (arXiv 1503.02531), with their factor that keeps gradients of one size at all temperatures; 4 is
    the temperature of the comparison of Tian et al. 2020 (arXiv 1910.10699). `from_probs` as in
    `soft_label`.

    Raises what `soft_label` does.
    """
    check_options("kl", positive={"temperature": temperature}, from_probs=from_probs)
    both = class_ends("kl", teacher, student, axis=axis, from_probs=from_probs)
    left, right = as_logits(both, from_probs)
    return ops.mean(ops.divergence(left / temperature, right / temperature)) * temperature**2


@for_pairs(_OF_KNOWN_CLASSES, of_classes=True)
@built_whole
def dkd(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    labels: _Paddle | str | None = None,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    from_probs: str | None = None,
) -> _Paddle:
    """Return the decoupled loss, DKD: the target class and the others are weighed apart.

    temperature² · the mean over samples of alpha · KL(b(T) ‖ b(S)) + beta · KL(o(T) ‖ o(S)): b is
    the pair of the target's probability and that of all others together, o the distribution among
    the others; for logits [N, classes] and `labels` [N] or [N, 1] of int32 or int64, a Value or a
    name of the student. It is 0 where the logits differ by a constant per sample. Without labels
    the teacher's most likely class is the target, as in PaddleSlim. Zhao et al. 2022 (arXiv
    2203.08679); the defaults are those of the authors' code on CIFAR-100. `from_probs` as in
    `soft_label`.

    Raises what `soft_label` does, and PairError GT346 for other labels, GT354 where the number of
    classes is not known. A label that is no class stops the run.
    """
    check_options(
        "dkd",
        positive={"temperature": temperature},
        weights={"alpha": alpha, "beta": beta},
        from_probs=from_probs,
    )
    wanted = {"student": student} if labels is None else {"student": student, "labels": labels}
    left, right, *given = resolved("dkd", {"teacher": teacher}, wanted)
    refuse(_dkd_misfits(left, right, given, from_probs))
    left, right = _in_step(as_logits(prepared(left, right), from_probs))
    targets = ops.flat(given[0], 0) if given else ops.argmax(left)
    mask = ops.same_shape(ops.one_hot(targets, shape_of(left)[1], left), left)
    return _decoupled(left / temperature, right / temperature, mask, alpha, beta) * temperature**2


def _dkd_misfits(
    teacher: _Paddle, student: _Paddle, labels: list[_Paddle], from_probs: str | None
) -> Iterator[Diagnostic]:
    yield from misfits("dkd", taken("dkd"), teacher, student, from_probs=from_probs)
    for value in labels:
        shape, dtype = shape_of(value), dtype_of(value)
        if dtype not in _LABELS or not _labels_fit(shape, shape_of(student)):
            found = f"{dtype} {list(shape)}"
            wanted = f"int64 {list(shape_of(student)[:1])}, a class number per sample"
            yield problems.bad_labels("labels", place_of(value, "labels"), found, wanted)


def _labels_fit(labels: Shape, logits: Shape) -> bool:
    is_column = len(labels) in (1, 2) and labels[1:] in ((), (1,))
    return is_column and shapes_agree(labels[:1], logits[:1])


def _decoupled(
    teacher: _Paddle, student: _Paddle, mask: _Paddle, alpha: float, beta: float
) -> _Paddle:
    """Weigh the divergences of the target against the rest and of the rest among themselves."""
    target: _Paddle = 0.0
    for theirs, ours in zip(_log_two(teacher, mask), _log_two(student, mask), strict=True):
        target = ops.exp(theirs) * (theirs - ours) + target
    others = ops.divergence(teacher - mask * _OUT, student - mask * _OUT)
    return ops.mean(target * alpha + others * beta)


def _log_two(logits: _Paddle, mask: _Paddle) -> tuple[_Paddle, _Paddle]:
    """Return the logarithms of the target's probability and of that of all others together."""
    logs = ops.log_softmax(logits)
    others = ops.total(ops.exp(logs) * (1.0 - mask), -1)
    return ops.total(logs * mask, -1), ops.log(ops.floored(others, LEAST))


@for_pairs(replace(_OF_KNOWN_CLASSES, least=THREE), of_classes=True)
@built_whole
def skd(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    multiplier: float | None = None,
    from_probs: str | None = None,
) -> _Paddle:
    """Return the spherical loss, SKD: logits are compared at one and the same norm.

    The mean over samples of -Σ p log q, p = softmax(m · n(T)) and q = softmax(m · n(S)), with n(x)
    = (x - mean) / √(variance + 1e-7) over the classes; for logits [N, classes]. `m` is `multiplier`
    or, where None, the standard deviation (of n - 1) of the teacher's logits for each sample, so
    that they keep their own scale. Its least is the entropy of p; the student's shift and scale do
    not matter. Guo et al. 2020 (arXiv 2010.07485), as PaddleSlim and PaddleClas compute it.
    `from_probs` as in `soft_label`.

    Raises what `soft_label` does, for two classes too, and PairError GT354 where the number of
    classes is not known.
    """
    positive = {} if multiplier is None else {"multiplier": multiplier}
    check_options("skd", positive=positive, from_probs=from_probs)
    left, right = _in_step(_logits("skd", teacher, student, from_probs))
    scale = _deviation(left) if multiplier is None else multiplier
    return _cross_entropy(_normalised(left) * scale, _normalised(right) * scale)


# Added to the variance, as in the authors' code.
_VARIANCE = 1e-7


def _normalised(logits: _Paddle) -> _Paddle:
    apart = ops.centred(logits, 1)
    return apart / ops.root(ops.mean(apart * apart, 1, keep=True) + _VARIANCE)


def _deviation(logits: _Paddle) -> _Paddle:
    apart, classes = ops.centred(logits, 1), shape_of(logits)[1]
    return ops.root(ops.total(apart * apart, 1, keep=True) / max(classes - 1, 1))


@for_pairs(Takes(ranks=(2, 2), logits=True, least=_TWO), of_classes=True)
@built_whole
def dist(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    from_probs: str | None = None,
) -> _Paddle:
    """Return DIST: predictions correlate with the teacher's, among classes and among samples.

    temperature² · (beta · (1 - the mean over samples of r between rows of p and q) + gamma · (1 -
    the mean over classes of r between their columns)), r = Pearson's correlation, p and q the
    softmax of T / temperature and S / temperature; for logits [N, classes]. It is 0 where the
    logits differ by a constant per sample. A row or column without variance, as all columns of a
    batch of one, correlates by 1 with another such. Huang et al. 2022 (arXiv 2205.10536); defaults
    and the factor are those of the authors' code. `from_probs` as in `soft_label`.

    Raises what `soft_label` does.
    """
    check_options(
        "dist",
        positive={"temperature": temperature},
        weights={"beta": beta, "gamma": gamma},
        from_probs=from_probs,
    )
    left, right = _logits("dist", teacher, student, from_probs)
    theirs, ours = (ops.exp(ops.log_softmax(end / temperature)) for end in (left, right))
    among_classes = ops.mean(ops.uncorrelated(theirs, ours, 1)) * beta
    among_samples = ops.mean(ops.uncorrelated(theirs, ours, 0)) * gamma
    return (among_classes + among_samples) * temperature**2
