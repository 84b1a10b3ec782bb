"""Losses between the relations of samples to each other: similarity, relational."""

from __future__ import annotations

from graphtool.backend.paddle import Paddle
from graphtool.losses import _ops as ops
from graphtool.losses._operands import loss

__all__ = ["relational", "relational_angle", "relational_distance", "similarity"]


# Smaller squared distances are raised to this: a square root has no gradient at 0.
_LEAST_SQUARED_DISTANCE = 1e-12


@loss
def similarity(teacher: Paddle | str, student: Paddle | str) -> Paddle:
    """Return the similarity-preserving loss, SP: which samples of a batch activate alike.

    mean((G(S) - G(T))²) over the N · N entries of G(A) = A · Aᵀ with normalised rows, where A is
    [N, ...] with all dims but the batch flattened. Shapes and ranks are free, except for the batch.
    It is 0 for Values that are multiples of each other. Tung and Mori 2019 (arXiv 1907.09682); the
    factor 1 / N² is theirs.

    Raises what `l2` does. The run fails on different batches.
    """
    residual = ops.difference(_similarities(student), _similarities(teacher))
    return ops.mean(residual * residual)


def _similarities(value: Paddle) -> Paddle:
    vectors = ops.flatten(value, 1)
    return ops.l2_normalise(ops.matmul(vectors, vectors, transpose_b=True), 1)


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
    losses = _huber(ops.difference(_distances(student), _distances(teacher)))
    return ops.mean(losses) * 2


def _distances(value: Paddle) -> Paddle:
    """Return the upper triangle [N, N] of distances divided by their mean."""
    vectors = ops.flatten(value, 1)
    squares = ops.reduce_sum(vectors * vectors, 1, keep=True)
    products = ops.matmul(vectors, vectors, transpose_b=True)
    squared = squares + ops.transpose(squares) - products * 2
    distances = ops.upper_triangle(ops.sqrt(ops.clip_min(squared, _LEAST_SQUARED_DISTANCE)))
    pairs = ops.reduce_sum(ops.upper_triangle(ops.full_like(distances, 1.0)))
    average = ops.reduce_sum(distances) / ops.clip_min(pairs, 1.0)
    return distances / ops.clip_min(average, _LEAST_SQUARED_DISTANCE)


def _angle_loss(teacher: Paddle, student: Paddle) -> Paddle:
    return ops.mean(_huber(ops.difference(_angles(student), _angles(teacher))))


def _angles(value: Paddle) -> Paddle:
    """Return [N, N, N]: for each sample the cosines between the directions to two others."""
    vectors = ops.flatten(value, 1)
    # Entry [i, j] is the direction from sample i to sample j.
    directions = ops.l2_normalise(ops.unsqueeze(vectors, 0) - ops.unsqueeze(vectors, 1), 2)
    return ops.matmul(directions, directions, transpose_b=True)


def _huber(value: Paddle) -> Paddle:
    size = ops.absolute(value)
    small = ops.clip_max(size, 1.0)
    return small * (size - small / 2)
