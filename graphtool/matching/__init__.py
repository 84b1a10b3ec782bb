"""Which feature maps of a teacher and a student go together, and why."""

from graphtool.matching.pairs import End, Kind, Pair, PairSet, Relation
from graphtool.matching.rank import suggest

__all__ = ["End", "Kind", "Pair", "PairSet", "Relation", "suggest"]
