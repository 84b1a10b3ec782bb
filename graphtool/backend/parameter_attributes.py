"""The `ParamAttr` of each parameter, which Paddle's files do not keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from graphtool.backend.paddle import Paddle, load_paddle

__all__ = [
    "ParameterAttributes",
    "attributes_of",
    "copy_from_layer",
    "set_attributes",
    "unsaved_attributes",
]


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
    rate = options.get("learning_rate", 1.0)
    is_number = isinstance(rate, int | float)
    attributes = ParameterAttributes(
        trainable=bool(parameter.trainable),
        stop_gradient=bool(parameter.stop_gradient),
        learning_rate=float(rate) if is_number else 1.0,
        need_clip=parameter.need_clip is not False,
        left=() if is_number else (f"learning rate `{type(rate).__name__}`",),
    )
    return _with_regularizer(attributes, parameter.regularizer)


def _with_regularizer(
    attributes: ParameterAttributes, regularizer: Paddle | None
) -> ParameterAttributes:
    if regularizer is None:
        return attributes
    for name in _REGULARIZERS:
        if type(regularizer) is getattr(load_paddle().regularizer, name):
            coefficient = float(regularizer._coeff)  # noqa: SLF001  # no public equivalent
            return replace(attributes, regularizer=name, coefficient=coefficient)
    unsaved = f"regularizer `{type(regularizer).__name__}`"
    return replace(attributes, left=(*attributes.left, unsaved))


def _regularizer(attributes: ParameterAttributes) -> Paddle | None:
    if attributes.regularizer not in _REGULARIZERS:
        return None
    return getattr(load_paddle().regularizer, attributes.regularizer)(attributes.coefficient)


def unsaved_attributes(attributes: Mapping[str, ParameterAttributes]) -> Iterator[str]:
    """Yield the attributes that cannot be saved, each with its parameter."""
    for name, one in attributes.items():
        yield from (f"{attribute} of `{name}`" for attribute in one.left)
