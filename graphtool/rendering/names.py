"""The display name of a network."""

from __future__ import annotations

import re

from graphtool.graph import Graph

__all__ = ["network_name"]


def network_name(graph: Graph) -> str:
    """Return a network's file name without extension; for a generic one, its folder's name."""
    parts = [part for part in re.split(r"[/\\:]", graph.source) if part]
    if not parts:
        return "network"
    stem = re.sub(r"\.(json|pdmodel)$", "", parts[-1])
    is_generic = stem in {"inference", "model", "__model__", "main", "program", "build"}
    return parts[-2] if is_generic and len(parts) > 1 else stem
