"""Small networks of many families, and the pairs that an expert would choose in them."""

from tests.matching.families.cases import Case, graph_of
from tests.matching.families.experts import CASES, PUBLISHED, WILD
from tests.matching.families.judging import Verdict, judge, overlaps

__all__ = ["CASES", "PUBLISHED", "WILD", "Case", "Verdict", "graph_of", "judge", "overlaps"]
