"""The inputs that a Layer is built with, and the parameters of `forward` that they go to."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from numbers import Integral
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import UsageError
from graphtool.graph import UNKNOWN
from graphtool.readers import problems
from graphtool.readers._paddle import load_paddle

__all__ = ["DTYPES", "Input", "arguments_of", "as_inputs", "check_inputs", "named_inputs"]

# Layers and InputSpecs are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

DTYPES = frozenset(
    [
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
)


@dataclass(frozen=True, slots=True)
class Input:
    """A feed to be: a shape with the batch, -1 where not known, and a name, None for any.

    The name is that of a parameter of `forward`; where it is `renaming`, as an InputSpec's, it may
    be any, and the feed goes to the parameter at its place. So may that of the only input of a
    `forward` with one parameter, unless it is `exact`.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str | None = None
    renaming: bool = False
    exact: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        dims = ", ".join("?" if dim == UNKNOWN else str(dim) for dim in self.shape)
        return f"{self.name or 'input'}: [{dims}] {self.dtype}"

    @property
    def spelling(self) -> str:
        """The shape and dtype as `--input` takes them, the batch left out: `128:int64`."""
        dims = ",".join("?" if dim == UNKNOWN else str(dim) for dim in self.shape[1:])
        return f"{dims or 'scalar'}{'' if self.dtype == 'float32' else f':{self.dtype}'}"


# Paddle ends the process where a dim does not fit into 64 bits.
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forward:
    """What a Layer's `forward` takes; `star` and `stars` tell whether `*args` and `**kwargs`."""

    parameters: tuple[str, ...]
    positional: tuple[str, ...]
    required: tuple[str, ...]
    star: bool
    stars: bool


def as_inputs(specs: object) -> list[Input]:
    """Take InputSpecs as they are; put a batch before shapes and before `(name, shape, dtype)`.

    Raises UsageError: GT248 for what is no list, GT047 for items that are none of these.
    """
    given = cast("Sequence[object]", specs) if isinstance(specs, list | tuple) else ()
    only = _only(cast("object", specs))
    if not isinstance(specs, list | tuple) or (given and all(map(_is_dim, given))):
        wanted = "a list, with the shape of each input"
        call = problems.from_layer_call(only)
        raise UsageError(bad_argument("input_spec", cast("object", specs), wanted, call))
    inputs = [_as_input(spec) for spec in given]
    right = [found for found in inputs if found is not None]
    if len(right) < len(inputs):
        wrong = [spec for spec, found in zip(given, inputs, strict=True) if found is None]
        raise UsageError(*(problems.bad_input_spec(spec, only or right) for spec in wrong))
    return right


def _only(specs: _Paddle) -> list[Input]:
    """Return the input that was given without a list around it, [] where it is none either."""
    only = _as_input(specs)
    return [] if only is None else [only]


def _as_input(spec: _Paddle) -> Input | None:
    if isinstance(spec, load_paddle().static.InputSpec):
        return _input(spec.name, spec.shape, spec.dtype, renaming=True)
    if not isinstance(spec, list | tuple):
        return None
    given = cast("Sequence[object]", spec)
    if not given or not isinstance(given[0], str):
        return _input(None, given)
    return _input(*given) if len(given) in (2, 3) else None


def _input(
    name: _Paddle, shape: object, dtype: object = "float32", *, renaming: bool = False
) -> Input | None:
    """Return an Input, None where a dim or the dtype is none; an InputSpec's shape has a batch."""
    dims, kind = _dims(shape), _dtype(dtype)
    if dims is None or kind is None:
        return None
    return Input(dims if renaming else (UNKNOWN, *dims), kind, name, renaming=renaming)


def _dims(shape: object) -> tuple[int, ...] | None:
    if not isinstance(shape, list | tuple):
        return None
    given = cast("Sequence[_Paddle]", shape)
    if not all(_is_dim(dim) for dim in given):
        return None
    return tuple(UNKNOWN if dim is None else int(dim) for dim in given)


def _is_dim(given: object) -> bool:
    if given is None or isinstance(given, bool):
        return given is None
    return isinstance(given, Integral) and UNKNOWN <= int(given) <= _LARGEST


def _dtype(given: object) -> str | None:
    """Return the name of a dtype of Paddle's or NumPy's, or a name that is one."""
    if isinstance(given, str):
        return given if given in DTYPES else None
    try:
        return str(load_paddle().base.data_feeder.convert_dtype(given))
    except (TypeError, ValueError):
        return None


