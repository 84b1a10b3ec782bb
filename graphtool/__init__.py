"""Find the feature maps worth pairing when one Paddle network teaches another."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphtool.diagnostics import (
        Diagnostic,
        GraphtoolError,
        PairError,
        ReadError,
        Report,
        Severity,
        UsageError,
        Where,
    )
    from graphtool.graph import Block, Graph, Operator, Value
    from graphtool.matching import (
        End,
        Pair,
        PairSet,
        ShapeGroup,
        match_shapes,
        partners,
        suggest_pairs,
    )
    from graphtool.matching.recipe import Recipe, read_recipe, write_recipe
    from graphtool.readers import read
    from graphtool.readers.layers import Network, from_layer
    from graphtool.selectors import find

__all__ = [
    "Block",
    "Diagnostic",
    "End",
    "Graph",
    "GraphtoolError",
    "Network",
    "Operator",
    "Pair",
    "PairError",
    "PairSet",
    "ReadError",
    "Recipe",
    "Report",
    "Severity",
    "ShapeGroup",
    "UsageError",
    "Value",
    "Where",
    "find",
    "from_layer",
    "match_shapes",
    "partners",
    "read",
    "read_recipe",
    "suggest_pairs",
    "write_recipe",
]

_NAMES_BY_MODULE = {
    "diagnostics": (
        "Diagnostic",
        "GraphtoolError",
        "PairError",
        "ReadError",
        "Report",
        "Severity",
        "UsageError",
        "Where",
    ),
    "graph": ("Block", "Graph", "Operator", "Value"),
    "matching": (
        "End",
        "Pair",
        "PairSet",
        "ShapeGroup",
        "match_shapes",
        "partners",
        "suggest_pairs",
    ),
    "matching.recipe": ("Recipe", "read_recipe", "write_recipe"),
    "readers": ("read",),
    "readers.layers": ("Network", "from_layer"),
    "selectors": ("find",),
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what a public name stands for when it is first used, so that this module is cheap."""
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("paddle-graphtool")
    except PackageNotFoundError:
        return "0+not.installed"
