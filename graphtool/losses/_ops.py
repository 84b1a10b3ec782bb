"""The operators that losses are built from, for PIR Values and legacy Variables alike.

Everything else in the losses calls Paddle directly. In the legacy mode of Paddle 3 some functions
(`paddle.sum`, `exp`, `matmul`) accept PIR Values only: there the operator is appended explicitly.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from graphtool.backend.legacy import append_op
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.checks.adapters import is_pooled
from graphtool.graph import UNKNOWN_DIM

__all__ = [
    "absolute",
    "argmax",
    "as_vectors",
    "cast",
    "centre",
    "clip_max",
    "clip_min",
    "correlation_distance",
    "detach",
    "difference",
    "entropy",
    "exp",
    "flatten",
    "full_like",
    "greater_mask",
    "kl_divergence",
    "l2_normalise",
    "log",
    "log_probability",
    "log_softmax",
    "matmul",
    "mean",
    "minimum",
    "one_hot",
    "reduce_sum",
    "require_shape_of",
    "reshape",
    "sqrt",
    "transpose",
    "unsqueeze",
    "upper_triangle",
    "with_dynamic_batch",
    "zero_unless_greater",
]


# Norms below this count as zero, as in the authors' code of most papers (`eps=1e-12`).
_LEAST_NORM = 1e-12
# A logit of -inf excludes a class: 0 · (-inf + inf) would make the whole loss NaN.
_LEAST_LOG = -1e4
# float32 still holds its logarithm.
_LEAST_PROBABILITY = 1e-30
# int64 in the dtype enumeration of ProgramDesc.
_INT64 = 3


def mean(value: Paddle, axis: int | list[int] | None = None, *, keep: bool = False) -> Paddle:
    """Return the mean over axes, over all of them if None."""
    return load_paddle().mean(value, axis=axis, keepdim=keep)


def reduce_sum(value: Paddle, axis: int | list[int] | None = None, *, keep: bool = False) -> Paddle:
    """Return the sum over axes, over all of them if None."""
    if not is_legacy(value):
        return load_paddle().sum(value, axis=axis, keepdim=keep)
    axes = [axis] if isinstance(axis, int) else axis
    attributes = {"dim": axes or [0], "keep_dim": keep, "reduce_all": axes is None}
    return append_op("reduce_sum", {"X": value}, attributes)


def exp(value: Paddle) -> Paddle:
    """Return e to the power of each element."""
    return _elementwise("exp", value)


def log(value: Paddle) -> Paddle:
    """Return the natural logarithm of each element."""
    return _elementwise("log", value)


def sqrt(value: Paddle) -> Paddle:
    """Return the square root of each element."""
    return _elementwise("sqrt", value)


def absolute(value: Paddle) -> Paddle:
    """Return the absolute value of each element."""
    return _elementwise("abs", value)


def minimum(a: Paddle, b: Paddle) -> Paddle:
    """Return the smaller of each two elements."""
    if not is_legacy(a):
        return load_paddle().minimum(a, b)
    return append_op("elementwise_min", {"X": a, "Y": b})


def matmul(a: Paddle, b: Paddle, *, transpose_b: bool = False) -> Paddle:
    """Return the matrix product over the last two dims."""
    if not is_legacy(a):
        return load_paddle().matmul(a, b, transpose_y=transpose_b)
    return append_op("matmul_v2", {"X": a, "Y": b}, {"trans_x": False, "trans_y": transpose_b})


def upper_triangle(value: Paddle) -> Paddle:
    """Return square matrices with zeros on and below the diagonal."""
    if not is_legacy(value):
        return load_paddle().triu(value, diagonal=1)
    return append_op("tril_triu", {"X": value}, {"diagonal": 1, "lower": False})


def argmax(value: Paddle) -> Paddle:
    """Return the index of the first maximum along the last dim."""
    paddle = load_paddle()
    if not is_legacy(value):
        return paddle.argmax(value, axis=-1)
    attributes = {"axis": -1, "keepdims": False, "flatten": False, "dtype": _INT64}
    return append_op("arg_max", {"X": value}, attributes, dtype="int64")


def one_hot(labels: Paddle, classes: int, like: Paddle) -> Paddle:
    """Return the one-hot encoding [N, classes] of labels, in the dtype of `like`."""
    return cast(load_paddle().nn.functional.one_hot(labels, classes), like.dtype)


def cast(value: Paddle, dtype: Paddle) -> Paddle:
    """Return a Value in another dtype."""
    return load_paddle().cast(value, dtype)


def full_like(value: Paddle, number: float) -> Paddle:
    """Return a Value of the same shape and dtype, filled with a number."""
    paddle = load_paddle()
    with warnings.catch_warnings():
        # Paddle asks the PIR Value for its place, which it does not have.
        warnings.filterwarnings("ignore", message="(Tensor|Value) do not have 'place'")
        return paddle.full_like(value, number)


def flatten(value: Paddle, start: int) -> Paddle:
    """Flatten all dims from `start` on into one."""
    return load_paddle().flatten(value, start, -1)


def reshape(value: Paddle, shape: Sequence[int]) -> Paddle:
    """Return a Value in another shape; 0 keeps a dim."""
    return load_paddle().reshape(value, list(shape))


def as_vectors(value: Paddle) -> Paddle:
    """Flatten a pooled map [N, C, 1, 1] to [N, C]; return anything else unchanged."""
    return flatten(value, 1) if is_pooled(tuple(value.shape)) else value


def clip_min(value: Paddle, lowest: float) -> Paddle:
    """Raise lower elements to a number; they get no gradient."""
    return load_paddle().clip(value, min=lowest)


def clip_max(value: Paddle, highest: float) -> Paddle:
    """Lower higher elements to a number; they get no gradient."""
    return load_paddle().clip(value, max=highest)


def greater_mask(value: Paddle, number: float) -> Paddle:
    """Return 1 where a Value is greater than a number and 0 elsewhere, in its dtype."""
    return cast(value > number, value.dtype)


def zero_unless_greater(value: Paddle, number: float) -> Paddle:
    """Set elements that are not greater than a number to 0, infinite ones included."""
    return load_paddle().where(value > number, value, full_like(value, 0.0))


def unsqueeze(value: Paddle, axis: int | list[int]) -> Paddle:
    """Insert dims of 1 at axes of the result."""
    return load_paddle().unsqueeze(value, axis)


def transpose(value: Paddle, order: Sequence[int] = (1, 0)) -> Paddle:
    """Permute the dims of a Value; an identity permutation builds nothing."""
    is_identity = list(order) == list(range(len(order)))
    return value if is_identity else load_paddle().transpose(value, list(order))


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


def require_shape_of(value: Paddle, other: Paddle) -> Paddle:
    """Return `value`; the run fails if its shape is not that of `other`."""
    return load_paddle().add_n([value, full_like(other, 0.0)])


def log_probability(value: Paddle) -> Paddle:
    """Return the logarithm of probabilities, the smallest of which are raised to 1e-30."""
    return log(clip_min(value, _LEAST_PROBABILITY))


def log_softmax(value: Paddle) -> Paddle:
    """Return the logarithm of the softmax along the last dim, at least -1e4.

    Paddle's own is clipped at -64 on CPUs, which turns a cross entropy of 100 into 64.
    """
    return clip_min(value - _log_sum_exp(value), _LEAST_LOG)


def _log_sum_exp(value: Paddle) -> Paddle:
    """Return the logarithm of the sum of exponentials along the last dim, which is kept as 1."""
    if not is_legacy(value):
        return load_paddle().logsumexp(value, -1, keepdim=True)
    attributes = {"axis": [-1], "keepdim": True, "reduce_all": False}
    return append_op("logsumexp", {"X": value}, attributes)


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


def centre(value: Paddle, axis: int) -> Paddle:
    """Subtract the mean along an axis."""
    return value - mean(value, axis, keep=True)


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
    return value * greater_mask(squares, least) / sqrt(clip_min(squares, least))


def with_dynamic_batch(value: Paddle) -> Paddle:
    """Return the same Value with a batch that is known at run time only.

    A teacher that was exported at one batch runs at any, but its Values still declare the old one.
    """
    paddle = load_paddle()
    # 0 keeps a dim; -1 may stand for a single dim only.
    rest = [0 if dim == UNKNOWN_DIM else dim for dim in value.shape[1:]]
    return paddle.reshape(value, [paddle.shape(value)[0], *rest])


def _elementwise(type: str, value: Paddle) -> Paddle:
    if not is_legacy(value):
        return getattr(load_paddle(), type)(value)
    return append_op(type, {"X": value})
