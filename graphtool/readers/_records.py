"""Construct Operators and Values fast: a large Graph has some 100,000."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields, make_dataclass
from typing import Any, TypeVar, cast

from graphtool.graph import Operator, Value

__all__ = ["new_operator", "new_value"]

_Record = TypeVar("_Record")


def _fast_constructor(record: type[_Record]) -> Callable[..., _Record]:
    """Return a constructor of a frozen, slotted dataclass that takes a third of the time.

    A frozen dataclass sets each field through `object.__setattr__`. This sets them in a mutable
    class of the same layout, and then changes the class of the instance. Positional arguments, in
    the order of the fields, take half the time of keyword arguments.
    """

    def freeze(instance: Any) -> None:
        instance.__class__ = record

    # In Python 3.10 a type variable cannot be bound to dataclasses.
    record_fields = fields(cast("Any", record))
    mutable = make_dataclass(
        record.__name__,
        [
            (one.name, one.type, field(default=one.default, default_factory=one.default_factory))
            for one in record_fields
        ],
        namespace={"__post_init__": freeze, "__doc__": record.__doc__},
        repr=False,
        eq=False,
        match_args=False,
        slots=True,
    )
    return cast("Callable[..., _Record]", mutable)


new_value = _fast_constructor(Value)
new_operator = _fast_constructor(Operator)
