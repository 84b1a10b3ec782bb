"""Pairs that an expert would publish, written down by reasoning about each network."""

from tests.matching.families.experts import (
    classifiers,
    dense_prediction,
    recognisers,
    transformers,
    wild_classifiers,
    wild_others,
)

__all__ = ["CASES", "WILD"]

CASES = (
    *classifiers.CASES,
    *transformers.CASES,
    *dense_prediction.CASES,
    *recognisers.CASES,
)

# Written down without a look at what is suggested, and judged apart.
WILD = (*wild_classifiers.CASES, *wild_others.CASES)
