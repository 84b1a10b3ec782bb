"""The operators that losses are made of, on PIR Values and legacy Variables alike.

What is not here Paddle's operators and functions do for both. In the legacy mode of Paddle 3 some
functions (`paddle.sum`, `exp`, `matmul`) take Values alone: there the operator is appended by hand.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from graphtool.checks.adapters import is_pooled
from graphtool.graph import UNKNOWN
from graphtool.readers._paddle import is_legacy, load_paddle

__all__ = [
    "absolute",
    "argmax",
    "as_vectors",
    "between",
    "capped",
    "cast",
    "centred",
    "difference",
    "divergence",
    "entropy",
    "exp",
    "flat",
    "floored",
    "frozen",
    "greater",
    "inserted",
    "like",
    "log",
    "log_softmax",
    "mean",
    "off_diagonal",
    "one_hot",
    "product",
    "resplit",
    "root",
    "same_shape",
    "total",
    "transposed",
    "uncorrelated",
    "unit",
    "where_greater",
    "with_free_batch",
]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# Lengths below this are taken for zero, as in the authors' code of most papers (`eps=1e-12`).
_SHORTEST = 1e-12


def mean(value: _Paddle, axis: int | list[int] | None = None, *, keep: bool = False) -> _Paddle:
    """Return the mean over axes, over all of them where None."""
    return load_paddle().mean(value, axis=axis, keepdim=keep)


def total(value: _Paddle, axis: int | list[int] | None = None, *, keep: bool = False) -> _Paddle:
    """Return the sum over axes, over all of them where None."""
    if not is_legacy(value):
        return load_paddle().sum(value, axis=axis, keepdim=keep)
    axes = [axis] if isinstance(axis, int) else axis
    attributes = {"dim": axes or [0], "keep_dim": keep, "reduce_all": axes is None}
    return _appended("reduce_sum", {"X": value}, attributes)


def exp(value: _Paddle) -> _Paddle:
    """Return e to the power of each element."""
    return _elementwise("exp", value)


def log(value: _Paddle) -> _Paddle:
    """Return natural logarithms."""
    return _elementwise("log", value)


def root(value: _Paddle) -> _Paddle:
    """Return square roots."""
    return _elementwise("sqrt", value)


def absolute(value: _Paddle) -> _Paddle:
    """Return absolute values."""
    return _elementwise("abs", value)


def product(a: _Paddle, b: _Paddle, *, transposed: bool = False) -> _Paddle:
    """Return the matrix product of the last two dims, `b` transposed if asked for."""
    if not is_legacy(a):
        return load_paddle().matmul(a, b, transpose_y=transposed)
    return _appended("matmul_v2", {"X": a, "Y": b}, {"trans_x": False, "trans_y": transposed})


def off_diagonal(value: _Paddle) -> _Paddle:
    """Return square matrices with zeros on and below the diagonal."""
    if not is_legacy(value):
        return load_paddle().triu(value, diagonal=1)
    return _appended("tril_triu", {"X": value}, {"diagonal": 1, "lower": False})


def argmax(value: _Paddle) -> _Paddle:
    """Return the position of the largest element along the last dim, the first of equal ones."""
    paddle = load_paddle()
    if not is_legacy(value):
        return paddle.argmax(value, axis=-1)
    attributes = {"axis": -1, "keepdims": False, "flatten": False, "dtype": _INT64}
    return _appended("arg_max", {"X": value}, attributes, dtype="int64")


# The number that a ProgramDesc has for the dtype.
_INT64 = 3


def one_hot(labels: _Paddle, classes: int, like: _Paddle) -> _Paddle:
    """Return [N, classes] of zeros with a one at each label, in the dtype of `like`."""
    return cast(load_paddle().nn.functional.one_hot(labels, classes), like.dtype)


def cast(value: _Paddle, dtype: _Paddle) -> _Paddle:
    """Return a Value in another dtype."""
    return load_paddle().cast(value, dtype)


def like(value: _Paddle, number: float) -> _Paddle:
    """Return a Value of the same shape, and dtype, that holds one number throughout."""
    paddle = load_paddle()
    with warnings.catch_warnings():
        # It asks a Value of PIR for its place, which has none and says so.
        warnings.filterwarnings("ignore", message="(Tensor|Value) do not have 'place'")
        return paddle.full_like(value, number)


def flat(value: _Paddle, start: int) -> _Paddle:
    """Join all dims from `start` on into one."""
    return load_paddle().flatten(value, start, -1)


def as_vectors(value: _Paddle) -> _Paddle:
    """Take a pooled map [N, C, 1, 1] as vectors, anything else as it is."""
    return flat(value, 1) if is_pooled(tuple(value.shape)) else value


def floored(value: _Paddle, lowest: float) -> _Paddle:
    """Raise what is lower to a number; no gradient passes there."""
    return load_paddle().clip(value, min=lowest)


def greater(value: _Paddle, number: float) -> _Paddle:
    """Return ones where a Value is greater than a number and zeros elsewhere, in its dtype."""
    return cast(value > number, value.dtype)


def where_greater(value: _Paddle, number: float) -> _Paddle:
    """Return a Value with zeros where it is not greater than a number, infinite ones included."""
    return load_paddle().where(value > number, value, like(value, 0.0))


def capped(value: _Paddle, highest: float) -> _Paddle:
    """Lower what is higher to a number; no gradient passes there."""
    return load_paddle().clip(value, max=highest)


def inserted(value: _Paddle, axis: int | list[int]) -> _Paddle:
    """Insert dims of 1 at axes of the result."""
    return load_paddle().unsqueeze(value, axis)


def transposed(value: _Paddle, order: Sequence[int] = (1, 0)) -> _Paddle:
    """Put the dims of a Value into an order, those of a matrix the other way round."""
    is_so = list(order) == list(range(len(order)))
    return value if is_so else load_paddle().transpose(value, list(order))


def resplit(vectors: _Paddle, heads: int, width: int) -> _Paddle:
    """Split the width of all heads, [N, heads, L, D], anew: into `heads` heads of `width` each."""
    paddle = load_paddle()
    joined = paddle.reshape(paddle.transpose(vectors, [0, 2, 1, 3]), [0, 0, heads, width])
    return paddle.transpose(joined, [0, 2, 1, 3])


def between(vectors: _Paddle) -> _Paddle:
    """Return [N, N, D] for [N, D]: for each vector, what leads from it to the others."""
    return inserted(vectors, 0) - inserted(vectors, 1)


def frozen(value: _Paddle) -> _Paddle:
    """Return a Value that holds the same and lets no gradient pass."""
    if value.stop_gradient:
        return value
    copied = load_paddle().assign(value)
    copied.stop_gradient = True
    return copied


def difference(a: _Paddle, b: _Paddle) -> _Paddle:
    """Return `a - b`; where shapes differ the run stops with both of them.

    Subtraction would stretch a dim of 1 in silence. `add_n` alone compares shapes as they are.
    """
    return load_paddle().add_n([a, -b])


def log_softmax(value: _Paddle) -> _Paddle:
    """Return logarithms of the softmax along the last dim, -1e4 for those below.

    Paddle's own stops at -64 on CPUs, which makes 64 of a cross entropy of 100.
    """
    return floored(value - _log_of_sum(value), _LEAST_LOG)


# Logits of -inf leave a class out: 0 · (-inf + inf) would make NaN of the whole loss.
_LEAST_LOG = -1e4


def _log_of_sum(value: _Paddle) -> _Paddle:
    """Return the logarithm of the sum of exponentials along the last dim, which stays as 1."""
    if not is_legacy(value):
        return load_paddle().logsumexp(value, -1, keepdim=True)
    attributes = {"axis": [-1], "keepdim": True, "reduce_all": False}
    return _appended("logsumexp", {"X": value}, attributes)


def divergence(teacher: _Paddle, student: _Paddle) -> _Paddle:
    """Return KL(p ‖ q) along the last dim, for the softmax p of the teacher and q of the student.

    The run stops where the shapes differ.
    """
    theirs = log_softmax(teacher)
    return total(exp(theirs) * difference(theirs, log_softmax(student)), -1)


def entropy(value: _Paddle) -> _Paddle:
    """Return the entropy of the softmax along the last dim."""
    logs = log_softmax(value)
    return -total(exp(logs) * logs, -1)


def centred(value: _Paddle, axis: int) -> _Paddle:
    """Take the mean along an axis away."""
    return value - mean(value, axis, keep=True)


def uncorrelated(a: _Paddle, b: _Paddle, axis: int) -> _Paddle:
    """Return 1 - Pearson's correlation along an axis: half the squared distance of unit vectors.

    The run stops where the shapes differ.
    """
    apart = difference(unit(centred(a, axis), axis), unit(centred(b, axis), axis))
    return total(apart * apart, axis) / 2


def same_shape(value: _Paddle, other: _Paddle) -> _Paddle:
    """Return `value`, in a run that stops where its shape is not that of `other`."""
    return load_paddle().add_n([value, like(other, 0.0)])


def unit(value: _Paddle, axis: int) -> _Paddle:
    """Divide vectors along an axis by their length; those of no length stay zero.

    They get no gradient: that of the direction of a zero vector is not defined, and the 1e12 that
    a bare `x / max(|x|, 1e-12)` has there ends a training.
    """
    squares = total(value * value, axis, keep=True)
    return value * greater(squares, _SHORTEST**2) / root(floored(squares, _SHORTEST**2))


def with_free_batch(value: _Paddle) -> _Paddle:
    """Return the same Value with a batch that is known at run time only.

    A teacher that was exported at one batch runs at any, yet its Values keep saying the old one.
    """
    paddle = load_paddle()
    # 0 keeps a dim as it is; -1 can stand for one of them alone.
    rest = [0 if dim == UNKNOWN else dim for dim in value.shape[1:]]
    return paddle.reshape(value, [paddle.shape(value)[0], *rest])


def _elementwise(type: str, value: _Paddle) -> _Paddle:
    if not is_legacy(value):
        return getattr(load_paddle(), type)(value)
    return _appended(type, {"X": value})


def _appended(
    type: str,
    inputs: Mapping[str, _Paddle],
    attributes: Mapping[str, bool | int | float | Sequence[int]] | None = None,
    dtype: str | None = None,
) -> _Paddle:
    """Append an operator to the current Block of a legacy Program and return its result."""
    helper = load_paddle().base.layer_helper.LayerHelper(f"graphtool_{type}")
    result = helper.create_variable_for_type_inference(dtype or inputs["X"].dtype)
    helper.append_op(
        type=type, inputs=dict(inputs), outputs={"Out": result}, attrs=dict(attributes or {})
    )
    return result
