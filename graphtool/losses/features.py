"""Losses between features: maps, embeddings of samples, tokens and their attention."""

from __future__ import annotations

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.checks.adapters import is_map
from graphtool.diagnostics import UsageError
from graphtool.loss_specs import channel_axis
from graphtool.losses import _ops as ops
from graphtool.losses import adapters
from graphtool.losses._building import bad_value, loss
from graphtool.losses._values import shape_of

__all__ = [
    "attention",
    "attention_relation",
    "attention_scores",
    "channel_wise",
    "fsp",
    "hidden_state",
    "hint",
    "l2",
    "pkd",
    "relational",
    "relational_angle",
    "relational_distance",
    "similarity",
]


# Smaller squared distances are raised to this: a square root has no gradient at 0.
_LEAST_SQUARED_DISTANCE = 1e-12
# Scores up to this are masked ones, as in TinyBERT's code.
_MASKED_SCORE = -100.0
# Subtracted from the logits of masked keys: float32 softmax makes 0 of them.
_MASKED_KEY_PENALTY = 1e4
# Added to a channel's standard deviation in pkd, as in the authors' code.
_DEVIATION_EPSILON = 1e-6
_LEAST_VARIANCE = 1e-18
_LEAST_WEIGHT = 1e-12


@loss
def l2(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the mean of squared differences over all elements.

    mean((S - T)²), for Values of any one shape [N, ...]: the tutorial's `l2_loss`.

    Raises UsageError, ReadError or PairError, with nothing built: GT231, GT248, GT333, GT334,
    GT340, GT348, GT352; GT101 with the nearest names, GT102. Warns with GT228 if a Value comes
    from a softmax.
    """
    return ops.mean_square(teacher, student)


@loss
def hint(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the hint loss of FitNets: l2 to the teacher's map, through a learnt regressor.

    mean((r(S) - T)²), for maps [N, C, H, W] of one H × W, tokens [N, L, C] or vectors [N, C]. If
    the channels differ, `r` is a new 1 × 1 convolution (`adapters.conv1x1`) or linear layer on the
    student, otherwise the identity. Romero et al. 2015 (arXiv 1412.6550) take half of the sum of
    squares, which grows with the map; the code that later papers compare with (RepDistiller) takes
    the mean.

    Raises what `l2` does, and PairError GT336 if the channels are unknown.
    """
    return ops.mean_square(teacher, _match_channels(teacher, student))


def _match_channels(teacher: Paddle, student: Paddle) -> Paddle:
    """Bring the student's channels to the teacher's by a new layer, if they differ."""
    axis = channel_axis(len(shape_of(teacher)))
    channels = shape_of(teacher)[axis]
    if shape_of(student)[axis] == channels:
        return student
    build = adapters.conv1x1 if is_map(shape_of(teacher)) else adapters.linear
    return build(student, channels)


@loss
def attention(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the attention transfer loss, AT: where a network looks, not what it sees there.

    mean((q(S) - q(T))²) with q(F) = v / |v|, v = the mean of F² over channels, flattened to one
    vector per sample; for maps [N, C, H, W] of one H × W, with any channels (also [N, C, L] and
    [N, C, D, H, W]). It is 0 for maps that are multiples of each other. Zagoruyko and Komodakis
    2017 (arXiv 1612.03928), who multiply it by beta / 2; the mean of squares is that of their code,
    which weighs it by 1000.

    Raises what `l2` does.
    """
    return ops.mean_square(_attention_map(teacher), _attention_map(student))


def _attention_map(value: Paddle) -> Paddle:
    return ops.l2_normalise((value * value).mean(1).flatten(1), 1)


@loss
def channel_wise(
    teacher: Paddle | str, student: Paddle | str, *, temperature: float = 4.0
) -> Paddle:
    """Return the channel-wise loss, CWD: each channel is a distribution over the map's positions.

    T² / (N·C) · the sum over samples and channels of KL(p(T) ‖ p(S)), where p is the softmax of a
    channel over H × W at the temperature T; for maps [N, C, H, W] of one shape (also [N, C, L] and
    [N, C, D, H, W]). It is 0 if channels differ by a constant. Shu et al. 2021 (arXiv 2011.13256),
    with the factor and the temperature 4 of the authors' code.

    Raises what `l2` does, and UsageError GT347.
    """
    teacher, student = (
        ops.softened(ops.flatten(value, 2), temperature) for value in (teacher, student)
    )
    return ops.kl_divergence(teacher, student).mean() * temperature**2


@loss
def fsp(
    teacher_1: Paddle | str,
    teacher_2: Paddle | str,
    student_1: Paddle | str,
    student_2: Paddle | str,
) -> Paddle:
    """Return the loss between flows of the solution procedure: how one map leads to another.

    mean((G(S₁, S₂) - G(T₁, T₂))²) with G(A, B)[i, j] = the mean over H × W of A[i] · B[j]. All are
    maps; T₁ [N, C₁, H, W] and T₂ [N, C₂, H, W] have one H × W, S₁ and S₂ the same or another, and
    channels are equal between the networks. Yim et al., CVPR 2017; the mean is that of Paddle's
    distillation tutorial (`fsp_loss`).

    Raises what `l2` does, for any of the four.
    """
    return ops.mean_square(_flow(teacher_1, teacher_2), _flow(student_1, student_2))


def _flow(start: Paddle, end: Paddle) -> Paddle:
    """Return [N, C₁, C₂]: the mean over positions of the products of two maps' channels."""
    ones = ops.full_like(start.mean(1, keepdim=True), 1.0)
    ones = ops.require_shape_of(ones, end.mean(1, keepdim=True))
    products = ops.matmul(start.flatten(2), end.flatten(2))
    return products / ops.reduce_sum(ones.flatten(2), 2, keep=True)


@loss
def similarity(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the similarity-preserving loss, SP: which samples of a batch activate alike.

    mean((G(S) - G(T))²) over the N · N entries of G(A) = A · Aᵀ with normalised rows, where A is
    [N, ...] with all dims but the batch flattened. Shapes and ranks are free, except for the batch.
    It is 0 for Values that are multiples of each other. Tung and Mori 2019 (arXiv 1907.09682); the
    factor 1 / N² is from the paper.

    Raises what `l2` does. The run fails on different batches.
    """
    return ops.mean_square(_similarities(teacher), _similarities(student))


def _similarities(value: Paddle) -> Paddle:
    vectors = value.flatten(1)
    return ops.l2_normalise(ops.matmul(vectors, vectors), 1)


@loss
def relational(
    teacher: Paddle | str,
    student: Paddle | str,
    *,
    distance: float = 25.0,
    angle: float = 50.0,
) -> Paddle:
    """Return the relational loss, RKD: distances and angles among the samples of a batch.

    distance · `relational_distance` + angle · `relational_angle`, for embeddings [N, ...] of any
    shapes; the weights are those that Park et al. 2019 (arXiv 1904.05068) use for classification.
    The angles take memory for N · N · (the student's + the teacher's elements per sample).

    Raises what `l2` does, and UsageError GT347 for weights that are negative or both 0.
    """
    # A term of weight 0 is not built, as the angles take much memory.
    terms = [
        term(teacher, student) * weight
        for weight, term in ((distance, _distance_loss), (angle, _angle_loss))
        if weight
    ]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


@loss
def relational_distance(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the distance part of RKD.

    The mean of h(d(S) - d(T)) over all N · N pairs of samples: d is the Euclidean distance divided
    by its mean over pairs of two different samples, h(x) = x² / 2 where |x| < 1, else |x| - 1/2.
    For embeddings [N, ...] of any shapes; it is invariant to translation, rotation and scale. Park
    et al. 2019 (arXiv 1904.05068), with the authors' code.

    Raises what `l2` does. The run fails on different batches.
    """
    return _distance_loss(teacher, student)


@loss
def relational_angle(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the angle part of RKD.

    The mean of h(a(S) - a(T)) over all N · N · N triples of samples: a is the cosine of the angle
    between two samples, seen from a third, 0 where two of the three are the same; h as in
    `relational_distance`. For embeddings [N, ...] of any shapes; it is invariant to translation,
    rotation and scale. Park et al. 2019 (arXiv 1904.05068), with the authors' code.

    Raises what `l2` does. The run fails on different batches.
    """
    return _angle_loss(teacher, student)


def _distance_loss(teacher: Paddle, student: Paddle) -> Paddle:
    # The matrix is symmetric with a zero diagonal: half of it, counted twice.
    return _huber(ops.difference(_distances(student), _distances(teacher))).mean() * 2


def _distances(value: Paddle) -> Paddle:
    """Return the upper triangle [N, N] of distances divided by their mean."""
    vectors = value.flatten(1)
    squares = ops.reduce_sum(vectors * vectors, 1, keep=True)
    products = ops.matmul(vectors, vectors)
    squared = squares + squares.transpose([1, 0]) - products * 2
    distances = ops.upper_triangle(ops.sqrt(squared.clip(min=_LEAST_SQUARED_DISTANCE)))
    pairs = ops.reduce_sum(ops.upper_triangle(ops.full_like(distances, 1.0)))
    average = ops.reduce_sum(distances) / pairs.clip(min=1.0)
    return distances / average.clip(min=_LEAST_SQUARED_DISTANCE)


def _angle_loss(teacher: Paddle, student: Paddle) -> Paddle:
    return _huber(ops.difference(_angles(student), _angles(teacher))).mean()


def _angles(value: Paddle) -> Paddle:
    """Return [N, N, N]: for each sample the cosines between the directions to two others."""
    vectors = value.flatten(1)
    # Entry [i, j] is the direction from sample i to sample j.
    directions = ops.l2_normalise(vectors.unsqueeze(0) - vectors.unsqueeze(1), 2)
    return ops.matmul(directions, directions)


def _huber(value: Paddle) -> Paddle:
    size = ops.absolute(value)
    small = size.clip(max=1.0)
    return small * (size - small / 2)


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
    squares = ops.mean_square(teacher, _match_channels(teacher, student), 2)
    return _weighted_mean(squares, _token_weights(mask, student))


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
    squares = ops.mean_square(_zero_masked(teacher), _zero_masked(student), 1)
    if weights is not None:
        column = weights.unsqueeze(2)
        weights = ops.matmul(column, column)
    return _weighted_mean(squares, weights)


def _zero_masked(scores: Paddle) -> Paddle:
    zeros = ops.full_like(scores, 0.0)
    return load_paddle().where(scores > _MASKED_SCORE, scores, zeros)


def _key_divergence(teacher: Paddle, student: Paddle, weights: Paddle | None) -> Paddle:
    """Return the mean over samples, heads and queries of KL(softmax(T) ‖ softmax(S)) over keys."""
    teacher, student = (_mask_keys(scores, weights) for scores in (teacher, student))
    return _weighted_mean(ops.kl_divergence(teacher, student).mean(1), weights)


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
        joined = vectors.transpose([0, 2, 1, 3]).reshape([0, 0, heads, width])
        vectors = joined.transpose([0, 2, 1, 3])
    products = ops.matmul(vectors, vectors)
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
        return ops.mean_square(ops.l2_normalise(teacher, -1), ops.l2_normalise(student, -1))
    return ops.mean_square(_standardised_channels(teacher), _standardised_channels(student)) / 2


def _standardised_channels(maps: Paddle) -> Paddle:
    """Subtract each channel's mean and divide by its deviation, over samples and positions."""
    axes = [0, 2, 3]
    centred = ops.centre(maps, axes)
    count = ops.reduce_sum(ops.full_like(centred, 1.0), axes, keep=True)
    squares = ops.reduce_sum(centred * centred, axes, keep=True)
    variance = squares / (count - 1.0).clip(min=1.0)
    # Constant channels get no gradient: a factor of 1 / 1e-6 would make training diverge.
    varies = ops.greater_mask(variance, _LEAST_VARIANCE)
    scaled = centred * varies
    return scaled / (ops.sqrt(variance.clip(min=_LEAST_VARIANCE)) + _DEVIATION_EPSILON)


def _token_weights(mask: Paddle | None, student: Paddle) -> Paddle | None:
    return None if mask is None else ops.detach(mask.astype(student.dtype))


def _weighted_mean(value: Paddle, weights: Paddle | None) -> Paddle:
    """Return the mean, weighted if there are weights; it is 0 if all weights are."""
    if weights is None:
        return value.mean()
    weights = ops.require_shape_of(weights, value)
    return ops.reduce_sum(value * weights) / ops.reduce_sum(weights).clip(min=_LEAST_WEIGHT)


def _mask_keys(scores: Paddle, weights: Paddle | None) -> Paddle:
    if weights is None:
        return scores
    return scores - (1.0 - weights.unsqueeze([1, 2])) * _MASKED_KEY_PENALTY
