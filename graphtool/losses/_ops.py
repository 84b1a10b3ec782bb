"""The operators that losses are built from, for PIR Values and legacy Variables alike.

Everything else in the losses calls Paddle directly. In the legacy mode of Paddle 3 some functions
(`paddle.sum`, `exp`, `matmul`) accept PIR Values only: there the operator is appended explicitly.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

from graphtool.backend.legacy import append_op
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.checks.adapters import is_pooled
from graphtool.dtypes import HALF_DTYPES
from graphtool.graph import UNKNOWN_DIM
from graphtool.losses._values import dtype_of, shape_of

# Norms below this count as zero, as in the authors' code of most papers (`eps=1e-12`).
_LEAST_NORM = 1e-12
# A logit of -inf excludes a class: 0 · (-inf + inf) would make the whole loss NaN.
_LEAST_LOG = -1e4
# float32 still holds its logarithm.
_LEAST_PROBABILITY = 1e-30
# int64 in the dtype enumeration of ProgramDesc.
_INT64 = 3


def reduce_sum(value: Paddle, axis: int | list[int] | None = None, *, keep: bool = False) -> Paddle:
    """Return the sum over axes, over all of them if None."""
    if not is_legacy(value):
        return value.sum(axis, keepdim=keep)
    axes = [axis] if isinstance(axis, int) else axis
    attributes = {"dim": axes or [0], "keep_dim": keep, "reduce_all": axes is None}
    return append_op("reduce_sum", {"X": value}, attributes)


def _elementwise(type: str, value: Paddle) -> Paddle:
    if not is_legacy(value):
        return getattr(load_paddle(), type)(value)
    return append_op(type, {"X": value})


absolute, exp, sqrt, _log = (partial(_elementwise, op) for op in ("abs", "exp", "sqrt", "log"))


def minimum(a: Paddle, b: Paddle) -> Paddle:
    """Return the smaller of each two elements."""
    if not is_legacy(a):
        return load_paddle().minimum(a, b)
    return append_op("elementwise_min", {"X": a, "Y": b})


def matmul(a: Paddle, b: Paddle) -> Paddle:
    """Return the products of all pairs of vectors along the last dims: a · bᵀ."""
    if not is_legacy(a):
        return load_paddle().matmul(a, b, transpose_y=True)
    return append_op("matmul_v2", {"X": a, "Y": b}, {"trans_x": False, "trans_y": True})


def upper_triangle(value: Paddle) -> Paddle:
    """Return square matrices with zeros on and below the diagonal."""
    if not is_legacy(value):
        return load_paddle().triu(value, diagonal=1)
    return append_op("tril_triu", {"X": value}, {"diagonal": 1, "lower": False})


def argmax(value: Paddle) -> Paddle:
    """Return the index of the first maximum along the last dim."""
    if not is_legacy(value):
        return load_paddle().argmax(value, axis=-1)
    attributes = {"axis": -1, "keepdims": False, "flatten": False, "dtype": _INT64}
    return append_op("arg_max", {"X": value}, attributes, dtype="int64")


def full_like(value: Paddle, number: float) -> Paddle:
    """Return a Value of the same shape and dtype, filled with a number."""
    with warnings.catch_warnings():
        # Paddle asks the PIR Value for its place, which it does not have.
        warnings.filterwarnings("ignore", message="(Tensor|Value) do not have 'place'")
        return load_paddle().full_like(value, number)


def flatten(value: Paddle, start: int) -> Paddle:
    """Flatten all dims from `start` on into one."""
    return value.flatten(start)


def one_hot(labels: Paddle, classes: int, like: Paddle) -> Paddle:
    """Return the one-hot encoding [N, classes] of labels, in the shape and dtype of `like`."""
    one_hot = load_paddle().nn.functional.one_hot(labels, classes)
    return require_shape_of(one_hot.astype(like.dtype), like)


def as_vectors(value: Paddle) -> Paddle:
    """Flatten a pooled map [N, C, 1, 1] to [N, C]; return anything else unchanged."""
    return value.flatten(1) if is_pooled(shape_of(value)) else value


def in_float32(value: Paddle) -> Paddle:
    """Return a Value of low precision in float32, any other unchanged.

    The sum over a map can overflow float16.
    """
    return value.astype("float32") if dtype_of(value) in HALF_DTYPES else value


def greater_mask(value: Paddle, number: float) -> Paddle:
    """Return 1 where a Value is greater than a number and 0 elsewhere, in its dtype."""
    return (value > number).astype(value.dtype)


def transpose(value: Paddle, order: Sequence[int]) -> Paddle:
    """Permute the dims of a Value; an identity permutation builds nothing."""
    is_identity = list(order) == list(range(len(order)))
    return value if is_identity else value.transpose(list(order))


def detach(value: Paddle) -> Paddle:
    """Return a copy of a Value that stops the gradient, or the Value if it does so itself."""
    if value.stop_gradient:
        return value
    copied = load_paddle().assign(value)
    copied.stop_gradient = True
    return copied


def difference(a: Paddle, b: Paddle) -> Paddle:
    """Return `a - b`; the run fails with both shapes if they differ.

    Subtraction would silently broadcast a dim of 1. `add_n` requires equal shapes.
    """
    return load_paddle().add_n([a, -b])


def mean_square(teacher: Paddle, student: Paddle, axis: int | None = None) -> Paddle:
    """Return the mean of squared differences; the run fails with both shapes if they differ."""
    residual = difference(student, teacher)
    return (residual * residual).mean(axis)


def require_shape_of(value: Paddle, other: Paddle) -> Paddle:
    """Return `value`; the run fails if its shape is not that of `other`."""
    return load_paddle().add_n([value, full_like(other, 0.0)])


def log_probability(value: Paddle) -> Paddle:
    """Return the logarithm of probabilities, the smallest of which are raised to 1e-30."""
    return _log(value.clip(min=_LEAST_PROBABILITY))


def log_softmax(value: Paddle) -> Paddle:
    """Return the logarithm of the softmax along the last dim, at least -1e4.

    Paddle's own is clipped at -64 on CPUs, which turns a cross entropy of 100 into 64.
    """
    if not is_legacy(value):
        sums = load_paddle().logsumexp(value, -1, keepdim=True)
    else:
        attributes = {"axis": [-1], "keepdim": True, "reduce_all": False}
        sums = append_op("logsumexp", {"X": value}, attributes)
    return (value - sums).clip(min=_LEAST_LOG)


def softened(logits: Paddle, temperature: float) -> Paddle:
    """Divide logits by a temperature."""
    return logits / temperature


def kl_divergence(teacher: Paddle, student: Paddle) -> Paddle:
    """Return KL(p ‖ q) along the last dim, with p and q the softmax of teacher and student.

    The run fails if the shapes differ.
    """
    teacher_logs = log_softmax(teacher)
    return reduce_sum(exp(teacher_logs) * difference(teacher_logs, log_softmax(student)), -1)


def entropy(value: Paddle) -> Paddle:
    """Return the entropy of the softmax along the last dim."""
    logs = log_softmax(value)
    return -reduce_sum(exp(logs) * logs, -1)


def centre(value: Paddle, axis: int | list[int]) -> Paddle:
    """Subtract the mean along axes."""
    return value - value.mean(axis, keepdim=True)


def correlation_distance(a: Paddle, b: Paddle, axis: int) -> Paddle:
    """Return 1 - Pearson's correlation along an axis: half the squared distance of unit vectors.

    The run fails if the shapes differ.
    """
    residual = difference(l2_normalise(centre(a, axis), axis), l2_normalise(centre(b, axis), axis))
    return reduce_sum(residual * residual, axis) / 2


def l2_normalise(value: Paddle, axis: int) -> Paddle:
    """Divide vectors along an axis by their norm; zero vectors stay zero and get no gradient.

    The gradient of the direction of a zero vector is undefined, and the 1e12 that a bare
    `x / max(|x|, 1e-12)` gives there makes training diverge.
    """
    squares = reduce_sum(value * value, axis, keep=True)
    least = _LEAST_NORM**2
    return value * greater_mask(squares, least) / sqrt(squares.clip(min=least))


def with_dynamic_batch(value: Paddle) -> Paddle:
    """Return the same Value with a batch that is known at run time only.

    A teacher that was exported at one batch runs at any, but its Values still declare the old one.
    """
    # 0 keeps a dim; -1 may stand for a single dim only.
    rest = [0 if dim == UNKNOWN_DIM else dim for dim in value.shape[1:]]
    return load_paddle().reshape(value, [load_paddle().shape(value)[0], *rest])
