"""Tell whether anything learns from the gradient of a Value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from graphtool.readers._paddle import is_legacy

__all__ = ["learns"]

# Values, Variables and Blocks are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


def learns(value: _Paddle) -> bool:
    """Tell whether the gradient of a Value that belongs reaches a parameter, or feed, that learns.

    Paddle marks what stops a gradient, not what is computed from frozen parameters alone.
    """
    sources = _sources_of_variables(value.block) if is_legacy(value) else _sources
    waiting, seen = [value], {_id_of(value)}
    while waiting:
        one = waiting.pop()
        if one.stop_gradient:
            continue
        before = sources(one)
        if before is None:
            return True
        new = [source for source in before if _id_of(source) not in seen]
        seen.update(map(_id_of, new))
        waiting += new
    return False


def _id_of(value: _Paddle) -> int:
    """Return what tells a Value, or Variable, from the others of its Program."""
    return id(value) if is_legacy(value) else value.id


def _sources(value: _Paddle) -> list[_Paddle] | None:
    """Return what a Value is computed from, None where it learns itself or may."""
    op = value.get_defining_op()
    if op is None or op.num_regions() or op.name() == "pd_op.data":
        return None
    if op.name() == "builtin.parameter":
        return None if value.trainable else []
    return [source for source in op.operands_source() if source.initialized()]


def _sources_of_variables(block: _Paddle) -> Callable[[_Paddle], list[_Paddle] | None]:
    """Return what does for Variables of a Block what `_sources` does for Values."""
    makers = {name: op for op in block.ops for name in op.output_arg_names}

    def sources(variable: _Paddle) -> list[_Paddle] | None:
        op = makers.get(variable.name)
        if op is None:
            return None if getattr(variable, "trainable", True) else []
        read = (block.vars.get(name) for name in op.input_arg_names)
        return [source for source in read if source is not None]

    return sources
