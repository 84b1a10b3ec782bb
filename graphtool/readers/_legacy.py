"""Read a live legacy Program: its ProgramDesc is what a `.pdmodel` holds, one walk serves both."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, TypeAlias

from graphtool.graph import Graph
from graphtool.readers._protobuf import read_protobuf

__all__ = ["operator_ids", "read_legacy", "variable_of"]

# Paddle's Programs, Blocks and OpDescs have no static types.
_Paddle: TypeAlias = Any

_WRITE = re.compile(r"@\d+$")


def read_legacy(program: _Paddle) -> Graph:
    """Read a live legacy Program, inside OldIrGuard or outside of it; the Graph outlives it."""
    graph = read_protobuf("<Program>", program.desc.serialize_to_string())
    # `parameter.trainable = False` is said to Paddle's Python object alone.
    frozen = {one.name for one in program.all_parameters() if not one.trainable}
    values = [graph.values[name] for name in frozen & graph.values.keys()]
    still = {value.name: replace(value, trainable=False) for value in values if value.trainable}
    return replace(graph, values={**graph.values, **still}) if still else graph


def variable_of(name: str, graph: Graph) -> str:
    """Return the Variable of a Value: that of `x@2`, the second write to `x`, is `x`."""
    first = _WRITE.sub("", name)
    return first if first in graph.values else name


def operator_ids(program: _Paddle, graph: Graph) -> dict[str, int]:
    """Map a legacy Program's Operators to `OpDesc.id()`, which grows as ops are built."""
    ids: dict[str, int] = {}
    waiting = [(0, "")]
    for index, path in waiting:
        block = program.desc.block(index)
        for position, name in enumerate(graph.blocks[path].operators):
            op = block.op(position)
            ids[name] = op.id()
            waiting += zip(_inner_blocks(op), graph.operators[name].blocks, strict=False)
    return ids


def _inner_blocks(op: _Paddle) -> list[int]:
    # Only these two private methods tell which Blocks an OpDesc runs.
    indices: list[int] = []
    for name in op.attr_names():
        kind = str(op.attr_type(name))
        if kind.endswith(".BLOCK"):
            indices.append(op._block_attr_id(name))  # noqa: SLF001
        elif kind.endswith(".BLOCKS"):
            indices.extend(op._blocks_attr_ids(name))  # noqa: SLF001
    return indices
