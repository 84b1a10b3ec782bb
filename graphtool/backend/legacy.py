"""Legacy Programs: read them through their ProgramDesc, and edit them in place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphtool.backend.paddle import Paddle, legacy_mode, load_paddle
from graphtool.graph import Graph
from graphtool.ops import BATCH_NORMS, LEGACY_PORTS, TEST_MODE
from graphtool.readers.program_desc import program_message, read_protobuf

__all__ = [
    "ProgramSnapshot",
    "append_op",
    "operator_ids",
    "pruned_for_test",
    "read_legacy",
    "remove_operators",
    "remove_variables",
    "training_clone",
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


_Message: TypeAlias = Any

_TRAINABLE_STATISTICS = "trainable_statistics"


def remove_operators(block: Paddle, ops: Collection[Paddle]) -> None:
    """Remove operators from a Block."""
    for index in reversed(range(len(block.ops))):
        if block.ops[index] in ops:
            block._remove_op(index)  # noqa: SLF001  # no public equivalent


def remove_variables(block: Paddle, names: Collection[str]) -> None:
    """Remove Variables from a Block."""
    for name in names:
        block._remove_var(name, sync=False)  # noqa: SLF001  # no public equivalent


def append_op(
    type: str,
    inputs: Mapping[str, Paddle],
    attributes: Mapping[str, bool | int | float | Sequence[int]] | None = None,
    dtype: str | None = None,
) -> Paddle:
    """Append an operator to the current Block of a legacy Program and return its result."""
    helper = load_paddle().base.layer_helper.LayerHelper(f"graphtool_{type}")
    result = helper.create_variable_for_type_inference(dtype or inputs["X"].dtype)
    helper.append_op(
        type=type, inputs=dict(inputs), outputs={"Out": result}, attrs=dict(attributes or {})
    )
    return result


def pruned_for_test(clone: Paddle, targets: Sequence[Paddle]) -> Paddle:
    """Return what Variables of a clone for test depend on, as `save_inference_model` prunes it.

    The flag that makes a batch norm ignore its test mode is cleared.
    """
    pruned = clone._prune(list(targets))  # noqa: SLF001  # no public equivalent
    for block in pruned.blocks:
        for op in block.ops:
            if op.has_attr(_TRAINABLE_STATISTICS):
                op._set_attr(_TRAINABLE_STATISTICS, False)  # noqa: SLF001, FBT003
    return pruned


@dataclass(frozen=True, slots=True)
class ProgramSnapshot:
    """Snapshot of a Program: its number of Blocks, and what its global block holds."""

    blocks: int
    variables: frozenset[str]
    operators: tuple[Paddle, ...]

    @classmethod
    def of(cls, program: Paddle) -> ProgramSnapshot:
        """Take a snapshot."""
        block = program.global_block()
        return cls(len(program.blocks), frozenset(block.vars), tuple(block.ops))

    def restore(self, program: Paddle) -> None:
        """Remove everything added since; earlier Variables and operators stay the same objects."""
        block = program.global_block()
        kept = {id(op.desc) for op in self.operators}
        for index in reversed(range(block.desc.op_size())):
            if id(block.desc.op(index)) not in kept:
                block.desc._remove_op(index, index + 1)  # noqa: SLF001
        for var in block.desc.all_vars():
            if var.name() not in self.variables:
                block.desc._remove_var(var.name().encode())  # noqa: SLF001
        block.ops[:] = self.operators
        for name in set(block.vars) - self.variables:
            del block.vars[name]
        del program.blocks[self.blocks :]
        if program.desc.num_blocks() > self.blocks:
            _truncate_description(program, self.blocks)


def _truncate_description(program: Paddle, count: int) -> None:
    """Replace a Program's description by its first Blocks: Paddle cannot remove a Block."""
    message: _Message = program_message()()
    message.ParseFromString(program.desc.serialize_to_string())
    del message.blocks[count:]
    # Keeps the old description alive for objects that still point into it.
    program._graphtool_replaced = program.desc  # noqa: SLF001
    program.desc = load_paddle().base.core.ProgramDesc(message.SerializeToString())
    for index, block in enumerate(program.blocks):
        block.desc = program.desc.block(index)
        for name, var in block.vars.items():
            var.desc = block.desc.find_var(name.encode())
        for position, op in enumerate(block.ops):
            op.desc = block.desc.op(position)


def training_clone(
    program: Paddle,
    *,
    trainable: Collection[str],
    statistics: Collection[str],
    unstopped: Collection[str],
) -> Paddle:
    """Return a clone in training mode without feed and fetch operators.

    `trainable` names the parameters to train, `statistics` the running statistics. `unstopped` is
    empty: `stop_gradient` of legacy Variables is as the user set it.
    """
    assert not unstopped
    with legacy_mode():
        clone = program.clone()
        block = clone.global_block()
        _remove_ports(block)
        for op in [op for inner in clone.blocks for op in inner.ops]:
            for attribute in TEST_MODE:
                if op.has_attr(attribute):
                    op._set_attr(attribute, False)  # noqa: SLF001, FBT003  # nothing public does
            if op.type in BATCH_NORMS:
                _add_reserve(op)
        for name in trainable:
            _make_parameter(block, name)
        for name in statistics:
            block.vars[name].stop_gradient = True
        clone._sync_with_cpp()  # noqa: SLF001
    return clone


def _remove_ports(block: Paddle) -> None:
    ports = [op for op in block.ops if op.type in LEGACY_PORTS]
    for op in ports:
        if op.type == "feed":
            fed = block.vars[op.output("Out")[0]]
            fed.desc.set_need_check_feed(True)
            fed.stop_gradient = True
    remove_operators(block, ports)
    remove_variables(block, LEGACY_PORTS & block.vars.keys())


def _add_reserve(op: Paddle) -> None:
    """Add the `ReserveSpace` output that a batch norm writes in training; old exports omit it."""
    if "ReserveSpace" in op.output_names and op.output("ReserveSpace"):
        return
    paddle, output = load_paddle(), op.output("Y")[0]
    reserve = op.block.create_var(
        name=paddle.utils.unique_name.generate(f"{output}.reserve"),
        dtype=op.block._var_recursive(output).dtype,  # noqa: SLF001  # an outer Block may have it
        stop_gradient=True,
    )
    op.desc.set_output("ReserveSpace", [reserve.name])


def _make_parameter(block: Paddle, name: str) -> None:
    """Replace a Variable by a Parameter: optimizers only find those."""
    parameter = load_paddle().base.framework.Parameter
    old = block.vars[name]
    if not isinstance(old, parameter):
        parameter(block, old.shape, old.dtype, name=name, trainable=True)
