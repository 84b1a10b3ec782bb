"""Deterministic arrays to run a Program on where the caller gives none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.graph import UNKNOWN_DIM, Graph, Origin, Shape, Value

if TYPE_CHECKING:
    import numpy as np

__all__ = ["feed_names", "generate_feeds", "generate_weight"]

_Array: TypeAlias = "np.ndarray[Any, Any]"

_SEED = 20260
_BATCH = 2
_SIDE = 32
_LENGTH = 8
# Valid as ids of any embedding, and as labels of any classifier.
_CLASSES = 2


def feed_names(graph: Graph) -> tuple[str, ...]:
    """List the names of a Program's feeds, in program order."""
    return tuple(value.name for value in graph.values.values() if value.origin is Origin.FEED)


def generate_feeds(
    graph: Graph, teacher_feeds: Mapping[str, Value], batch: int | None
) -> dict[str, _Array]:
    """Generate an array for each feed of a Program.

    Unknown dims are taken from the Value of the same name in `teacher_feeds`. Otherwise the batch
    is `batch` or 2, maps are 32 × 32 and sequences have 8 steps.
    """
    random = _random()
    arrays: dict[str, _Array] = {}
    for name in feed_names(graph):
        value = graph.values[name]
        teacher_shape = teacher_feeds[name].shape if name in teacher_feeds else None
        shape = _known_shape(value.shape or (), teacher_shape, batch)
        arrays[name] = _uniform(shape, value.dtype, random, low=-1.0)
    return arrays


def generate_weight(value: Value) -> _Array:
    """Generate an array for a parameter; positive, since it may be a running variance."""
    return _uniform(value.shape or (), value.dtype, _random(), low=0.01)


def _random() -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(_SEED)


def _known_shape(shape: Shape, teacher_shape: Shape | None, batch: int | None) -> Shape:
    """Fill in the unknown dims of a shape."""
    if teacher_shape is None or len(teacher_shape) != len(shape):
        teacher_shape = shape
    length = _SIDE if len(shape) == 4 else _LENGTH
    dims: list[int] = []
    for axis, (dim, teacher_dim) in enumerate(zip(shape, teacher_shape, strict=True)):
        known = teacher_dim if dim == UNKNOWN_DIM else dim
        if known == UNKNOWN_DIM:
            known = length if axis else batch or _BATCH
        dims.append(known)
    return tuple(dims)


def _uniform(shape: Shape, dtype: str | None, random: np.random.Generator, *, low: float) -> _Array:
    import numpy as np

    if dtype == "bfloat16":  # Paddle takes it as the upper half of a float32.
        floats = random.uniform(low, 0.1, shape).astype(np.float32)
        halves: _Array = np.frombuffer(floats.tobytes(), np.uint16)[1::2]
        return np.reshape(halves, shape)
    kind = np.dtype(dtype or "float32")
    if kind.kind in "iub":
        return random.integers(0, _CLASSES, shape).astype(kind)
    high = 0.1 if low > 0 else 1.0
    return random.uniform(low, high, shape).astype(kind)
