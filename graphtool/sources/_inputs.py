"""Describe the inputs that a Layer is built with, and match them to parameters of `forward`."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from numbers import Integral
from typing import cast

from graphtool.arguments import bad_argument, short_repr
from graphtool.backend.facts import converted_dtype
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.diagnostics import UsageError, listed
from graphtool.dtypes import BY_NAME
from graphtool.graph import UNKNOWN_DIM, shape_text
from graphtool.sources import problems

__all__ = ["DTYPES", "Input", "arguments_of", "as_inputs", "check_inputs", "named_inputs"]


# The dtypes of feeds.
DTYPES = frozenset(
    name for name, dtype in BY_NAME.items() if dtype.json and not name.startswith("float8")
)


@dataclass(frozen=True, slots=True)
class Input:
    """A future feed: its shape with the batch, -1 where unknown, its dtype and its name, if any.

    The name is that of a parameter of `forward`. If it is `renaming`, as that of an InputSpec, it
    may be any other, and the feed goes to the parameter at its position. So may the name of the
    only input of a `forward` with one parameter, unless it is `exact`.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str | None = None
    renaming: bool = False
    exact: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name or 'input'}: {shape_text(self.shape)} {self.dtype}"

    @property
    def spelling(self) -> str:
        """The shape and dtype as `--input` takes them, without the batch: `128:int64`."""
        dims = ",".join("?" if dim == UNKNOWN_DIM else str(dim) for dim in self.shape[1:])
        return f"{dims or 'scalar'}{'' if self.dtype == 'float32' else f':{self.dtype}'}"


# Paddle aborts the process where a dim does not fit into 64 bits.
_MAX_DIM = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _ForwardSignature:
    """The signature of a Layer's `forward`."""

    parameters: tuple[str, ...]
    positional: tuple[str, ...]
    required: tuple[str, ...]
    has_var_args: bool
    has_var_kwargs: bool


def as_inputs(specs: object) -> list[Input]:
    """Convert an `input_spec`: prepend a batch to shapes and `(name, shape, dtype)`.

    InputSpecs have the batch already.

    Raises UsageError: GT248 if `specs` is not a list, GT037 for other items.
    """
    items = cast("Sequence[object]", specs) if isinstance(specs, list | tuple) else ()
    bare = _as_input(cast("object", specs))
    unlisted = [] if bare is None else [bare]
    if not isinstance(specs, list | tuple) or (items and all(map(_is_dim, items))):
        expected = "a list, with the shape of each input"
        call = problems.from_layer_call(unlisted)
        raise UsageError(bad_argument("input_spec", cast("object", specs), expected, call))
    converted = [_as_input(item) for item in items]
    inputs = [one for one in converted if one is not None]
    if len(inputs) < len(converted):
        invalid = [item for item, one in zip(items, converted, strict=True) if one is None]
        expected = "a shape, `(name, shape)`, `(name, shape, dtype)` or an InputSpec"
        call = problems.from_layer_call(unlisted or inputs)
        raise UsageError(
            *(
                problems.bad_input(
                    f"`input_spec` has `{short_repr(item)}`; wanted {expected}", help=call
                )
                for item in invalid
            )
        )
    return inputs


def _as_input(spec: Paddle) -> Input | None:
    """Return an item of `input_spec` as an Input, None if it is invalid."""
    if isinstance(spec, load_paddle().static.InputSpec):
        return _input(spec.name, spec.shape, spec.dtype, renaming=True)
    if not isinstance(spec, list | tuple):
        return None
    parts = cast("Sequence[object]", spec)
    if not parts or not isinstance(parts[0], str):
        return _input(None, parts)
    return _input(*parts) if len(parts) in (2, 3) else None


def _input(
    name: Paddle, shape: object, dtype: object = "float32", *, renaming: bool = False
) -> Input | None:
    """Return an Input, None if a dim or the dtype is invalid; an InputSpec's shape has a batch."""
    dims, dtype_name = _dims(shape), _dtype_name(dtype)
    if dims is None or dtype_name is None:
        return None
    return Input(dims if renaming else (UNKNOWN_DIM, *dims), dtype_name, name, renaming=renaming)


def _dims(shape: object) -> tuple[int, ...] | None:
    if not isinstance(shape, list | tuple):
        return None
    dims = cast("Sequence[Paddle]", shape)
    if not all(_is_dim(dim) for dim in dims):
        return None
    return tuple(UNKNOWN_DIM if dim is None else int(dim) for dim in dims)


