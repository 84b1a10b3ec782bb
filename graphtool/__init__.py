"""Find the feature maps worth pairing when one Paddle network teaches another."""

from __future__ import annotations

from _thread import RLock
from importlib import import_module

# Importing `typing` takes longer than everything before it; Ctrl-C meanwhile prints a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphtool import losses
    from graphtool.checks import check_pairs
    from graphtool.diagnostics import (
        Diagnostic,
        GraphtoolError,
        MergeError,
        PairError,
        ReadError,
        Report,
        Severity,
        UsageError,
        Where,
    )
    from graphtool.evidence import suggest_pairs
    from graphtool.graph import Block, Graph, Operator, Value
    from graphtool.losses.distill import DistillLoss, distill_loss
    from graphtool.matching import (
        Alternative,
        End,
        Explanation,
        Pair,
        PairSet,
        ShapeGroup,
        explain_pair,
        match_shapes,
        partners,
    )
    from graphtool.matching.recipe import Recipe, write_recipe
    from graphtool.merging import Merged, Verification, check_merge, merge
    from graphtool.merging.folder import load_merged, save_merged
    from graphtool.rendering import Picture, render
    from graphtool.selectors import find
    from graphtool.sources import read
    from graphtool.sources.layers import Network, from_layer
    from graphtool.toolkits import read_recipe
    from graphtool.training import (
        Checkpoint,
        Evaluation,
        Exported,
        export_student,
        for_test,
        for_training,
        load_checkpoint,
        load_parameters,
        minimize,
        save_checkpoint,
    )

__all__ = [
    "Alternative",
    "Block",
    "Checkpoint",
    "Diagnostic",
    "DistillLoss",
    "End",
    "Evaluation",
    "Explanation",
    "Exported",
    "Graph",
    "GraphtoolError",
    "MergeError",
    "Merged",
    "Network",
    "Operator",
    "Pair",
    "PairError",
    "PairSet",
    "Picture",
    "ReadError",
    "Recipe",
    "Report",
    "Severity",
    "ShapeGroup",
    "UsageError",
    "Value",
    "Verification",
    "Where",
    "check_merge",
    "check_pairs",
    "distill_loss",
    "explain_pair",
    "export_student",
    "find",
    "for_test",
    "for_training",
    "from_layer",
    "load_checkpoint",
    "load_merged",
    "load_parameters",
    "losses",
    "match_shapes",
    "merge",
    "minimize",
    "partners",
    "read",
    "read_recipe",
    "render",
    "save_checkpoint",
    "save_merged",
    "suggest_pairs",
    "write_recipe",
]

_NAMES_BY_MODULE = {
    "diagnostics": (
        "Diagnostic",
        "GraphtoolError",
        "MergeError",
        "PairError",
        "ReadError",
        "Report",
        "Severity",
        "UsageError",
        "Where",
    ),
    "checks": ("check_pairs",),
    "evidence": ("suggest_pairs",),
    "graph": ("Block", "Graph", "Operator", "Value"),
    "losses.distill": ("DistillLoss", "distill_loss"),
    "matching": (
        "Alternative",
        "End",
        "Explanation",
        "Pair",
        "PairSet",
        "ShapeGroup",
        "explain_pair",
        "match_shapes",
        "partners",
    ),
    "matching.recipe": ("Recipe", "write_recipe"),
    "merging": ("Merged", "Verification", "check_merge", "merge"),
    "merging.folder": ("load_merged", "save_merged"),
    "sources": ("read",),
    "sources.layers": ("Network", "from_layer"),
    "rendering": ("Picture", "render"),
    "selectors": ("find",),
    "toolkits": ("read_recipe",),
    "training": (
        "Checkpoint",
        "Evaluation",
        "Exported",
        "export_student",
        "for_test",
        "for_training",
        "load_checkpoint",
        "load_parameters",
        "minimize",
        "save_checkpoint",
    ),
}
# Two threads that import a package and a module of it at once find one of them half imported.
_IMPORTING = RLock()
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name on first use, which keeps `import graphtool` cheap."""
    if name == "__version__":
        from graphtool.version import version

        return version()
    if name == "losses":
        return import_module(f"{__name__}.losses")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _IMPORTING:
        value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
