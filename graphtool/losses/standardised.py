"""Losses between standardised logits: lskd."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

from graphtool.loss_names import Takes, for_pairs
from graphtool.losses import _ops as ops
from graphtool.losses._ends import built_whole, check_options, class_ends
from graphtool.losses._probabilities import as_logits
from graphtool.losses._values import shape_of
from graphtool.losses.logits import THREE

__all__ = ["lskd"]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@for_pairs(
    Takes(ranks=(2, None), known=(("teacher", -1),), logits=True, least=THREE), of_classes=True
)
@built_whole
def lskd(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    temperature: float = 2.0,
    axis: int | None = None,
    from_probs: str | None = None,
) -> _Paddle:
    """Return the divergence of the student's standardised logits from the teacher's, LSKD.

    temperature² · the mean over samples of KL(p ‖ q), p and q the softmax of z(T) / temperature and
    z(S) / temperature, z(x) = (x - mean) / the standard deviation (of n - 1) over the classes; for
    logits [N, classes], and of more dims with `axis` as in `soft_label`. It is 0 where each
    sample's logits are the teacher's times a number above 0, and shifted. Logits that are all equal
    stay 0 and get no gradient. Sun et al. 2024 (arXiv 2403.01427); deviation, factor and
    temperature are those of the authors' code, which weighs it by 9. `from_probs` as in
    `soft_label`.

    Raises what `soft_label` does, for two classes too, and PairError GT354 where the number of
    classes is not known.
    """
    check_options("lskd", positive={"temperature": temperature}, from_probs=from_probs)
    both = class_ends("lskd", teacher, student, axis=axis, from_probs=from_probs)
    ready = as_logits(both, from_probs)
    classes = shape_of(ready[0])[-1]
    left, right = (_standardised(logits, classes) for logits in ready)
    return ops.mean(ops.divergence(left / temperature, right / temperature)) * temperature**2


def _standardised(logits: _Paddle, classes: int) -> _Paddle:
    return ops.unit(ops.centred(logits, -1), -1) * sqrt(classes - 1)
