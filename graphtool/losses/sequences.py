"""Losses for transformers: hidden_state, attention_scores, attention_relation, pkd."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphtool.backend.paddle import Paddle
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.graph import shapes_agree
from graphtool.loss_specs import MinElements, OperandSpec, register_loss
from graphtool.losses import _ops as ops
from graphtool.losses import problems
from graphtool.losses._operands import (
    atomic,
    check_operands,
    loss_operands,
    prepare,
    raise_pair_errors,
    resolve,
    takes_of,
)
from graphtool.losses._values import dtype_of, shape_of, where_of
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
_TWO_KEYS = MinElements(count=2, of=("key", "keys"), start=2, stop=3)
_WIDTHS = (("teacher", 3), ("student", 3))
_RELATIONS = OperandSpec(ranks=(4, 4), stop=3, known=_WIDTHS, heads=True, least=_TWO_KEYS)
# With `heads`, the networks may have different numbers of heads.
_REGROUPED = replace(_RELATIONS, start=2, known=(("teacher", 1), ("student", 1), *_WIDTHS))


@register_loss(OperandSpec(ranks=(3, 3), adapts=True))
@atomic
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
    name = "hidden_state"
    teacher, student, *masks = _resolve_with_mask(name, teacher, student, mask)
    found = check_operands(name, takes_of(name), teacher, student)
    raise_pair_errors((*found, *_check_masks(masks, student, 1)))
    teacher, student = prepare(teacher, student)
    residual = ops.difference(match_channels(teacher, student), teacher)
    return _weighted_mean(ops.mean(residual * residual, 2), _token_weights(masks, student))


@register_loss(OperandSpec(ranks=(4, 4), logits=True, heads=True))
@atomic
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
    name = "attention_scores"
    if by not in ("squares", "divergence"):
        expected = '"squares" or "divergence"'
        raise UsageError(problems.bad_value(name, "by", by, expected))
    teacher, student, *masks = _resolve_with_mask(name, teacher, student, mask)
    takes = takes_of(name)
    if by == "divergence":
        takes = replace(takes, least=replace(_TWO_KEYS, start=3, stop=4))
    raise_pair_errors(
        (
            *check_operands(name, takes, teacher, student),
            *_check_masks(masks, student, 2),
            *_check_masks(masks, student, 3),
        )
    )
    teacher, student = prepare(teacher, student)
    weights = _token_weights(masks, student)
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


@register_loss(_RELATIONS, otherwise={"heads": _REGROUPED})
@atomic
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
    name = "attention_relation"
    teacher, student, *masks = _resolve_with_mask(name, teacher, student, mask)
    found = check_operands(name, takes_of(name, heads=heads), teacher, student)
    raise_pair_errors((*found, *_check_masks(masks, student, 2)))
    if heads is not None:
        _require_heads(heads, (teacher, student))
    teacher, student = (_relations(vectors, heads) for vectors in prepare(teacher, student))
    return _key_divergence(teacher, student, _token_weights(masks, student))


def _require_heads(heads: object, operands: tuple[Paddle, Paddle]) -> None:
    widths = [shape_of(vectors)[1] * shape_of(vectors)[3] for vectors in operands]
    if type(heads) is not int or heads < 1 or any(width % heads for width in widths):
        expected = f"a number that divides the widths, {widths[0]} and {widths[1]}"
        raise UsageError(problems.bad_value("attention_relation", "heads", heads, expected))


def _relations(vectors: Paddle, heads: int | None) -> Paddle:
    """Return [N, heads, L, L]: the scaled dot products of the tokens' vectors [N, heads, L, D]."""
    width = shape_of(vectors)[3]
    if heads is not None:
        width = shape_of(vectors)[1] * width // heads
        vectors = ops.regroup_heads(vectors, heads, width)
    products = ops.matmul(vectors, vectors, transpose_b=True)
    # Paddle would round a Python number to float32.
    return products / ops.sqrt(ops.full_like(products, width))


@register_loss(OperandSpec(ranks=(2, 4)))
@atomic
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
    teacher, student = loss_operands("pkd", teacher, student)
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


def _resolve_with_mask(
    loss: str, teacher: object, student: object, mask: object | None
) -> list[Paddle]:
    masks = {} if mask is None else {"mask": mask}
    return resolve(loss, {"teacher": teacher}, {"student": student, **masks})


def _check_masks(masks: list[Paddle], student: Paddle, axis: int) -> Iterator[Diagnostic]:
    """Yield a problem if a mask is not [N, L], L being the length of an axis."""
    shape = shape_of(student)
    expected = (*shape[:1], *shape[axis : axis + 1])
    for mask in masks:
        if not shapes_agree(shape_of(mask), expected):
            found = f"{dtype_of(mask)} {list(shape_of(mask))}"
            per_token = f"{list(expected)}: a number, or bool, per token"
            yield problems.bad_labels("mask", where_of(mask, "mask"), found, per_token)


def _token_weights(masks: list[Paddle], student: Paddle) -> Paddle | None:
    return ops.detach(ops.cast(masks[0], student.dtype)) if masks else None


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
