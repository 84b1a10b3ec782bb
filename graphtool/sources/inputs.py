"""What a network is built from: `module:callable`, and the inputs of a Layer."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Sequence
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

__all__ = ["Input", "as_inputs", "is_callable_spec", "matched_inputs", "parse_input", "parse_spec"]

# The dtypes of feeds.
_DTYPES = frozenset(
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
_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}

_SPEC = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_][\w.]*)")
_INPUT = re.compile(
    r"(?:(?P<name>[A-Za-z_][\w.]*)=)?"
    r"(?P<dims>(?:\?|-1|[1-9]\d{0,17})(?:,(?:\?|-1|[1-9]\d{0,17}))*|scalar)"
    r"(?::(?P<dtype>\w+))?"
)
_INPUTS = "--input 3,224,224, or --input NAME=3,224,224:float32 for each input"


def is_callable_spec(source: str) -> bool:
    """Return whether a source is a `module:callable`, not a path."""
    return _SPEC.fullmatch(source) is not None


def parse_spec(spec: str) -> tuple[str, str]:
    """Return the module and the attribute of a `module:callable`.

    Raises UsageError GT036.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or match["module"].endswith(".py"):
        guess = spec.removeprefix("./").replace("/", ".").replace(".py:", ":")
        example = guess if is_callable_spec(guess) else "paddle.vision.models:resnet50"
        command = problems.build_command(example, [("", problems.SAMPLE)])
        message = f"`{spec}` is not a `module:callable`"
        raise UsageError(problems.not_a_network(message, help=command))
    return match["module"], match["name"]


def parse_input(text: str) -> Input:
    """Parse `NAME=3,224,224:float32`; name and dtype are optional, `?` and -1 are unknown dims.

    `scalar` is a sample without dims: its feed is `[batch]`.

    Raises UsageError GT037.
    """
    match = _INPUT.fullmatch(text.replace(" ", ""))
    dtype = match["dtype"] or "float32" if match else ""
    if match is None or dtype not in _DTYPES:
        notes = (f"dtypes: {', '.join(sorted(_DTYPES))}",)
        raise UsageError(problems.bad_input(f"`{text}` is not an input", notes=notes, help=_INPUTS))
    texts = [] if match["dims"] == "scalar" else match["dims"].split(",")
    dims = (UNKNOWN_DIM if text == "?" else int(text) for text in texts)
    return Input((UNKNOWN_DIM, *dims), dtype, match["name"], exact=True)


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
        messages = (f"`input_spec` has `{short_repr(item)}`; wanted {expected}" for item in invalid)
        raise UsageError(*(problems.bad_input(message, help=call) for message in messages))
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
    name: Paddle, shape: Paddle, dtype: object = "float32", *, renaming: bool = False
) -> Input | None:
    """Return an Input, None if a dim or the dtype is invalid; an InputSpec's shape has a batch."""
    dtype_name = _dtype_name(dtype)
    given = cast("Sequence[Paddle]", shape) if isinstance(shape, list | tuple) else ("none",)
    if dtype_name is None or not all(map(_is_dim, given)):
        return None
    dims = (UNKNOWN_DIM if dim is None else int(dim) for dim in given)
    batch = () if renaming else (UNKNOWN_DIM,)
    return Input((*batch, *dims), dtype_name, name, renaming=renaming)


