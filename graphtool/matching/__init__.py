"""Find which feature maps of a teacher and a student to pair, and explain why."""

from graphtool.matching.explanation import (
    Explanation,
    ShapeGroup,
    explain_pair,
    match_shapes,
    partners,
)
from graphtool.matching.pairs import Alternative, End, Kind, Pair, PairSet, Relation
from graphtool.matching.suggest import PresetName, suggest_pairs

__all__ = [
    "Alternative",
    "End",
    "Explanation",
    "Kind",
    "Pair",
    "PairSet",
    "PresetName",
    "Relation",
    "ShapeGroup",
    "explain_pair",
    "match_shapes",
    "partners",
    "suggest_pairs",
]
