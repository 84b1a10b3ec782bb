"""Paddle's optimizers, and the attributes of parameters that they heed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from graphtool.backend.paddle import Paddle, load_paddle

__all__ = [
    "ParameterAttributes",
    "accumulators",
    "attributes_of",
    "average_over_ranks",
    "broadcast_from_first",
    "complete_clip",
    "copy_from_layer",
    "every_n_runs",
    "learning_rate",
    "master_weights",
    "parameter_list",
    "persistent_zeros",
    "rank_store",
    "rate_variable",
    "set_attributes",
    "set_variable",
    "unsaved_attributes",
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


_REGULARIZERS = ("L1Decay", "L2Decay")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterAttributes:
    """The attributes of a parameter that matter in training.

    `regularizer` is `L1Decay` or `L2Decay` with its coefficient, or None. `left` names attributes
    that are Python objects of the user, which cannot be saved.
    """

    trainable: bool = True
    stop_gradient: bool = False
    learning_rate: float = 1.0
    need_clip: bool = True
    regularizer: str | None = None
    coefficient: float = 0.0
    left: tuple[str, ...] = ()


def attributes_of(program: Paddle) -> dict[str, ParameterAttributes]:
    """Read the attributes of all parameters of a Program, by name, in program order."""
    return {
        parameter.name: _attributes(parameter)
        for parameter in program.global_block().all_parameters()
    }


def copy_from_layer(program: Paddle, layer: Paddle) -> None:
    """Copy attributes of a Layer's parameters to its Program: under PIR, `to_static` drops them."""
    sources = {parameter.name: parameter for parameter in layer.parameters()}
    for parameter in program.global_block().all_parameters():
        if parameter.name in sources:
            source = sources[parameter.name]
            parameter.optimize_attr = dict(source.optimize_attr)
            parameter.regularizer = source.regularizer
            parameter.need_clip = source.need_clip


def set_attributes(program: Paddle, attributes: Mapping[str, ParameterAttributes]) -> None:
    """Set the attributes of parameters of a Program that was read from a file."""
    for parameter in program.global_block().all_parameters():
        saved = attributes.get(parameter.name)
        if saved is not None:
            parameter.trainable = saved.trainable
            parameter.stop_gradient = saved.stop_gradient
            parameter.need_clip = saved.need_clip
            parameter.regularizer = _regularizer(saved)
        if saved is not None or parameter.optimize_attr is None:
            rate = 1.0 if saved is None else saved.learning_rate
            parameter.optimize_attr = {"learning_rate": rate}


def _attributes(parameter: Paddle) -> ParameterAttributes:
    """Read the attributes of a parameter; in a Program from a file, some are missing."""
    options: Mapping[str, Paddle] = parameter.optimize_attr or {}
    rate: Paddle = options.get("learning_rate", 1.0)
    regularizer: Paddle = parameter.regularizer
    is_number = isinstance(rate, int | float)
    left = [] if is_number else [f"learning rate `{type(rate).__name__}`"]
    classes = load_paddle().regularizer
    kind = next((k for k in _REGULARIZERS if type(regularizer) is getattr(classes, k)), None)
    if regularizer is not None and kind is None:
        left.append(f"regularizer `{type(regularizer).__name__}`")
    return ParameterAttributes(
        trainable=bool(parameter.trainable),
        stop_gradient=bool(parameter.stop_gradient),
        learning_rate=float(rate) if is_number else 1.0,
        need_clip=parameter.need_clip is not False,
        regularizer=kind,
        # Paddle has no public way to read it.
        coefficient=float(getattr(regularizer, "_coeff", 0.0) if kind else 0.0),
        left=tuple(left),
    )


def _regularizer(attributes: ParameterAttributes) -> Paddle | None:
    if attributes.regularizer not in _REGULARIZERS:
        return None
    return getattr(load_paddle().regularizer, attributes.regularizer)(attributes.coefficient)


def unsaved_attributes(attributes: Mapping[str, ParameterAttributes]) -> Iterator[str]:
    """Yield the attributes that cannot be saved, each with its parameter."""
    for name, one in attributes.items():
        yield from (f"{attribute} of `{name}`" for attribute in one.left)
