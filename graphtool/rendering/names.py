"""What a network is called in a picture."""

from __future__ import annotations

import re

from graphtool.graph import Graph

__all__ = ["network_name"]


def network_name(graph: Graph) -> str:
    """Return what a network is called: the file, or its folder where that says more."""
    parts = [part for part in re.split(r"[/\\:]", graph.source) if part]
    if not parts:
        return "network"
    stem = re.sub(r"\.(json|pdmodel)$", "", parts[-1])
    says_nothing = stem in {"inference", "model", "__model__", "main", "program", "build"}
    return parts[-2] if says_nothing and len(parts) > 1 else stem
