"""The inputs that a Layer is built with, and the parameters of `forward` that they go to."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.graph import UNKNOWN
from graphtool.readers._paddle import load_paddle

__all__ = ["Input", "as_input", "forward_parameters", "named_inputs", "takes_by_keyword"]

# Layers and InputSpecs are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Input:
    """A feed to be: a shape with the batch, -1 where not known, and a name, None for any."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str | None = None

    def __str__(self) -> str:
        dims = ", ".join("?" if dim == UNKNOWN else str(dim) for dim in self.shape)
        return f"{self.name or 'input'}: [{dims}] {self.dtype}"


def as_input(spec: _Paddle) -> Input:
    """Take an InputSpec as it is; put a batch before a shape and before `(name, shape, dtype)`."""
    if hasattr(spec, "shape"):
        dtype: str = load_paddle().base.data_feeder.convert_dtype(spec.dtype)
        return Input(_dims(spec.shape), dtype, spec.name)
    if spec and isinstance(spec[0], str):
        name, shape, *dtypes = spec
        return Input((UNKNOWN, *_dims(shape)), *dtypes, name=name)
    return Input((UNKNOWN, *_dims(spec)))


def _dims(shape: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(UNKNOWN if dim is None else int(dim) for dim in shape)


def named_inputs(layer: _Paddle, inputs: Sequence[Input]) -> dict[str, Input]:
    """Name each input: as it says, else as `forward` calls its parameter; in the order of those."""
    parameters = forward_parameters(layer)
    spare = iter([name for name in parameters if name not in {feed.name for feed in inputs}])
    named = {
        feed.name or next(spare, f"input_{position}"): feed for position, feed in enumerate(inputs)
    }
    if not named.keys() <= set(parameters):
        return named
    return {name: named[name] for name in parameters if name in named}


def takes_by_keyword(layer: _Paddle, named: Mapping[str, Input]) -> bool:
    """Tell whether every input goes to the parameter of `forward` that has its name."""
    return named.keys() <= set(forward_parameters(layer))


def forward_parameters(layer: _Paddle) -> list[str]:
    """List the named parameters of a Layer's `forward`, decorated by `to_static` or not."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    forward = getattr(layer.forward, "dygraph_function", layer.forward)
    parameters = inspect.signature(forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds]
