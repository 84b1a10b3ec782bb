"""Edit legacy Programs in place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.readers.program_desc import program_message

__all__ = [
    "ProgramSnapshot",
    "append_op",
    "pruned_for_test",
    "remove_operators",
    "remove_variables",
]

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