def check_inputs(name: str, layer: _Paddle, inputs: Sequence[Input]) -> None:
    """Check that each input has a parameter of `forward`, and each that must be given an input.

    Raises UsageError: GT041 where one is missing, GT042 where an input goes nowhere.
    """
    forward = _forward(layer)
    if not inputs:
        raise UsageError(problems.missing_input(name, forward.required or forward.parameters))
    stray = _stray(forward, inputs)
    if stray:
        wanted = _wanted(forward, inputs)
        raise UsageError(problems.unknown_input(name, stray, forward.parameters, wanted))
    named = named_inputs(layer, inputs)
    given = dict(zip(_taken(forward, named), named.values(), strict=False))
    missing = [parameter for parameter in forward.required if parameter not in given]
    if missing:
        known = {parameter: feed.spelling for parameter, feed in given.items()}
        raise UsageError(problems.missing_input(name, missing, known))


def _wanted(forward: _Forward, inputs: Sequence[Input]) -> dict[str, str]:
    """Give inputs with wrong names the parameters that are left, so that the help can be typed."""
    known = {feed.name: feed.spelling for feed in inputs if feed.name in forward.parameters}
    others = iter([feed.spelling for feed in inputs if feed.name not in forward.parameters])
    wanted: dict[str, str] = {}
    for parameter in forward.parameters:
        shape = known.get(parameter) or next(others, None)
        if shape is not None or parameter in forward.required:
            wanted[parameter] = shape or "3,224,224"
    return wanted


def _taken(forward: _Forward, named: Mapping[str, Input]) -> Sequence[str]:
    """List the parameters that named inputs go to, in the order of the inputs."""
    return list(named) if named.keys() <= set(forward.parameters) else forward.parameters


def _stray(forward: _Forward, inputs: Sequence[Input]) -> list[str]:
    """List the inputs for which `forward` has no parameter, and those named a second time."""
    times = Counter(feed.name for feed in inputs if feed.name is not None)
    again = [name for name, count in times.items() if count > 1]
    if again or forward.star or forward.stars:
        return again
    unknown = [name for name in times if name not in forward.parameters]
    if unknown and not _by_position(forward, inputs):
        return unknown
    return [feed.name or feed.spelling for feed in inputs[len(forward.parameters) :]]


def _by_position(forward: _Forward, inputs: Sequence[Input]) -> bool:
    """Tell whether inputs may have names of their own: InputSpecs in order, or the only input."""
    if len(inputs) == len(forward.parameters) == 1:
        return not inputs[0].exact
    places = dict(enumerate(forward.parameters))
    return all(
        feed.renaming and (feed.name not in forward.parameters or places.get(place) == feed.name)
        for place, feed in enumerate(inputs)
    )


def named_inputs(layer: _Paddle, inputs: Sequence[Input]) -> dict[str, Input]:
    """Name each input: as it says, else as `forward` calls its parameter; in the order of those."""
    parameters = _forward(layer).parameters
    spare = iter([name for name in parameters if name not in {feed.name for feed in inputs}])
    named = {
        feed.name or next(spare, f"input_{position}"): feed for position, feed in enumerate(inputs)
    }
    if not named.keys() <= set(parameters):
        return named
    return {name: named[name] for name in parameters if name in named}


def arguments_of(layer: _Paddle, named: Mapping[str, Input]) -> tuple[list[str], list[str]]:
    """Return the inputs that `forward` gets by position, and those that it gets by keyword.

    By position where possible: Paddle gives the hooks of a Layer nothing else.
    """
    forward = _forward(layer)
    if not (named.keys() <= set(forward.parameters) or (forward.stars and not forward.star)):
        return list(named), []
    positional = list(takewhile(named.__contains__, forward.positional))
    return positional, [name for name in named if name not in positional]


def _forward(layer: _Paddle) -> _Forward:
    """Look at a Layer's `forward`, decorated by `to_static` or not."""
    forward = getattr(layer.forward, "dygraph_function", layer.forward)
    parameters = inspect.signature(forward).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return _Forward(
        parameters=tuple(p.name for p in named),
        positional=tuple(p.name for p in named if p.kind is p.POSITIONAL_OR_KEYWORD),
        required=tuple(p.name for p in named if p.default is p.empty),
        star=inspect.Parameter.VAR_POSITIONAL in kinds,
        stars=inspect.Parameter.VAR_KEYWORD in kinds,
    )
