"""Pairs that an expert would publish, written down by reasoning about each network."""

from tests.matching.families.experts import (
    classifiers,
    dense_prediction,
    recognisers,
    transformers,
)

__all__ = ["CASES"]

CASES = (
    *classifiers.CASES,
    *transformers.CASES,
    *dense_prediction.CASES,
    *recognisers.CASES,
)
