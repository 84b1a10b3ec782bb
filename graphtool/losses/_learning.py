"""Tell whether anything learns from the gradient of a Value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from graphtool.checks import fits
from graphtool.losses._values import dtype_of
from graphtool.readers._paddle import is_legacy
from graphtool.structure import kind_of_type

__all__ = ["learns"]

# Values, Variables and Blocks are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def learns(value: _Paddle) -> bool:
    """Tell whether the gradient of a Value that belongs reaches a parameter, or feed, that learns.

    Paddle marks what stops a gradient, not what is computed from frozen parameters alone.
    """
    if is_legacy(value):
        return fits.learns(value, _made_from_variables(value.block), id)
    return fits.learns(value, _made_from, lambda one: one.id)


def _made_from(value: _Paddle) -> Sequence[_Paddle] | None:
    """Return what a gradient goes on to from a Value, None where that learns itself or may."""
    op = value.get_defining_op()
    if value.stop_gradient:
        return ()
    if op is None or op.num_regions() or op.name() == "pd_op.data":
        return None
    if op.name() == "builtin.parameter":
        return None if value.trainable else ()
    if not fits.passes_gradient(kind_of_type(op.name()), _dtype(value)):
        return ()
    return [source for source in op.operands_source() if source.initialized()]


def _made_from_variables(block: _Paddle) -> Callable[[_Paddle], Sequence[_Paddle] | None]:
    """Return what does for Variables of a Block what `_made_from` does for Values."""
    makers = {name: op for op in block.ops for name in op.output_arg_names}

    def made_from(variable: _Paddle) -> Sequence[_Paddle] | None:
        op = makers.get(variable.name)
        if variable.stop_gradient:
            return ()
        if op is None:
            return None if getattr(variable, "trainable", True) else ()
        if not fits.passes_gradient(kind_of_type(op.type), _dtype(variable)):
            return ()
        read = (block.vars.get(name) for name in op.input_arg_names)
        return [source for source in read if source is not None]

    return made_from


def _dtype(value: _Paddle) -> str | None:
    """Return the name of a dtype, None for what is no tensor, as a vector of them is."""
    try:
        return dtype_of(value)
    except (AttributeError, TypeError, ValueError):
        return None
