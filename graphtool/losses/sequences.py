"""Losses for transformers: hidden_state, attention_scores, attention_relation, pkd."""

from __future__ import annotations

from graphtool.backend.paddle import Paddle
from graphtool.diagnostics import UsageError
from graphtool.losses import _ops as ops
from graphtool.losses._operands import bad_value, loss
from graphtool.losses._values import shape_of
from graphtool.losses.maps import match_channels

__all__ = ["attention_relation", "attention_scores", "hidden_state", "pkd"]


# Scores up to this are masked ones, as in TinyBERT's code.
_MASKED_SCORE = -100.0
# Subtracted from the logits of masked keys: float32 softmax makes 0 of them.
_MASKED_KEY_PENALTY = 1e4
# Added to a channel's standard deviation in pkd, as in the authors' code.
_DEVIATION_EPSILON = 1e-6
_LEAST_VARIANCE = 1e-18
_LEAST_WEIGHT = 1e-12
_SAMPLES_AND_POSITIONS = [0, 2, 3]


@loss
def hidden_state(
    teacher: Paddle | str, student: Paddle | str, *, mask: Paddle | str | None = None
) -> Paddle:
    """Return the mean of squared differences of hidden states, through a linear layer if needed.

    mean((S · W - T)²), for tokens [N, L, D]: W is a new linear layer that is learnt
    (`adapters.linear`) if the widths D differ, otherwise the identity. `mask` [N, L], numbers or
    bool, is a Value or a name of the student: the mean over tokens is weighted by it, which
    excludes padding. Jiao et al. 2020 (TinyBERT, arXiv 1909.10351).

    Raises what `l2` does, and PairError GT346 for another mask, GT336 if the widths are unknown.
    """
    residual = ops.difference(match_channels(teacher, student), teacher)
    return _weighted_mean(ops.mean(residual * residual, 2), _token_weights(mask, student))


@loss
def attention_scores(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    mask: Paddle | str | None = None,
    by: str = "squares",
) -> Paddle:
    """Return the difference of attention scores, before softmax, head by head.

    For scores [N, heads, L, L]. `by="squares"`: mean((S - T)²), with masked scores, of -100 and
    less, taken as 0: TinyBERT (Jiao et al. 2020, arXiv 1909.10351) and its code. `by="divergence"`:
    the mean over samples, heads and queries of KL(softmax(T) ‖ softmax(S)) over keys: MiniLM (Wang
    et al. 2020, arXiv 2002.10957). `mask` [N, L], numbers or bool, is a Value or a name of the
    student; it excludes padding, as queries and as keys. Either loss is 0 for equal scores.

    Raises what `l2` does, UsageError GT347, and PairError GT346 for another mask, GT228 for scores
    after a softmax.
    """
    weights = _token_weights(mask, student)
    if by == "divergence":
        return _key_divergence(teacher, student, weights)
    residual = ops.difference(
        ops.zero_unless_greater(student, _MASKED_SCORE),
        ops.zero_unless_greater(teacher, _MASKED_SCORE),
    )
    return _weighted_mean(ops.mean(residual * residual, 1), _token_pair_weights(weights))


def _key_divergence(teacher: Paddle, student: Paddle, weights: Paddle | None) -> Paddle:
    """Return the mean over samples, heads and queries of KL(softmax(T) ‖ softmax(S)) over keys."""
    teacher, student = (_mask_keys(scores, weights) for scores in (teacher, student))
    return _weighted_mean(ops.mean(ops.kl_divergence(teacher, student), 1), weights)


@loss
def attention_relation(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    heads: int | None = None,
    mask: Paddle | str | None = None,
) -> Paddle:
    """Return the difference of relations between tokens, head by head, as in MiniLMv2.

    The mean over samples, heads and queries of KL(softmax(T·Tᵀ/√D) ‖ softmax(S·Sᵀ/√D)) over keys,
    for the queries, keys or values of an attention, [N, heads, L, D]; D may differ between the
    networks. `heads` splits the width, heads · D, of both into this many relation heads, so that
    networks with different numbers of heads can be compared; more of them teach more. `mask` is
    that of `attention_scores`. Wang et al. 2021 (arXiv 2012.15828) sum it over queries, keys and
    values of one layer: the last of the student, an upper one of the teacher.

    Raises what `l2` does, UsageError GT347 if `heads` doesn't divide a width, and PairError GT346
    for another mask, GT336 if heads or D are unknown.
    """
    if heads is not None:
        widths = [shape_of(vectors)[1] * shape_of(vectors)[3] for vectors in (teacher, student)]
        if type(heads) is not int or heads < 1 or any(width % heads for width in widths):
            expected = f"a number that divides the widths, {widths[0]} and {widths[1]}"
            raise UsageError(bad_value("attention_relation", "heads", heads, expected))
    teacher, student = (_relations(vectors, heads) for vectors in (teacher, student))
    return _key_divergence(teacher, student, _token_weights(mask, student))


