"""Losses between standardised logits: lskd."""

from __future__ import annotations

from math import sqrt

from graphtool.backend.paddle import Paddle
from graphtool.loss_specs import OperandSpec, register_loss
from graphtool.losses import _ops as ops
from graphtool.losses._operands import atomic, class_operands, require_valid_options
from graphtool.losses._values import shape_of
from graphtool.losses.logits import THREE_CLASSES, as_logits

__all__ = ["lskd"]


@register_loss(
    OperandSpec(ranks=(2, None), known=(("teacher", -1),), logits=True, least=THREE_CLASSES),
    of_classes=True,
)
@atomic
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
    require_valid_options("lskd", positive={"temperature": temperature}, from_probs=from_probs)
    values = class_operands("lskd", teacher, student, axis=axis, from_probs=from_probs)
    logits = as_logits(values, from_probs)
    # The norm of centred logits is their standard deviation times this.
    scale = sqrt(shape_of(logits.teacher)[-1] - 1)
    standardised = logits.map(lambda value: ops.l2_normalise(ops.centre(value, -1), -1) * scale)
    scaled = standardised.map(lambda value: value / temperature)
    return ops.mean(ops.kl_divergence(*scaled)) * temperature**2
