"""Numbers of an Operator, as attributes or as constant operands: PIR moved many into operands."""

from __future__ import annotations

from math import isfinite

from graphtool.graph import Attribute, Graph, Operator

__all__ = ["numbers", "numbers_of", "whole_numbers"]


def numbers_of(
    graph: Graph, operator: Operator, *attributes: str, operand: int = 1
) -> tuple[int, ...]:
    """Return the first of these attributes that has whole numbers, else a constant operand's."""
    for attribute in attributes:
        found = whole_numbers(operator.attributes.get(attribute))
        if found:
            return found
    name = operator.operands[operand] if len(operator.operands) > operand else None
    source = None if name is None else graph.producer(name)
    return () if source is None else whole_numbers(source.attributes.get("value"))


def whole_numbers(value: Attribute) -> tuple[int, ...]:
    """Return the whole numbers of an attribute, one or many."""
    listed = value if isinstance(value, tuple) else (value,)
    return tuple(item for item in listed if isinstance(item, int) and not isinstance(item, bool))


def numbers(value: Attribute) -> tuple[float, ...]:
    """Return the finite numbers of an attribute, one or many."""
    listed = value if isinstance(value, tuple) else (value,)
    found = (float(item) for item in listed if isinstance(item, (int, float)))
    return tuple(item for item in found if isfinite(item))
