"""Pairs that an expert would publish, written down by reasoning about each network."""

from tests.matching.families.experts import (
    classifiers,
    dense_prediction,
    published_classifiers,
    published_dense,
    published_text,
    published_vision,
    recognisers,
    transformers,
    wild_classifiers,
    wild_others,
)

__all__ = ["CASES", "PUBLISHED", "WILD"]

CASES = (
    *classifiers.CASES,
    *transformers.CASES,
    *dense_prediction.CASES,
    *recognisers.CASES,
)

# Written down without a look at what is suggested, and judged apart.
WILD = (*wild_classifiers.CASES, *wild_others.CASES)

# Architectures as they are published, written down before anything was suggested for them.
PUBLISHED = (
    *published_classifiers.CASES,
    *published_dense.CASES,
    *published_vision.CASES,
    *published_text.CASES,
)