def _is_dim(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return value is None
    return isinstance(value, Integral) and UNKNOWN_DIM <= int(value) <= _MAX_DIM


def _dtype_name(dtype: object) -> str | None:
    """Return the name of a dtype given by name, or as an object of Paddle or NumPy."""
    if isinstance(dtype, str):
        return dtype if dtype in DTYPES else None
    try:
        return converted_dtype(dtype)
    except (TypeError, ValueError):
        return None


def check_inputs(name: str, layer: Paddle, inputs: Sequence[Input]) -> None:
    """Check that inputs and parameters of `forward` match.

    Raises UsageError: GT037 for a required parameter without an input, or an input without a
    parameter.
    """
    signature = _signature(layer)
    if not inputs:
        wanted = signature.required or signature.parameters
        notes = (f"its forward takes {_names(wanted)}",) if wanted else ()
        items = [(one if len(wanted) > 1 else "", problems.SAMPLE) for one in wanted or ("",)]
        message = f"`{name}` is a Layer: the shapes of its inputs are needed"
        command = problems.build_command(name, items)
        raise UsageError(problems.bad_input(message, notes=notes, help=command))
    unexpected = _unexpected(signature, inputs)
    if unexpected:
        wanted = signature.parameters
        once = ", each once" if len(wanted) > 1 else ""
        message = f"`{name}` cannot take the input {_names(unexpected)}"
        notes = (f"its forward takes {_names(wanted) or 'no inputs'}{once}",)
        command = problems.build_command(name, list(_suggested(signature, inputs).items()))
        raise UsageError(problems.bad_input(message, notes=notes, help=command))
    named = named_inputs(layer, inputs)
    by_name = named.keys() <= set(signature.parameters)
    matched = dict(
        zip(list(named) if by_name else signature.parameters, named.values(), strict=False)
    )
    missing = [parameter for parameter in signature.required if parameter not in matched]
    if missing:
        items = [(parameter, feed.spelling) for parameter, feed in matched.items()]
        items += [(parameter, problems.SAMPLE) for parameter in missing]
        message = f"`{name}` also needs the shape of {_names(missing)}"
        command = problems.build_command(name, items)
        raise UsageError(problems.bad_input(message, help=command))


def _names(names: Sequence[str]) -> str:
    return listed(names, len(names))


def _suggested(signature: _ForwardSignature, inputs: Sequence[Input]) -> dict[str, str]:
    """Assign inputs with unknown names to the remaining parameters, for the help."""
    known = {feed.name: feed.spelling for feed in inputs if feed.name in signature.parameters}
    unknown = iter([feed.spelling for feed in inputs if feed.name not in signature.parameters])
    suggested: dict[str, str] = {}
    for parameter in signature.parameters:
        shape = known.get(parameter) or next(unknown, None)
        if shape is not None or parameter in signature.required:
            suggested[parameter] = shape or problems.SAMPLE
    return suggested


def _unexpected(signature: _ForwardSignature, inputs: Sequence[Input]) -> list[str]:
    """List duplicate names, else the inputs for which `forward` has no parameter."""
    counts = Counter(feed.name for feed in inputs if feed.name is not None)
    duplicates = [name for name, count in counts.items() if count > 1]
    if duplicates or signature.has_var_args or signature.has_var_kwargs:
        return duplicates
    unknown = [name for name in counts if name not in signature.parameters]
    if unknown and not _by_position(signature, inputs):
        return unknown
    return [feed.name or feed.spelling for feed in inputs[len(signature.parameters) :]]


def _by_position(signature: _ForwardSignature, inputs: Sequence[Input]) -> bool:
    """Return whether inputs may have any names: InputSpecs in order, or the only input."""
    if len(inputs) == len(signature.parameters) == 1:
        return not inputs[0].exact
    at_index = dict(enumerate(signature.parameters))
    return all(
        feed.renaming
        and (feed.name not in signature.parameters or at_index.get(index) == feed.name)
        for index, feed in enumerate(inputs)
    )


def named_inputs(layer: Paddle, inputs: Sequence[Input]) -> dict[str, Input]:
    """Name each input: by its own name, else by its parameter; in the order of the parameters."""
    parameters = _signature(layer).parameters
    unused = iter([name for name in parameters if name not in {feed.name for feed in inputs}])
    named = {feed.name or next(unused, f"input_{index}"): feed for index, feed in enumerate(inputs)}
    if not named.keys() <= set(parameters):
        return named
    return {name: named[name] for name in parameters if name in named}


def arguments_of(layer: Paddle, named: Mapping[str, Input]) -> tuple[list[str], list[str]]:
    """Return the names of inputs that `forward` takes by position, and of those by keyword.

    By position where possible: Paddle passes keyword arguments to no hook of a Layer.
    """
    signature = _signature(layer)
    takes_names = named.keys() <= set(signature.parameters) or (
        signature.has_var_kwargs and not signature.has_var_args
    )
    if not takes_names:
        return list(named), []
    positional = list(takewhile(named.__contains__, signature.positional))
    return positional, [name for name in named if name not in positional]


def _signature(layer: Paddle) -> _ForwardSignature:
    """Return the signature of a Layer's `forward`, whether or not `to_static` decorated it."""
    forward = getattr(layer.forward, "dygraph_function", layer.forward)
    parameters = inspect.signature(forward).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return _ForwardSignature(
        parameters=tuple(p.name for p in named),
        positional=tuple(p.name for p in named if p.kind is p.POSITIONAL_OR_KEYWORD),
        required=tuple(p.name for p in named if p.default is p.empty),
        has_var_args=inspect.Parameter.VAR_POSITIONAL in kinds,
        has_var_kwargs=inspect.Parameter.VAR_KEYWORD in kinds,
    )
