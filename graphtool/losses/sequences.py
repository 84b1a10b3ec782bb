"""Losses for transformers: hidden_state, attention_scores, attention_relation, pkd."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias

from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.graph import shapes_agree
from graphtool.loss_names import Least, Takes, for_pairs
from graphtool.losses import _ops as ops
from graphtool.losses import problems
from graphtool.losses._ends import (
    built_whole,
    ends,
    misfits,
    prepared,
    refuse,
    resolved,
    taken,
)
from graphtool.losses._values import dtype_of, place_of, shape_of
from graphtool.losses.maps import adapted

__all__ = ["attention_relation", "attention_scores", "hidden_state", "pkd"]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# Scores at and below this belong to what a mask left out, as in TinyBERT's code.
_MASKED = -100.0
# Added to logits that a mask leaves out: float32 softmax makes 0 of it.
_FAR = 1e4
_KEYS = Least(count=2, of=("key", "keys"), start=2, stop=3)


@for_pairs(Takes(ranks=(3, 3), adapts=True))
@built_whole
def hidden_state(
    teacher: _Paddle | str, student: _Paddle | str, *, mask: _Paddle | str | None = None
) -> _Paddle:
    """Return the mean of squared differences of hidden states, through a linear layer if needed.

    mean((S · W - T)²), for tokens [N, L, D]: W is a new linear layer that learns
    (`adapters.linear`) where the widths D differ, else nothing. `mask` [N, L], numbers or bool, a
    Value or a name of the student: the mean is over tokens by these weights, so padding is left
    out. Jiao et al. 2020 (TinyBERT, arXiv 1909.10351).

    Raises what `l2` does, and PairError GT346 for another mask, GT354 where the widths are not
    known.
    """
    left, right, *masks = _resolved("hidden_state", teacher, student, mask)
    refuse(
        (
            *misfits("hidden_state", taken("hidden_state"), left, right),
            *_mask_misfits(masks, right, 1),
        )
    )
    left, right = prepared(left, right)
    apart = ops.difference(adapted(left, right), left)
    return _mean(ops.mean(apart * apart, 2), _kept(masks, right))


@for_pairs(Takes(ranks=(4, 4), logits=True, heads=True))
@built_whole
def attention_scores(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    mask: _Paddle | str | None = None,
    by: str = "squares",
) -> _Paddle:
    """Return how far attention scores are apart, before softmax, head by head.

    For scores [N, heads, L, L]. `by="squares"`: mean((S - T)²), with scores of -100 and less, which
    a mask left out, taken for 0: TinyBERT (Jiao et al. 2020, arXiv 1909.10351) and its code.
    `by="divergence"`: the mean over samples, heads and queries of KL(softmax(T) ‖ softmax(S)) over
    keys: MiniLM (Wang et al. 2020, arXiv 2002.10957). `mask` [N, L], numbers or bool, a Value or a
    name of the student, leaves out padding, as queries and as keys. Either is 0 for equal scores.

    Raises what `l2` does, UsageError GT347, and PairError GT346 for another mask, GT349 for what is
    behind softmax.
    """
    if by not in ("squares", "divergence"):
        wanted = '"squares" or "divergence"'
        raise UsageError(problems.bad_option("attention_scores", "by", by, wanted))
    left, right, *masks = _resolved("attention_scores", teacher, student, mask)
    takes = taken("attention_scores")
    if by == "divergence":
        takes = replace(takes, least=replace(_KEYS, start=3, stop=4))
    refuse(
        (
            *misfits("attention_scores", takes, left, right),
            *_mask_misfits(masks, right, 2),
            *_mask_misfits(masks, right, 3),
        )
    )
    left, right = prepared(left, right)
    kept = _kept(masks, right)
    if by == "squares":
        apart = ops.difference(_unmasked(right), _unmasked(left))
        return _mean(ops.mean(apart * apart, 1), _pairs(kept))
    return _divergence(left, right, kept)


def _divergence(teacher: _Paddle, student: _Paddle, kept: _Paddle | None) -> _Paddle:
    """Return the mean over samples, heads and queries of KL(softmax(T) ‖ softmax(S)) over keys."""
    left, right = (_without_keys(scores, kept) for scores in (teacher, student))
    return _mean(ops.mean(ops.divergence(left, right), 1), kept)


_WIDTHS = (("teacher", 3), ("student", 3))
_RELATED = Takes(ranks=(4, 4), stop=3, known=_WIDTHS, heads=True, least=_KEYS)
# Split anew, the numbers of heads are one.
_SPLIT = replace(_RELATED, start=2, known=(("teacher", 1), ("student", 1), *_WIDTHS))


@for_pairs(_RELATED, otherwise={"heads": _SPLIT})
@built_whole
def attention_relation(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    heads: int | None = None,
    mask: _Paddle | str | None = None,
) -> _Paddle:
    """Return how far relations between tokens are apart, head by head, as in MiniLMv2.

    The mean over samples, heads and queries of KL(softmax(T·Tᵀ/√D) ‖ softmax(S·Sᵀ/√D)) over keys,
    for what attention multiplies, queries, keys or values, [N, heads, L, D]: D is each network's
    own. `heads` splits the width, heads · D, of both into so many relation heads anew, which is how
    networks of different numbers of heads are compared; more of them teach more. `mask` is that of
    `attention_scores`. Wang et al. 2021 (arXiv 2012.15828) sum it over queries, keys and values of
    one layer: the last of the student, an upper one of the teacher.

    Raises what `l2` does, UsageError GT347 where `heads` doesn't divide a width, and PairError
    GT346 for another mask, GT354 where heads or D are not known.
    """
    name = "attention_relation"
    left, right, *masks = _resolved(name, teacher, student, mask)
    found = misfits(name, taken(name, heads=heads), left, right)
    refuse((*found, *_mask_misfits(masks, right, 2)))
    if heads is not None:
        _check_heads(heads, (left, right))
    left, right = (_relations(end, heads) for end in prepared(left, right))
    return _divergence(left, right, _kept(masks, right))


def _check_heads(heads: object, ends: tuple[_Paddle, _Paddle]) -> None:
    widths = [shape_of(end)[1] * shape_of(end)[3] for end in ends]
    if type(heads) is not int or heads < 1 or any(width % heads for width in widths):
        wanted = f"a number that divides the widths, {widths[0]} and {widths[1]}"
        raise UsageError(problems.bad_option("attention_relation", "heads", heads, wanted))


def _relations(vectors: _Paddle, heads: int | None) -> _Paddle:
    """Return [N, heads, L, L], how alike the tokens' vectors [N, heads, L, D] are."""
    width = shape_of(vectors)[3]
    if heads is not None:
        width = shape_of(vectors)[1] * width // heads
        vectors = ops.resplit(vectors, heads, width)
    products = ops.product(vectors, vectors, transposed=True)
    # Paddle would round a number that is no Value to float32.
    return products / ops.root(ops.like(products, width))


