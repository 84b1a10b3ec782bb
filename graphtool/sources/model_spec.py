"""Parse `module:callable` and the inputs of `--input`."""

from __future__ import annotations

import re

from graphtool.diagnostics import UsageError
from graphtool.graph import UNKNOWN_DIM
from graphtool.sources import problems
from graphtool.sources._inputs import DTYPES, Input

__all__ = ["is_callable_spec", "parse_input", "parse_spec"]

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
    if match is None or dtype not in DTYPES:
        notes = (f"dtypes: {', '.join(sorted(DTYPES))}",)
        raise UsageError(problems.bad_input(f"`{text}` is not an input", notes=notes, help=_INPUTS))
    dims = () if match["dims"] == "scalar" else tuple(map(_dim, match["dims"].split(",")))
    return Input((UNKNOWN_DIM, *dims), dtype, match["name"], exact=True)


def _dim(text: str) -> int:
    return UNKNOWN_DIM if text == "?" else int(text)
