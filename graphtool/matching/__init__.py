"""Find which feature maps of a teacher and a student to pair, and explain why."""

from graphtool.matching.explanation import Explanation, explain_pair
from graphtool.matching.pairs import Alternative, End, Kind, Pair, PairSet, Relation
from graphtool.matching.partners import partners
from graphtool.matching.presets import PresetName
from graphtool.matching.shapes import ShapeGroup, match_shapes
from graphtool.matching.suggest import suggest_pairs

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