@for_pairs(Takes(ranks=(2, 4)))
@built_whole
def pkd(teacher: _Paddle | str, student: _Paddle | str) -> _Paddle:
    """Return PKD: of two papers of this name the one for the kind of Value that is compared.

    Vectors [N, D] and tokens [N, L, D]: patient distillation, mean((s - t)²) over all elements of
    the vectors divided by their length, which is 2 (1 - cosine) / D per vector. Sun et al. 2019
    (arXiv 1908.09355), whose code normalises and takes the mean so, of the first token's states.

    Maps [N, C, H, W]: distillation by Pearson's correlation for detectors, half of mean((n(S) -
    n(T))²), n(F) = (F - mean) / (deviation + 1e-6) for each channel over samples and places. Cao et
    al. 2022 (arXiv 2207.02039); half, and the deviation of n - 1, are those of their code.

    The shapes are equal. It is 0 for vectors that are positive multiples of each other, and for
    channels that are so after a shift.

    Raises what `l2` does.
    """
    left, right = ends("pkd", teacher, student)
    if len(shape_of(left)) < 4:
        apart = ops.difference(ops.unit(right, -1), ops.unit(left, -1))
        return ops.mean(apart * apart)
    apart = ops.difference(_standardised(right), _standardised(left))
    return ops.mean(apart * apart) / 2


# Added to a channel's deviation, as in the authors' code.
_DEVIATION = 1e-6
_LEAST_VARIANCE = 1e-18


def _standardised(maps: _Paddle) -> _Paddle:
    """Take each channel's mean away and divide by its deviation, over samples and places."""
    apart = maps - ops.mean(maps, _OVER, keep=True)
    count = ops.total(ops.like(apart, 1.0), _OVER, keep=True)
    variance = ops.total(apart * apart, _OVER, keep=True) / ops.floored(count - 1.0, 1.0)
    # Without variance there is no direction to go: no gradient, where 1 / 1e-6 would throw off.
    varied = ops.greater(variance, _LEAST_VARIANCE)
    return apart * varied / (ops.root(ops.floored(variance, _LEAST_VARIANCE)) + _DEVIATION)


_OVER = [0, 2, 3]


def _resolved(loss: str, teacher: object, student: object, mask: object | None) -> list[_Paddle]:
    masks = {} if mask is None else {"mask": mask}
    return resolved(loss, {"teacher": teacher}, {"student": student, **masks})


def _mask_misfits(masks: list[_Paddle], student: _Paddle, axis: int) -> Iterator[Diagnostic]:
    """Yield a problem where a mask is not [N, L], L the length of an axis."""
    shape = shape_of(student)
    wanted = (*shape[:1], *shape[axis : axis + 1])
    for mask in masks:
        if not shapes_agree(shape_of(mask), wanted):
            found = f"{dtype_of(mask)} {list(shape_of(mask))}"
            per_token = f"{list(wanted)}: a number, or bool, per token"
            yield problems.bad_labels("mask", place_of(mask, "mask"), found, per_token)


def _kept(masks: list[_Paddle], student: _Paddle) -> _Paddle | None:
    return ops.frozen(ops.cast(masks[0], student.dtype)) if masks else None


def _mean(value: _Paddle, kept: _Paddle | None) -> _Paddle:
    """Return the mean, by weights where there are some; a mask that keeps nothing gives 0."""
    if kept is None:
        return ops.mean(value)
    weights = ops.same_shape(kept, value)
    return ops.total(value * weights) / ops.floored(ops.total(weights), _NOTHING)


_NOTHING = 1e-12


def _pairs(kept: _Paddle | None) -> _Paddle | None:
    """Turn a mask of tokens [N, L] into one of pairs of tokens [N, L, L]."""
    if kept is None:
        return None
    column = ops.inserted(kept, 2)
    return ops.product(column, column, transposed=True)


def _unmasked(scores: _Paddle) -> _Paddle:
    return ops.where_greater(scores, _MASKED)


def _without_keys(scores: _Paddle, kept: _Paddle | None) -> _Paddle:
    return scores if kept is None else scores - (1.0 - ops.inserted(kept, [1, 2])) * _FAR
