"""Which feature maps of a teacher and a student go together, and why."""

from graphtool.matching.pairs import End, Kind, Pair, PairSet, Relation
from graphtool.matching.partners import partners
from graphtool.matching.rank import suggest_pairs
from graphtool.matching.shapes import ShapeGroup, match_shapes

__all__ = [
    "End",
    "Kind",
    "Pair",
    "PairSet",
    "Relation",
    "ShapeGroup",
    "match_shapes",
    "partners",
    "suggest_pairs",
]
