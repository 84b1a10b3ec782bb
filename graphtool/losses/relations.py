"""Losses between the relations of samples to each other: similarity, relational."""

from __future__ import annotations

from typing import Any, TypeAlias

from graphtool.loss_names import Takes, for_pairs
from graphtool.losses import _ops as ops
from graphtool.losses._ends import built_whole, check_options, ends

__all__ = ["relational", "relational_angle", "relational_distance", "similarity"]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# Squared distances below this count as this: a square root has no gradient at 0.
_NEAREST = 1e-12
# No dims are compared: only the batch is common, which the run compares.
_ANY = Takes(ranks=(2, None), equal_ranks=False, stop=1)


@for_pairs(_ANY, of_any_channels=True)
@built_whole
def similarity(teacher: _Paddle | str, student: _Paddle | str) -> _Paddle:
    """Return the similarity-preserving loss, SP: which samples of a batch activate alike.

    mean((G(S) - G(T))²) over the N · N entries of G(A) = A · Aᵀ, each row divided by its length,
    where A is [N, ...] with all but the batch joined. Shapes and ranks are free, but for the batch.
    It is 0 for Values that are multiples of each other. Tung and Mori 2019 (arXiv 1907.09682); the
    factor 1 / N² is theirs.

    Raises what `l2` does. A batch that differs stops the run.
    """
    left, right = ends("similarity", teacher, student)
    apart = ops.difference(_similarities(right), _similarities(left))
    return ops.mean(apart * apart)


def _similarities(value: _Paddle) -> _Paddle:
    vectors = ops.flat(value, 1)
    return ops.unit(ops.product(vectors, vectors, transposed=True), 1)


@for_pairs(_ANY, of_any_channels=True)
@built_whole
def relational(
    teacher: _Paddle | str,
    student: _Paddle | str,
    *,
    distance: float = 25.0,
    angle: float = 50.0,
) -> _Paddle:
    """Return the relational loss, RKD: distances and angles among the samples of a batch.

    distance · `relational_distance` + angle · `relational_angle`, for embeddings [N, ...] of any
    shapes; the weights are those that Park et al. 2019 (arXiv 1904.05068) use for classification.
    The angles take memory for N · N · (the student's + the teacher's elements per sample).

    Raises what `l2` does, and UsageError GT347 for weights that are negative or both 0.
    """
    check_options("relational", weights={"distance": distance, "angle": angle})
    left, right = (ops.flat(end, 1) for end in ends("relational", teacher, student))
    parts = ((distance, _distances_apart), (angle, _angles_apart))
    # A part that weighs nothing is not built: the angles are what takes memory.
    losses = [apart(left, right) * weight for weight, apart in parts if weight]
    return losses[0] if len(losses) == 1 else losses[0] + losses[1]


@built_whole
def relational_distance(teacher: _Paddle | str, student: _Paddle | str) -> _Paddle:
    """Return the distance part of RKD.

    The mean of h(d(S) - d(T)) over all N · N pairs of samples: d is the Euclidean distance divided
    by its mean over pairs of two different samples, h(x) = x² / 2 where |x| < 1, else |x| - 1/2.
    For embeddings [N, ...] of any shapes; it is 0 for those that are moved, turned or scaled as a
    whole. Park et al. 2019 (arXiv 1904.05068), with the authors' code.

    Raises what `l2` does. A batch that differs stops the run.
    """
    left, right = ends("relational_distance", teacher, student, takes=_ANY)
    return _distances_apart(ops.flat(left, 1), ops.flat(right, 1))


@built_whole
def relational_angle(teacher: _Paddle | str, student: _Paddle | str) -> _Paddle:
    """Return the angle part of RKD.

    The mean of h(a(S) - a(T)) over all N · N · N triples of samples: a is the cosine of the angle
    that two samples make at a third, 0 where two of the three are one; h as in
    `relational_distance`. For embeddings [N, ...] of any shapes; it is 0 for those that are moved,
    turned or scaled as a whole. Park et al. 2019 (arXiv 1904.05068), with the authors' code.

    Raises what `l2` does. A batch that differs stops the run.
    """
    left, right = ends("relational_angle", teacher, student, takes=_ANY)
    return _angles_apart(ops.flat(left, 1), ops.flat(right, 1))


def _distances_apart(teacher: _Paddle, student: _Paddle) -> _Paddle:
    # The matrix is symmetric with zeros on its diagonal: half of it, counted twice.
    apart = _huber(ops.difference(_distances(student), _distances(teacher)))
    return ops.mean(apart) * 2


def _distances(vectors: _Paddle) -> _Paddle:
    """Return [N, N] above the diagonal: distances in units of their mean."""
    squares = ops.total(vectors * vectors, 1, keep=True)
    products = ops.product(vectors, vectors, transposed=True)
    squared = squares + ops.transposed(squares) - products * 2
    distances = ops.off_diagonal(ops.root(ops.floored(squared, _NEAREST)))
    pairs = ops.total(ops.off_diagonal(ops.like(distances, 1.0)))
    average = ops.total(distances) / ops.floored(pairs, 1.0)
    return distances / ops.floored(average, _NEAREST)


def _angles_apart(teacher: _Paddle, student: _Paddle) -> _Paddle:
    return ops.mean(_huber(ops.difference(_angles(student), _angles(teacher))))


def _angles(vectors: _Paddle) -> _Paddle:
    """Return [N, N, N]: for each sample the cosines between the directions to two others."""
    directions = ops.unit(ops.between(vectors), 2)
    return ops.product(directions, directions, transposed=True)


def _huber(value: _Paddle) -> _Paddle:
    size = ops.absolute(value)
    small = ops.capped(size, 1.0)
    return small * (size - small / 2)