def _is_dim(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return value is None
    return isinstance(value, Integral) and UNKNOWN_DIM <= int(value) <= _MAX_DIM


def _dtype_name(dtype: object) -> str | None:
    """Return the name of a dtype given by name, or as an object of Paddle or NumPy."""
    if isinstance(dtype, str):
        return dtype if dtype in _DTYPES else None
    try:
        return converted_dtype(dtype)
    except (TypeError, ValueError):
        return None


def matched_inputs(
    name: str, layer: Paddle, inputs: Sequence[Input]
) -> tuple[dict[str, Input], dict[str, Input]]:
    """Match inputs to the parameters of a Layer's `forward`, whether or not `to_static` wraps it.

    Returns the inputs to pass by position and those to pass by keyword, by the names of their
    feeds: their own, else those of their parameters. By position where possible, as Paddle passes
    keyword arguments to no hook of a Layer.

    Raises UsageError: GT037 for a required parameter without an input, or an input without a
    parameter.
    """
    forward = getattr(layer.forward, "dygraph_function", layer.forward)
    signature = inspect.signature(forward).parameters.values()
    kinds = {parameter.kind for parameter in signature}
    known = {p.name: p for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    given = {feed.name for feed in inputs}
    unused = iter([parameter for parameter in known if parameter not in given])
    named = {feed.name or next(unused, f"input_{index}"): feed for index, feed in enumerate(inputs)}
    is_by_name = named.keys() <= known.keys()
    if is_by_name:
        named = {parameter: named[parameter] for parameter in known if parameter in named}
    required = [
        parameter.name for parameter in known.values() if parameter.default is parameter.empty
    ]
    filled = named if is_by_name else dict(zip(known, named, strict=False))
    missing = [parameter for parameter in required if parameter not in filled]
    unexpected = _unexpected(inputs, list(known), is_open=len(kinds & _VARIADIC) > 0)
    if unexpected:
        problem = f"`{name}` cannot take the input {_names(unexpected)}"
    elif not inputs:
        problem = f"`{name}` is a Layer: the shapes of its inputs are needed"
    elif missing:
        problem = f"`{name}` also needs the shape of {_names(missing)}"
    else:
        takes_names = is_by_name or kinds & _VARIADIC == {inspect.Parameter.VAR_KEYWORD}
        by_position = {
            parameter.name
            for parameter in takewhile(lambda one: one.name in named, known.values())
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }
        positional = {feed: named[feed] for feed in named if not takes_names or feed in by_position}
        return positional, {feed: named[feed] for feed in named if feed not in positional}
    wanted = list(known) if inputs else required or list(known)
    once = ", each once" if unexpected and len(known) > 1 else ""
    notes = (f"its forward takes {_names(wanted) or 'no inputs'}{once}",)
    notes = notes if unexpected or not inputs else ()
    command = problems.build_command(name, _suggested(inputs, list(known), wanted=required))
    raise UsageError(problems.bad_input(problem, notes=notes, help=command))


def _names(names: Sequence[str]) -> str:
    return listed(names, len(names))


def _suggested(
    inputs: Sequence[Input], parameters: Sequence[str], *, wanted: Sequence[str]
) -> list[tuple[str, str]]:
    """Assign inputs with unknown names to the remaining parameters, for the help."""
    if not inputs and len(wanted) < 2:
        return [("", problems.SAMPLE)]
    shapes = {feed.name: feed.spelling for feed in inputs if feed.name in parameters}
    unknown = iter([feed.spelling for feed in inputs if feed.name not in parameters])
    for parameter in parameters:
        shape = shapes.get(parameter) or next(unknown, None)
        if shape is not None or parameter in wanted:
            shapes[parameter] = shape or problems.SAMPLE
    return [(parameter, shapes[parameter]) for parameter in parameters if parameter in shapes]


def _unexpected(inputs: Sequence[Input], parameters: Sequence[str], *, is_open: bool) -> list[str]:
    """List duplicate names, else the inputs for which `forward` has no parameter."""
    counts = Counter(feed.name for feed in inputs if feed.name is not None)
    duplicates = [name for name, count in counts.items() if count > 1]
    if duplicates or is_open:
        return duplicates
    unknown = [name for name in counts if name not in parameters]
    if unknown and not _is_by_position(inputs, parameters):
        return unknown
    return [feed.name or feed.spelling for feed in inputs[len(parameters) :]]


def _is_by_position(inputs: Sequence[Input], parameters: Sequence[str]) -> bool:
    """Return whether inputs may have any names: InputSpecs in order, or the only input."""
    if len(inputs) == len(parameters) == 1:
        return not inputs[0].exact
    return all(
        feed.renaming
        and (feed.name not in parameters or parameters[index : index + 1] == [feed.name])
        for index, feed in enumerate(inputs)
    )
