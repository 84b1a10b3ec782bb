"""Which feature maps of a teacher and a student go together, and why."""

from graphtool.matching.explanation import Explanation, explain_pair
from graphtool.matching.forms import FormName
from graphtool.matching.pairs import Alternative, End, Kind, Pair, PairSet, Relation
from graphtool.matching.partners import partners
from graphtool.matching.rank import suggest_pairs
from graphtool.matching.shapes import ShapeGroup, match_shapes

__all__ = [
    "Alternative",
    "End",
    "Explanation",
    "FormName",
    "Kind",
    "Pair",
    "PairSet",
    "Relation",
    "ShapeGroup",
    "explain_pair",
    "match_shapes",
    "partners",
    "suggest_pairs",
]
