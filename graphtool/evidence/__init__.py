"""Measure on data how similar feature maps are (CKA), and rerank suggested pairs by it."""

from graphtool.evidence.suggest import suggest_pairs

__all__ = ["suggest_pairs"]
