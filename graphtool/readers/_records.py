"""Make the records of a Graph, of which a large one has some 100,000, in little time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields, make_dataclass
from typing import Any, TypeVar, cast

from graphtool.graph import Operator, Value

__all__ = ["new_operator", "new_value"]

_Record = TypeVar("_Record")


def _quick(record: type[_Record]) -> Callable[..., _Record]:
    """Return what is called like a frozen, slotted dataclass, and takes a third of the time.

    The frozen one sets each field by a call of `object.__setattr__`. Here they are set in a class
    of the same layout that is not frozen; what was made is then of the frozen one, as if it had
    made it. Fields may be given by position, in their order, which takes half as long as by name.
    """

    def freeze(made: Any) -> None:
        made.__class__ = record

    # A dataclass, which a type variable cannot say in Python 3.10.
    described = fields(cast("Any", record))
    opened = make_dataclass(
        record.__name__,
        [
            (one.name, one.type, field(default=one.default, default_factory=one.default_factory))
            for one in described
        ],
        namespace={"__post_init__": freeze, "__doc__": record.__doc__},
        repr=False,
        eq=False,
        match_args=False,
        slots=True,
    )
    return cast("Callable[..., _Record]", opened)


new_value = _quick(Value)
new_operator = _quick(Operator)
