"""Look into Paddle's optimizers, and add to a PIR Program what they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

from graphtool.backend.paddle import Paddle, load_paddle

__all__ = [
    "accumulators",
    "average_over_ranks",
    "broadcast_from_first",
    "complete_clip",
    "every_n_runs",
    "learning_rate",
    "master_weights",
    "parameter_list",
    "persistent_zeros",
    "rank_store",
    "rate_variable",
    "set_variable",
    "unwrapped",
]

# The names under which optimizers keep the one that they wrap.
_INNER = ("_optimizer", "inner_optimizer", "_inner_opt", "user_defined_optimizer")
# The communication group of all ranks.
_ALL_RANKS = 0
_FIRST_RANK = 0


def unwrapped(optimizer: Paddle) -> Iterator[Paddle]:
    """Yield an optimizer, then those that it wraps."""
    yield optimizer
    inner = (getattr(optimizer, name, None) for name in _INNER)
    wrapped = next((each for each in inner if each is not None), None)
    if wrapped is not None:
        yield from unwrapped(wrapped)


def parameter_list(optimizer: Paddle) -> Sequence[Paddle | str] | None:
    """Return the parameters that an optimizer was given, None for all."""
    return getattr(optimizer, "_parameter_list", None) or None


def learning_rate(optimizer: Paddle) -> Paddle | None:
    """Return the learning rate of an optimizer: a number or a scheduler."""
    return getattr(optimizer, "_learning_rate", None)


def rate_variable(optimizer: Paddle, program: Paddle) -> Paddle | None:
    """Return the Variable of a Program that holds an optimizer's learning rate."""
    rates: Mapping[Paddle, Paddle] = getattr(optimizer, "_learning_rate_map", {})
    return rates.get(program)


def accumulators(optimizer: Paddle) -> Mapping[str, Mapping[str, Paddle]]:
    """Return an optimizer's state: for each kind (`moment1`) a Variable by parameter name."""
    return getattr(optimizer, "_accumulators", {})


def master_weights(optimizer: Paddle) -> Mapping[str, Paddle]:
    """Return the float32 copies of parameters of low precision, by parameter name."""
    return getattr(optimizer, "_master_weights", {})


def complete_clip(optimizer: Paddle) -> None:
    """Give an optimizer's `ClipGradByValue` a PIR implementation: Paddle has none, and raises."""
    clips = load_paddle().nn.clip
    clip: Paddle = getattr(optimizer, "_grad_clip", None)
    kind = cast("Paddle", type(clip))
    if not issubclass(kind, clips.ClipGradByValue):
        return
    if kind._pir_clip is clips.ClipGradBase._pir_clip:  # noqa: SLF001
        clip._pir_clip = partial(_clipped, clip)  # noqa: SLF001  # Paddle looks it up there


def _clipped(clip: Paddle, gradients: list[tuple[Paddle, Paddle]]) -> list[tuple[Paddle, Paddle]]:
    paddle = load_paddle()
    return [
        (parameter, paddle.clip(gradient, clip.min, clip.max))
        if getattr(parameter, "need_clip", True)
        else (parameter, gradient)
        for parameter, gradient in gradients
        if gradient is not None
    ]


def every_n_runs(optimizer: Paddle, is_due: Paddle, update: Callable[[], None]) -> None:
    """Build an update by an optimizer into a branch of the current PIR Program."""
    # An Executor with a scheduler looks for the learning rate outside of branches.
    optimizer._create_global_learning_rate()  # noqa: SLF001
    load_paddle().static.nn.cond(is_due, update, lambda: None)


def set_variable(variable: Paddle, value: Paddle) -> Paddle:
    """Set a Variable of the current PIR Program in place, and return its new Value."""
    return load_paddle()._C_ops.assign_out_(value, variable)  # noqa: SLF001


def persistent_zeros(name: str, shape: Sequence[int], dtype: str) -> Paddle:
    """Return a new Variable that keeps its number from run to run, and starts as zero."""
    paddle = load_paddle()
    zero = paddle.nn.initializer.Constant(0.0)
    make = paddle.pir.core.create_persistable_value
    return make(dtype=dtype, shape=list(shape), name=name, initializer=zero)


def average_over_ranks(value: Paddle) -> Paddle:
    """Return the mean of a Value over all ranks."""
    paddle = load_paddle()
    total = paddle.distributed.ReduceOp.SUM
    summed = paddle._C_ops.all_reduce(value, _ALL_RANKS, total)  # noqa: SLF001
    return summed / paddle.distributed.get_world_size()


def broadcast_from_first(value: Paddle) -> Paddle:
    """Return the Value that the first rank has."""
    return load_paddle()._C_ops.broadcast(value, _ALL_RANKS, _FIRST_RANK)  # noqa: SLF001


def rank_store() -> Paddle:
    """Return the key-value store that all ranks share."""
    return load_paddle().base.core.create_or_get_global_tcp_store()
