"""Join legacy Programs: adapt the teacher's ProgramDesc, then append it to the student's.

Adapted means renamed, in test mode, without feeds and fetches.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from graphtool.backend.joining import BlockSnapshot, NewNames, ValueMap
from graphtool.backend.legacy_editing import ProgramSnapshot
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.graph import Graph
from graphtool.ops import LEGACY_PORTS
from graphtool.readers.program_desc import program_message

__all__ = ["join"]

_Message: TypeAlias = Any

# Values of Paddle's AttrType.
_INT, _STRINGS, _BOOL, _BLOCK, _BLOCKS, _VARIABLE, _VARIABLES = 0, 5, 6, 8, 10, 13, 14
_REFERENCE_TYPES = frozenset({_BLOCK, _BLOCKS, _VARIABLE, _VARIABLES})
_FEED_FETCH_VAR_TYPES = frozenset({9, 10})  # Values of Paddle's VarType.
_EMPTY_NAMES = frozenset({"", "@EMPTY@"})
_WRITE_SUFFIX = re.compile(r"@\d+$")
# The kinds of Variables that have a LoD level, and those that have a shape and a dtype.
_LOD_KINDS = ("dense_tensor", "tensor_array")
_SHAPED_KINDS = (*_LOD_KINDS, "selected_rows", "string", "strings", "vocab", "sparse_coo")


def join(names: NewNames, teacher: LiveProgram, student: LiveProgram, undo: ExitStack) -> ValueMap:
    """Copy the teacher into `student.program`, in place; `undo` gets the rollback callbacks."""
    program = student.program
    renaming = _Renaming.of(names, teacher.program, program)
    adapted = _AdaptedDesc.of(teacher.program, renaming)
    blocks = len(program.blocks)
    value_names = dict(
        _merged_value_names(renaming, adapted.variables, teacher.graph, student.graph, blocks)
    )
    undo.callback(ProgramSnapshot.of(program).restore, program)
    _append(adapted, program)
    _freeze_variables(adapted.unreplaced, teacher.program, program)
    _copy_feeds(renaming.copied_feeds, program)
    return ValueMap(names=value_names, extent=BlockSnapshot.of(program))


def _append(adapted: _AdaptedDesc, program: Paddle) -> None:
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
    references: Iterable[_AttributeReference],
    blocks: Sequence[Paddle],
) -> None:
    offset = target.op_size()
    for index in range(source.op_size()):
        target.append_op().copy_from(source.op(index))
    for reference in references:
        _set_reference(target.op(offset + reference.op_index), reference, target, blocks)


def _set_reference(
    op: Paddle, reference: _AttributeReference, block: Paddle, blocks: Sequence[Paddle]
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
class _Renaming:
    """The names of the teacher's Variables in the merged Program.

    `replaced` maps Variables to the student feed or shared parameter that is used instead; `names`
    holds those and all renamed ones. `copied_feeds` are (student feed, teacher Variable) pairs
    that need two Variables, because one of the programs overwrites its own.
    """

    replaced: Mapping[str, str]
    names: Mapping[str, str]
    prefix: str
    copied_feeds: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, names: NewNames, teacher: Paddle, student: Paddle) -> _Renaming:
        teacher_overwritten = _overwritten(teacher)
        student_overwritten = _overwritten(student)
        replaced = {
            old: new
            for old, new in names.replacements
            if (old, new) not in names.feed_map
            or (old not in teacher_overwritten and new not in student_overwritten)
        }
        renames = dict(names.renames)
        copied_feeds = tuple(
            (new, renames.get(old, names.prefix + old))
            for old, new in names.feed_map
            if old not in replaced
        )
        return cls(replaced, {**renames, **replaced}, names.prefix, copied_feeds)

    def __call__(self, variable: str) -> str:
        if variable in _EMPTY_NAMES:
            return variable
        return self.names.get(variable, self.prefix + variable)


def _overwritten(program: Paddle) -> set[str]:
    """Return Variables that operators other than feeds write, or that inner Blocks redeclare."""
    written = {
        name
        for block in program.blocks
        for op in block.ops
        if op.type not in LEGACY_PORTS
        for name in op.desc.output_arg_names()
    }
    return written.union(*(block.vars for block in program.blocks[1:]))


@dataclass(frozen=True, slots=True)
class _AttributeReference:
    """An operator attribute that refers to Blocks or Variables, and is set again on a copy."""

    op_index: int
    attribute: str
    is_list: bool
    blocks: tuple[int, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _AdaptedDesc:
    """The teacher's ProgramDesc as it will be appended to the student's.

    `description` is Paddle's object and `message` the same as protobuf. `references` are listed by
    Block. `variables` maps the teacher's Variables to their new names; `unreplaced` leaves out
    those that a Variable of the student's replaces.
    """

    description: Paddle
    message: _Message
    references: tuple[tuple[_AttributeReference, ...], ...]
    variables: Mapping[str, str]
    unreplaced: Mapping[str, str]

    @classmethod
    def of(cls, program: Paddle, renaming: _Renaming) -> _AdaptedDesc:
        message: _Message = program_message()()
        message.ParseFromString(program.desc.serialize_to_string())
        variables = {
            var.name: renaming(var.name)
            for block in message.blocks
            for var in block.vars
            if var.type.type not in _FEED_FETCH_VAR_TYPES
        }
        references = tuple(_adapt_block(block, renaming, variables) for block in message.blocks)
        data = message.SerializeToString()
        return cls(
            description=load_paddle().base.core.ProgramDesc(data),
            message=message,
            references=references,
            variables=variables,
            unreplaced={old: new for old, new in variables.items() if old not in renaming.replaced},
        )


def _adapt_block(
    block: _Message, renaming: _Renaming, variables: Mapping[str, str]
) -> tuple[_AttributeReference, ...]:
    """Rename a Block's Variables, drop its feeds and fetches, and put it into test mode."""
    _delete_marked(block.vars, [var.type.type in _FEED_FETCH_VAR_TYPES for var in block.vars])
    _delete_marked(block.ops, [op.type in LEGACY_PORTS for op in block.ops])
    for var in block.vars:
        var.name = renaming(var.name)
        var.stop_gradient = True
    references: list[_AttributeReference] = []
    for index, op in enumerate(block.ops):
        for slot in (*op.inputs, *op.outputs):
            slot.arguments[:] = map(renaming, slot.arguments)
        for attr in op.attrs:
            _adapt_attribute(attr, renaming, variables)
            if attr.type in _REFERENCE_TYPES:
                references += _references(index, attr)
        _set_test_mode(op)
    return tuple(references)


