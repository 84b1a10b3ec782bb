"""Read a live legacy Program through its ProgramDesc, which is what a `.pdmodel` holds."""

from __future__ import annotations

from dataclasses import replace

from graphtool.backend.paddle import Paddle
from graphtool.graph import Graph
from graphtool.readers.program_desc import read_protobuf

__all__ = [
    "operator_ids",
    "read_legacy",
]


def read_legacy(program: Paddle) -> Graph:
    """Read a live legacy Program, inside or outside of OldIrGuard; the Graph outlives it."""
    graph = read_protobuf("<Program>", program.desc.serialize_to_string())
    # `parameter.trainable = False` sets only Paddle's Python object, not the ProgramDesc.
    untrainable = {
        parameter.name for parameter in program.all_parameters() if not parameter.trainable
    }
    values = [graph.values[name] for name in untrainable & graph.values.keys()]
    changed = {value.name: replace(value, trainable=False) for value in values if value.trainable}
    return replace(graph, values={**graph.values, **changed}) if changed else graph


def operator_ids(program: Paddle, graph: Graph) -> dict[str, int]:
    """Map Operators of a legacy Program to `OpDesc.id()`, which grows as operators are built."""
    ids: dict[str, int] = {}
    worklist = [(0, "")]
    for index, path in worklist:
        block = program.desc.block(index)
        for position, name in enumerate(graph.blocks[path].operators):
            op = block.op(position)
            ids[name] = op.id()
            worklist += zip(_inner_blocks(op), graph.operators[name].blocks, strict=False)
    return ids


def _inner_blocks(op: Paddle) -> list[int]:
    # Only two private methods give the Blocks that an OpDesc runs.
    indices: list[int] = []
    for name in op.attr_names():
        kind = str(op.attr_type(name))
        if kind.endswith(".BLOCK"):
            indices.append(op._block_attr_id(name))  # noqa: SLF001
        elif kind.endswith(".BLOCKS"):
            indices.extend(op._blocks_attr_ids(name))  # noqa: SLF001
    return indices
