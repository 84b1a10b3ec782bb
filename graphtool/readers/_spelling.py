"""How people spell what is to be built: `module:callable`, and the inputs of `--input`."""

from __future__ import annotations

import re

from graphtool.diagnostics import UsageError
from graphtool.graph import UNKNOWN
from graphtool.readers import problems
from graphtool.readers._inputs import DTYPES, Input

__all__ = ["is_callable_spec", "parse_input", "parse_spec"]

_SPEC = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_][\w.]*)")
_INPUT = re.compile(
    r"(?:(?P<name>[A-Za-z_][\w.]*)=)?"
    r"(?P<dims>(?:\?|-1|[1-9]\d{0,17})(?:,(?:\?|-1|[1-9]\d{0,17}))*|scalar)"
    r"(?::(?P<dtype>\w+))?"
)


def is_callable_spec(source: str) -> bool:
    """Tell `module:callable` from a path."""
    return _SPEC.fullmatch(source) is not None


def parse_spec(spec: str) -> tuple[str, str]:
    """Return the module and the name in it that `module:callable` means.

    Raises UsageError GT036.
    """
    found = _SPEC.fullmatch(spec)
    if found is None or found["module"].endswith(".py"):
        likely = spec.removeprefix("./").replace("/", ".").replace(".py:", ":")
        near = likely if is_callable_spec(likely) else "paddle.vision.models:resnet50"
        raise UsageError(problems.bad_callable_spec(spec, near))
    return found["module"], found["name"]


def parse_input(text: str) -> Input:
    """Read `NAME=3,224,224:float32`; name and dtype may be left out, `?` and -1 are unknown dims.

    `scalar` stands for a sample of no dims: its feed is `[batch]`.

    Raises UsageError GT037.
    """
    found = _INPUT.fullmatch(text.replace(" ", ""))
    dtype = found["dtype"] or "float32" if found else ""
    if found is None or dtype not in DTYPES:
        raise UsageError(problems.bad_input(text, sorted(DTYPES)))
    dims = () if found["dims"] == "scalar" else tuple(map(_dim, found["dims"].split(",")))
    return Input((UNKNOWN, *dims), dtype, found["name"], exact=True)


def _dim(text: str) -> int:
    return UNKNOWN if text == "?" else int(text)