def _delete_marked(messages: _Message, marks: list[bool]) -> None:
    for index in reversed(range(len(marks))):
        if marks[index]:
            del messages[index]


def _adapt_attribute(attr: _Message, renaming: _Renaming, variables: Mapping[str, str]) -> None:
    kind = attr.type
    if kind == _INT and attr.name == "op_role":
        attr.i = 0
    elif kind == _STRINGS and attr.name == "op_role_var":
        del attr.strings[:]
    elif kind == _STRINGS and attr.name != "op_callstack":
        # Loops and branches list Variables by name: those to keep, the states of a recurrence.
        attr.strings[:] = [_renamed(text, variables) for text in attr.strings]
    elif kind == _VARIABLE:
        attr.var_name = renaming(attr.var_name)
    elif kind == _VARIABLES:
        attr.vars_name[:] = map(renaming, attr.vars_name)


def _renamed(text: bytes, variables: Mapping[str, str]) -> bytes:
    new = variables.get(text.decode(errors="replace"))
    return text if new is None else new.encode()


def _references(op_index: int, attr: _Message) -> Iterator[_AttributeReference]:
    kind, name = attr.type, attr.name
    if kind == _BLOCK:
        yield _AttributeReference(op_index, name, is_list=False, blocks=(attr.block_idx,))
    elif kind == _VARIABLE:
        yield _AttributeReference(op_index, name, is_list=False, variables=(attr.var_name,))
    elif attr.blocks_idx or attr.vars_name:
        blocks, variables = tuple(attr.blocks_idx), tuple(attr.vars_name)
        yield _AttributeReference(op_index, name, is_list=True, blocks=blocks, variables=variables)


def _set_test_mode(op: _Message) -> None:
    """Set every `is_test`, and clear the flag that makes a batch norm ignore it."""
    missing = set(_test_flag_names(op.type))
    for attr in op.attrs:
        if attr.name.endswith("is_test"):
            attr.b = True
            missing.discard(attr.name)
        elif attr.name == "trainable_statistics":
            attr.b = False
    for name in sorted(missing):
        op.attrs.add(name=name, type=_BOOL, b=True)


@cache
def _test_flag_names(op_type: str) -> tuple[str, ...]:
    """Return the names of an operator's test-mode flags; old files omit unset ones."""
    protos = load_paddle().base.framework.OpProtoHolder.instance().op_proto_map
    if op_type not in protos:
        return ()
    return tuple(attr.name for attr in protos[op_type].attrs if attr.name.endswith("is_test"))


def _merged_value_names(
    renaming: _Renaming, variables: Mapping[str, str], teacher: Graph, student: Graph, blocks: int
) -> Iterator[tuple[str, str]]:
    """Yield the teacher's Values with their names in the merged Graph, such as `while_0/0/x@2`.

    `blocks` is the number of Blocks in the student.
    """
    block_paths = _block_paths(teacher, student, blocks)
    for value in teacher.values:
        path, variable, write = _split_name(value, variables, block_paths)
        if variable in variables:
            yield value, f"{block_paths[path]}{renaming(variable)}{write}"


def _split_name(
    value: str, variables: Mapping[str, str], block_paths: Mapping[str, str]
) -> tuple[str, str, str]:
    """Split a Value's name into its Block's path, its Variable and the suffix of a later write."""
    suffix = _WRITE_SUFFIX.search(value)
    write = suffix.group() if suffix and value not in variables else ""
    name = value.removesuffix(write)
    if name in variables:
        return "", name, write
    # Of several paths that the name begins with, the longest is the Block's.
    end = name.rfind("/")
    while end > 0 and name[: end + 1] not in block_paths:
        end = name.rfind("/", 0, end)
    path = name[: end + 1] if end > 0 else ""
    return path, name.removeprefix(path), write


def _block_paths(teacher: Graph, student: Graph, blocks: int) -> dict[str, str]:
    """Map the paths of the teacher's Blocks, each ending in `/`, to those in the merged Graph."""
    counts = Counter(operator.type for operator in student.operators.values() if not operator.block)
    block_paths = {"": ""}
    for path in filter(None, teacher.blocks):
        first, slash, rest = path.partition("/")
        stem, _, number = first.rpartition("_")
        # A Block that no operator runs is named by its number among all Blocks.
        offset = counts[stem] if slash else blocks - 1
        block_paths[f"{path}/"] = f"{stem}_{int(number) + offset}{slash}{rest}/"
    return block_paths
