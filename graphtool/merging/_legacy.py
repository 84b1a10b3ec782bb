"""Merge a legacy Program into another: adapt the teacher's description, then append it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.checks import MergePlan, ParametersWhen
from graphtool.merging._adapted import Adapted, Link, Naming, merged_names
from graphtool.merging._backend import Extent, Joined, Scopes
from graphtool.merging._scope import bring_parameters
from graphtool.readers._paddle import load_paddle
from graphtool.readers._schema import program_message
from graphtool.readers.live import LiveProgram

__all__ = ["Before", "join"]

# Programs, their descriptions and protobuf messages have no static types.
_Paddle: TypeAlias = Any
_Message: TypeAlias = Any

# The kinds of Variables that have a shape and a dtype, first those that have a LoD.
_LEVELLED = ("dense_tensor", "tensor_array")
_SHAPED = (*_LEVELLED, "selected_rows", "string", "strings", "vocab", "sparse_coo")


def join(
    plan: MergePlan,
    teacher: LiveProgram,
    student: LiveProgram,
    scopes: Scopes,
    place: _Paddle | None,
    undo: ExitStack,
) -> Joined:
    """Merge the teacher into `student.program`, in place; `undo` gets what takes it out again."""
    program = student.program
    naming = Naming.of(plan, teacher.program, program)
    adapted = Adapted.of(teacher.program, naming)
    names = dict(
        merged_names(naming, adapted.variables, teacher.graph, student.graph, len(program.blocks))
    )
    undo.callback(Before.of(program).restore, program)
    _append(adapted, program)
    _freeze_variables(adapted.unfed, teacher.program, program)
    _copy_feeds(naming.copied, program)
    if plan.parameters is ParametersWhen.NOW:
        bring_parameters(plan, scopes, place, undo)
    return Joined(names=names, extent=Extent.of(program))


def _append(adapted: Adapted, program: _Paddle) -> None:
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
        _append_operators(source.block(index), target, adapted.links[index], blocks)
    # Once for all: it goes through the whole Program each time.
    program._sync_with_cpp()  # noqa: SLF001


def _append_variables(message: _Message, source: _Paddle, target: _Paddle) -> None:
    for var in message.vars:
        key = var.name.encode()
        # What the student feeds is there already.
        if not target.has_var(key):
            _describe(var, source.find_var(key), target.var(key))


def _describe(message: _Message, old: _Paddle, new: _Paddle) -> None:
    """Give a new description of a Variable what the old one says; Paddle cannot copy them."""
    new.set_type(old.type())
    if any(map(message.type.HasField, _SHAPED)):
        new.set_shape(old.shape())
        new.set_dtype(old.dtype())
    if any(map(message.type.HasField, _LEVELLED)):
        new.set_lod_level(old.lod_level())
    new.set_persistable(message.persistable)
    new.set_need_check_feed(message.need_check_feed)
    new.set_stop_gradient(True)
    if message.is_parameter:
        new.set_is_parameter(True)


def _append_operators(
    source: _Paddle, target: _Paddle, links: Iterable[Link], blocks: Sequence[_Paddle]
) -> None:
    first = target.op_size()
    for index in range(source.op_size()):
        target.append_op().copy_from(source.op(index))
    for link in links:
        _relink(target.op(first + link.op), link, target, blocks)


def _relink(op: _Paddle, link: Link, block: _Paddle, blocks: Sequence[_Paddle]) -> None:
    """Point an attribute at the student's own Blocks and Variables: the copy has the teacher's."""
    inner = [blocks[index] for index in link.blocks]
    variables = [block.find_var_recursive(name.encode()) for name in link.variables]
    if inner:
        set_attribute, targets = (op.set_blocks_attr if link.many else op.set_block_attr), inner
    else:
        set_attribute, targets = (op.set_vars_attr if link.many else op.set_var_attr), variables
    set_attribute(link.attribute, targets if link.many else targets[0])


# What Paddle keeps on a Parameter's Python object alone.
_PARAMETER_ATTRIBUTES = (
    "optimize_attr",
    "regularizer",
    "do_model_average",
    "need_clip",
    "is_distributed",
)


def _freeze_variables(variables: Mapping[str, str], teacher: _Paddle, program: _Paddle) -> None:
    """Let no optimizer train a Parameter, and carry over what no description holds."""
    merged, theirs = program.global_block().vars, teacher.global_block().vars
    for old, var in theirs.items():
        new = merged.get(variables.get(old))
        if new is None:
            continue
        new.is_data = var.is_data
        # Paddle unsets it on a Parameter that it makes from a description.
        new.stop_gradient = True
        if hasattr(new, "trainable"):
            new.trainable = False
            for attribute in _PARAMETER_ATTRIBUTES:
                setattr(new, attribute, getattr(var, attribute))


def _copy_feeds(copied: Sequence[tuple[str, str]], program: _Paddle) -> None:
    """Keep a fed Variable for the teacher before the student's first operator runs."""
    block = program.global_block()
    feeds = [index for index, op in enumerate(block.ops) if op.type == "feed"]
    for fed, own in copied:
        block._insert_op(  # noqa: SLF001
            max(feeds, default=-1) + 1,
            type="assign",
            inputs={"X": [block.var(fed)]},
            outputs={"Out": [block.var(own)]},
        )
        block.var(own).stop_gradient = True


@dataclass(frozen=True, slots=True)
class Before:
    """What a Program consisted of: its Blocks, and the Variables and operators of the first."""

    blocks: int
    variables: frozenset[str]
    operators: tuple[_Paddle, ...]

    @classmethod
    def of(cls, program: _Paddle) -> Before:
        """Note what there is now."""
        block = program.global_block()
        return cls(len(program.blocks), frozenset(block.vars), tuple(block.ops))

    def restore(self, program: _Paddle) -> None:
        """Take out all that came since; Variables and operators that were there stay the same."""
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
            _replace_description(program, self.blocks)


def _replace_description(program: _Paddle, count: int) -> None:
    """Give a Program a description of so many Blocks: Paddle has no way to take one out."""
    message: _Message = program_message()()
    message.ParseFromString(program.desc.serialize_to_string())
    del message.blocks[count:]
    # Whoever still holds a part of the old description must not hold freed memory.
    program._graphtool_replaced = program.desc  # noqa: SLF001
    program.desc = load_paddle().base.core.ProgramDesc(message.SerializeToString())
    for index, block in enumerate(program.blocks):
        block.desc = program.desc.block(index)
        for name, var in block.vars.items():
            var.desc = block.desc.find_var(name.encode())
        for position, op in enumerate(block.ops):
            op.desc = block.desc.op(position)
