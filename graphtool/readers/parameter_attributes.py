"""How each parameter is to be trained, as `ParamAttr` says it: files of Paddle's do not keep it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphtool.readers._paddle import load_paddle

__all__ = [
    "ParameterAttributes",
    "attributes_of",
    "left_behind",
    "set_attributes",
    "take_from_layer",
]

# Programs, parameters and regularizers are Paddle's, without types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_REGULARIZERS = ("L1Decay", "L2Decay")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterAttributes:
    """One parameter's part in training.

    `regularizer` is `L1Decay` or `L2Decay` with its coefficient, None where there is none. `left`
    names what is a Python object of the user's: nothing else than that object can stand for it.
    """

    trainable: bool = True
    stop_gradient: bool = False
    learning_rate: float = 1.0
    need_clip: bool = True
    regularizer: str | None = None
    coefficient: float = 0.0
    left: tuple[str, ...] = ()


def attributes_of(program: _Paddle) -> dict[str, ParameterAttributes]:
    """Read the attributes of all parameters of a Program, by name, in program order."""
    return {held.name: _attributes(held) for held in program.global_block().all_parameters()}


def take_from_layer(program: _Paddle, layer: _Paddle) -> None:
    """Give a Program's parameters what a Layer's say: `to_static` leaves it behind under PIR."""
    theirs = {held.name: held for held in layer.parameters()}
    for held in program.global_block().all_parameters():
        if held.name in theirs:
            held.optimize_attr = dict(theirs[held.name].optimize_attr)
            held.regularizer = theirs[held.name].regularizer
            held.need_clip = theirs[held.name].need_clip


def set_attributes(program: _Paddle, attributes: Mapping[str, ParameterAttributes]) -> None:
    """Set the attributes of parameters of a Program that was read from a file."""
    for held in program.global_block().all_parameters():
        given = attributes.get(held.name)
        if given is not None:
            held.trainable = given.trainable
            held.stop_gradient = given.stop_gradient
            held.need_clip = given.need_clip
            held.regularizer = _regularizer(given)
        if given is not None or held.optimize_attr is None:
            rate = 1.0 if given is None else given.learning_rate
            held.optimize_attr = {"learning_rate": rate}


def _attributes(held: _Paddle) -> ParameterAttributes:
    """Read the attributes of a parameter; one that a file was read into lacks some."""
    options: Mapping[str, _Paddle] = held.optimize_attr or {}
    rate = options.get("learning_rate", 1.0)
    numeric = isinstance(rate, int | float)
    found = ParameterAttributes(
        trainable=bool(held.trainable),
        stop_gradient=bool(held.stop_gradient),
        learning_rate=float(rate) if numeric else 1.0,
        need_clip=held.need_clip is not False,
        left=() if numeric else (f"learning rate `{type(rate).__name__}`",),
    )
    return _with_regularizer(found, held.regularizer)


def _with_regularizer(found: ParameterAttributes, held: _Paddle | None) -> ParameterAttributes:
    if held is None:
        return found
    for name in _REGULARIZERS:
        if type(held) is getattr(load_paddle().regularizer, name):
            return replace(found, regularizer=name, coefficient=float(held._coeff))  # noqa: SLF001
    return replace(found, left=(*found.left, f"regularizer `{type(held).__name__}`"))


def _regularizer(given: ParameterAttributes) -> _Paddle | None:
    if given.regularizer not in _REGULARIZERS:
        return None
    return getattr(load_paddle().regularizer, given.regularizer)(given.coefficient)


def left_behind(attributes: Mapping[str, ParameterAttributes]) -> Iterator[str]:
    """Yield what cannot be set again, with the parameter that has it."""
    for name, given in attributes.items():
        yield from (f"{what} of `{name}`" for what in given.left)
