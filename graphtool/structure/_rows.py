"""All that is found out about one Value of a network, as tables list it."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.graph import Operator, Value
from graphtool.structure._structure import Structure

__all__ = ["Row", "row_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One Value with what was found out about it; `stage` counts from 1, the stem is 0."""

    value: Value
    operator: Operator | None
    role: str
    stage: int | None
    resolution: str | None
    depth: float | None
    spent: float | None
    main_line: bool


def row_of(structure: Structure, value: Value) -> Row:
    """Collect what a Structure knows of a Value."""
    name = value.name
    scale = structure.scales.get(name)
    computed = name in structure.flow.maker
    return Row(
        value=value,
        operator=structure.graph.producer(name),
        role=structure.role(name).value,
        stage=structure.stage_of(name),
        resolution=None if scale is None else str(scale),
        depth=structure.depth(name) if computed else None,
        spent=structure.cost_before(name) if computed else None,
        main_line=structure.is_on_main_line(name),
    )