def _relations(vectors: Paddle, heads: int | None) -> Paddle:
    """Return [N, heads, L, L]: the scaled dot products of the tokens' vectors [N, heads, L, D]."""
    width = shape_of(vectors)[3]
    if heads is not None:
        width = shape_of(vectors)[1] * width // heads
        joined = ops.reshape(ops.transpose(vectors, [0, 2, 1, 3]), [0, 0, heads, width])
        vectors = ops.transpose(joined, [0, 2, 1, 3])
    products = ops.matmul(vectors, vectors, transpose_b=True)
    # Paddle would round a Python number to float32.
    return products / ops.sqrt(ops.full_like(products, width))


@loss
def pkd(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return PKD: of the two losses of this name, the one for this kind of Value.

    Vectors [N, D] and tokens [N, L, D]: patient distillation, mean((s - t)²) over all elements of
    the normalised vectors, which is 2 (1 - cosine) / D per vector. Sun et al. 2019 (arXiv
    1908.09355), with the normalisation and the mean of their code, which compares the states of the
    first token.

    Maps [N, C, H, W]: distillation by Pearson's correlation for detectors, half of mean((n(S) -
    n(T))²), n(F) = (F - mean) / (standard deviation + 1e-6) for each channel over samples and
    positions. Cao et al. 2022 (arXiv 2207.02039); the half, and the deviation of n - 1, are those
    of their code.

    The shapes are equal. It is 0 for vectors that are positive multiples of each other, and for
    channels that are so after a shift.

    Raises what `l2` does.
    """
    if len(shape_of(teacher)) < 4:
        residual = ops.difference(ops.l2_normalise(student, -1), ops.l2_normalise(teacher, -1))
        return ops.mean(residual * residual)
    residual = ops.difference(_standardised_channels(student), _standardised_channels(teacher))
    return ops.mean(residual * residual) / 2


def _standardised_channels(maps: Paddle) -> Paddle:
    """Subtract each channel's mean and divide by its deviation, over samples and positions."""
    axes = _SAMPLES_AND_POSITIONS
    centred = maps - ops.mean(maps, axes, keep=True)
    count = ops.reduce_sum(ops.full_like(centred, 1.0), axes, keep=True)
    squares = ops.reduce_sum(centred * centred, axes, keep=True)
    variance = squares / ops.clip_min(count - 1.0, 1.0)
    # Constant channels get no gradient: a factor of 1 / 1e-6 would make training diverge.
    varies = ops.greater_mask(variance, _LEAST_VARIANCE)
    scaled = centred * varies
    return scaled / (ops.sqrt(ops.clip_min(variance, _LEAST_VARIANCE)) + _DEVIATION_EPSILON)


def _token_weights(mask: Paddle | None, student: Paddle) -> Paddle | None:
    return None if mask is None else ops.detach(ops.cast(mask, student.dtype))


def _weighted_mean(value: Paddle, weights: Paddle | None) -> Paddle:
    """Return the mean, weighted if there are weights; it is 0 if all weights are."""
    if weights is None:
        return ops.mean(value)
    weights = ops.require_shape_of(weights, value)
    return ops.reduce_sum(value * weights) / ops.clip_min(ops.reduce_sum(weights), _LEAST_WEIGHT)


def _token_pair_weights(weights: Paddle | None) -> Paddle | None:
    """Turn the weights of tokens [N, L] into those of pairs of tokens [N, L, L]."""
    if weights is None:
        return None
    column = ops.unsqueeze(weights, 2)
    return ops.matmul(column, column, transpose_b=True)


def _mask_keys(scores: Paddle, weights: Paddle | None) -> Paddle:
    if weights is None:
        return scores
    return scores - (1.0 - ops.unsqueeze(weights, [1, 2])) * _MASKED_KEY_PENALTY
