"""Merge legacy Programs: adapt the teacher's ProgramDesc, then append it to the student's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.checks import MergePlan, ParametersWhen
from graphtool.merging._adapted import (
    AdaptedDesc,
    AttributeReference,
    Renaming,
    merged_value_names,
)
from graphtool.merging._backend import BlockSnapshot, Scopes, ValueMap
from graphtool.merging._scope import transfer_weights
from graphtool.readers._schema import program_message

__all__ = ["ProgramSnapshot", "join"]

_Message: TypeAlias = Any

# The kinds of Variables that have a LoD level, and those that have a shape and a dtype.
_LOD_KINDS = ("dense_tensor", "tensor_array")
_SHAPED_KINDS = (*_LOD_KINDS, "selected_rows", "string", "strings", "vocab", "sparse_coo")


def join(
    plan: MergePlan,
    teacher: LiveProgram,
    student: LiveProgram,
    scopes: Scopes,
    place: Paddle | None,
    undo: ExitStack,
) -> ValueMap:
    """Merge the teacher into `student.program`, in place; `undo` gets the rollback callbacks."""
    program = student.program
    renaming = Renaming.of(plan, teacher.program, program)
    adapted = AdaptedDesc.of(teacher.program, renaming)
    blocks = len(program.blocks)
    names = dict(
        merged_value_names(renaming, adapted.variables, teacher.graph, student.graph, blocks)
    )
    undo.callback(ProgramSnapshot.of(program).restore, program)
    _append(adapted, program)
    _freeze_variables(adapted.unreplaced, teacher.program, program)
    _copy_feeds(renaming.copied_feeds, program)
    if plan.parameters is ParametersWhen.NOW:
        transfer_weights(plan, scopes, place, undo)
    return ValueMap(names=names, extent=BlockSnapshot.of(program))


def _append(adapted: AdaptedDesc, program: Paddle) -> None:
    source = adapted.description
    blocks = [program.desc.block(0)]
    for index in range(1, source.num_blocks()):
        blocks.append(program.desc.append_block(blocks[source.block(index).parent]))
    for index, target in enumerate(blocks):
        message, block = adapted.message.blocks[index], source.block(index)
        if message.forward_block_idx > 0:
            target._set_forward_block_idx(blocks[message.forward_block_idx].id)  # noqa: SLF001
        _append_variables(message, block, target)
    for index, target in enumerate(blocks):
        _append_operators(source.block(index), target, adapted.references[index], blocks)
    # Only once: each call walks the whole Program.
    program._sync_with_cpp()  # noqa: SLF001


def _append_variables(message: _Message, source: Paddle, target: Paddle) -> None:
    for var in message.vars:
        key = var.name.encode()
        # A Variable that the student feeds exists already.
        if not target.has_var(key):
            _copy_var_desc(var, source.find_var(key), target.var(key))


def _copy_var_desc(message: _Message, old: Paddle, new: Paddle) -> None:
    """Copy one VarDesc to another, field by field: Paddle has no function for it."""
    new.set_type(old.type())
    if any(map(message.type.HasField, _SHAPED_KINDS)):
        new.set_shape(old.shape())
        new.set_dtype(old.dtype())
    if any(map(message.type.HasField, _LOD_KINDS)):
        new.set_lod_level(old.lod_level())
    new.set_persistable(message.persistable)
    new.set_need_check_feed(message.need_check_feed)
    new.set_stop_gradient(True)
    if message.is_parameter:
        new.set_is_parameter(True)


def _append_operators(
    source: Paddle,
    target: Paddle,
    references: Iterable[AttributeReference],
    blocks: Sequence[Paddle],
) -> None:
    offset = target.op_size()
    for index in range(source.op_size()):
        target.append_op().copy_from(source.op(index))
    for reference in references:
        _set_reference(target.op(offset + reference.op_index), reference, target, blocks)


def _set_reference(
    op: Paddle, reference: AttributeReference, block: Paddle, blocks: Sequence[Paddle]
) -> None:
    """Make a copied attribute refer to the merged Program's Blocks or Variables."""
    is_list = reference.is_list
    targets = [blocks[index] for index in reference.blocks]
    if targets:
        set_attribute = op.set_blocks_attr if is_list else op.set_block_attr
    else:
        targets = [block.find_var_recursive(name.encode()) for name in reference.variables]
        set_attribute = op.set_vars_attr if is_list else op.set_var_attr
    set_attribute(reference.attribute, targets if is_list else targets[0])


# Paddle keeps these on a Parameter's Python object only.
_PARAMETER_ATTRIBUTES = (
    "optimize_attr",
    "regularizer",
    "do_model_average",
    "need_clip",
    "is_distributed",
)


def _freeze_variables(variables: Mapping[str, str], teacher: Paddle, program: Paddle) -> None:
    """Freeze the teacher's Parameters, and copy attributes that a ProgramDesc does not hold."""
    teacher_vars, merged_vars = teacher.global_block().vars, program.global_block().vars
    for old, var in teacher_vars.items():
        new = merged_vars.get(variables.get(old))
        if new is None:
            continue
        new.is_data = var.is_data
        # Paddle clears it on a Parameter that it creates from a VarDesc.
        new.stop_gradient = True
        if hasattr(new, "trainable"):
            new.trainable = False
            for attribute in _PARAMETER_ATTRIBUTES:
                setattr(new, attribute, getattr(var, attribute))


def _copy_feeds(copied_feeds: Sequence[tuple[str, str]], program: Paddle) -> None:
    """Copy feeds for the teacher before the student's first operator can overwrite them."""
    block = program.global_block()
    feeds = [index for index, op in enumerate(block.ops) if op.type == "feed"]
    for feed, copied in copied_feeds:
        block._insert_op(  # noqa: SLF001
            max(feeds, default=-1) + 1,
            type="assign",
            inputs={"X": [block.var(feed)]},
            outputs={"Out": [block.var(copied)]},
        )
        block.var(copied).stop_gradient = True


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
