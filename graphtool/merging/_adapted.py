"""Adapt a legacy teacher's ProgramDesc: renamed, in test mode, without feeds and fetches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.checks import MergePlan
from graphtool.graph import Graph
from graphtool.ops import LEGACY_PORTS
from graphtool.readers._schema import program_message

__all__ = ["AdaptedDesc", "AttributeReference", "Renaming", "merged_value_names"]

_Message: TypeAlias = Any

# Values of Paddle's AttrType.
_INT, _STRINGS, _BOOL, _BLOCK, _BLOCKS, _VARIABLE, _VARIABLES = 0, 5, 6, 8, 10, 13, 14
_REFERENCE_TYPES = frozenset({_BLOCK, _BLOCKS, _VARIABLE, _VARIABLES})
_FEED_FETCH_VAR_TYPES = frozenset({9, 10})  # Values of Paddle's VarType.
_EMPTY_NAMES = frozenset({"", "@EMPTY@"})
_WRITE_SUFFIX = re.compile(r"@\d+$")


@dataclass(frozen=True, slots=True)
class Renaming:
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
    def of(cls, plan: MergePlan, teacher: Paddle, student: Paddle) -> Renaming:
        teacher_overwritten = _overwritten(teacher)
        student_overwritten = _overwritten(student)
        replaced = {
            old: new
            for old, new in plan.replacements
            if (old, new) not in plan.feed_map
            or (old not in teacher_overwritten and new not in student_overwritten)
        }
        renames = dict(plan.renames)
        copied_feeds = tuple(
            (new, renames.get(old, plan.prefix + old))
            for old, new in plan.feed_map
            if old not in replaced
        )
        return cls(replaced, {**renames, **replaced}, plan.prefix, copied_feeds)

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
class AttributeReference:
    """An operator attribute that refers to Blocks or Variables, and is set again on a copy."""

    op_index: int
    attribute: str
    is_list: bool
    blocks: tuple[int, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptedDesc:
    """The teacher's ProgramDesc as it will be appended to the student's.

    `description` is Paddle's object and `message` the same as protobuf. `references` are listed by
    Block. `variables` maps the teacher's Variables to their new names; `unreplaced` leaves out
    those that a Variable of the student's replaces.
    """

    description: Paddle
    message: _Message
    references: tuple[tuple[AttributeReference, ...], ...]
    variables: Mapping[str, str]
    unreplaced: Mapping[str, str]

    @classmethod
    def of(cls, program: Paddle, renaming: Renaming) -> AdaptedDesc:
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
    block: _Message, renaming: Renaming, variables: Mapping[str, str]
) -> tuple[AttributeReference, ...]:
    """Rename a Block's Variables, drop its feeds and fetches, and put it into test mode."""
    _delete_marked(block.vars, [var.type.type in _FEED_FETCH_VAR_TYPES for var in block.vars])
    _delete_marked(block.ops, [op.type in LEGACY_PORTS for op in block.ops])
    for var in block.vars:
        var.name = renaming(var.name)
        var.stop_gradient = True
    references: list[AttributeReference] = []
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


def _adapt_attribute(attr: _Message, renaming: Renaming, variables: Mapping[str, str]) -> None:
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


def _references(op_index: int, attr: _Message) -> Iterator[AttributeReference]:
    kind, name = attr.type, attr.name
    if kind == _BLOCK:
        yield AttributeReference(op_index, name, is_list=False, blocks=(attr.block_idx,))
    elif kind == _VARIABLE:
        yield AttributeReference(op_index, name, is_list=False, variables=(attr.var_name,))
    elif attr.blocks_idx or attr.vars_name:
        blocks, variables = tuple(attr.blocks_idx), tuple(attr.vars_name)
        yield AttributeReference(op_index, name, is_list=True, blocks=blocks, variables=variables)


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


def merged_value_names(
    renaming: Renaming, variables: Mapping[str, str], teacher: Graph, student: Graph, blocks: int
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
