"""Numbers to run a Program on where nobody gives any: the same ones every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.graph import UNKNOWN, Graph, Origin, Shape, Value

if TYPE_CHECKING:
    import numpy as np

__all__ = ["feed_names", "generated_feed", "generated_weight"]

_Array: TypeAlias = "np.ndarray[Any, Any]"

_SEED = 20260
_BATCH = 2
_SIDE = 32
_LENGTH = 8
# Ids of any embedding and labels of any classifier with two classes or more.
_CLASSES = 2


def feed_names(graph: Graph) -> tuple[str, ...]:
    """List what a Program has to be fed, in program order."""
    return tuple(value.name for value in graph.values.values() if value.origin is Origin.FEED)


def generated_feed(
    graph: Graph, others: Mapping[str, Value], batch: int | None
) -> dict[str, _Array]:
    """Generate an array for each feed of a Program.

    Dims that it leaves unknown are those of the feed in `others` under the same name, then `batch`
    or 2 samples, maps of 32 × 32, and sequences of 8.
    """
    random = _random()
    found: dict[str, _Array] = {}
    for name in feed_names(graph):
        value = graph.values[name]
        shape = _shape(value.shape or (), others[name].shape if name in others else None, batch)
        found[name] = _numbers(shape, value.dtype, random, low=-1.0)
    return found


def generated_weight(value: Value) -> _Array:
    """Generate an array for a parameter: positive, for it may be a running variance."""
    return _numbers(value.shape or (), value.dtype, _random(), low=0.01)


def _random() -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(_SEED)


def _shape(known: Shape, other: Shape | None, batch: int | None) -> Shape:
    other = other if other is not None and len(other) == len(known) else known
    dims = [b if a == UNKNOWN else a for a, b in zip(known, other, strict=True)]
    return tuple(_dims(dims, batch))


def _dims(dims: list[int], batch: int | None) -> Iterator[int]:
    for axis, dim in enumerate(dims):
        if dim != UNKNOWN:
            yield dim
        elif axis == 0:
            yield batch or _BATCH
        else:
            yield _SIDE if len(dims) == 4 else _LENGTH


def _numbers(shape: Shape, dtype: str | None, random: np.random.Generator, *, low: float) -> _Array:
    import numpy as np

    if dtype == "bfloat16":  # Paddle takes it as the upper half of a float32.
        whole = random.uniform(low, 0.1, shape).astype(np.float32)
        halves: _Array = np.frombuffer(whole.tobytes(), np.uint16)[1::2]
        return np.reshape(halves, shape)
    kind = np.dtype(dtype or "float32")
    if kind.kind in "iub":
        return random.integers(0, _CLASSES, shape).astype(kind)
    high = 0.1 if low > 0 else 1.0
    return random.uniform(low, high, shape).astype(kind)
