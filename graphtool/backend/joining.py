"""Join two Programs in place: the teacher into the student, for PIR and legacy alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from graphtool.backend.legacy import ProgramSnapshot
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir import ValueKey, freeze, remove_unused
from graphtool.graph import Graph, ProgramKind
from graphtool.interrupts import raise_pending_interrupt
from graphtool.ops import LEGACY_PORTS, PIR_FETCHES
from graphtool.readers.graph_builder import NAME_ATTRIBUTES
from graphtool.readers.program_desc import program_message

__all__ = [
    "BlockSnapshot",
    "NewNames",
    "ValueMap",
    "join",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNames:
    """Old and new names of the teacher, in pairs.

    `replacements` are student Values used instead of the teacher's: those of `feed_map`, and shared
    parameters. `renames` are persistables (in legacy Programs all Variables), `unmapped_feeds` the
    feeds that stay the teacher's own. `prefix` names every other legacy Variable.
    """

    feed_map: tuple[tuple[str, str], ...]
    replacements: tuple[tuple[str, str], ...]
    renames: tuple[tuple[str, str], ...]
    unmapped_feeds: tuple[tuple[str, str], ...]
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSnapshot:
    """Snapshot of a Program's global block, to find what was added later.

    Under PIR it holds operation ids; for a legacy Program, operators and the names of Variables.
    """

    ids: frozenset[int] = frozenset()
    operators: frozenset[Paddle] = frozenset()
    variables: frozenset[str] = frozenset()

    @classmethod
    def of(cls, program: Paddle) -> BlockSnapshot:
        """Take a snapshot."""
        block = program.global_block()
        if is_legacy(program):
            return cls(operators=frozenset(block.ops), variables=frozenset(block.vars))
        return cls(ids=frozenset([op.id() for op in block.ops]))

    def contains(self, op: Paddle) -> bool:
        """Return whether an operation of the global block is in the snapshot."""
        return op in self.operators if hasattr(op, "desc") else op.id() in self.ids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueMap:
    """Where the teacher's Values are in the merged Program, by their names in the teacher's Graph.

    They are found by `keys`, without reading the merged Program (PIR), or by `names` in the Graph
    of `live`. `extent` is the merged Program's global block right after the merge.
    """

    keys: Mapping[str, ValueKey] = field(default_factory=dict[str, ValueKey])
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    live: LiveProgram | None = None
    extent: BlockSnapshot


def join(names: NewNames, teacher: LiveProgram, student: LiveProgram, undo: ExitStack) -> ValueMap:
    """Copy the teacher into `student.program`, in place; `undo` gets the rollback callbacks."""
    join_kind = _join_pir if student.kind is ProgramKind.PIR else _join_legacy
    return join_kind(names, teacher, student, undo)


def _join_pir(
    names: NewNames, teacher: LiveProgram, student: LiveProgram, undo: ExitStack
) -> ValueMap:
    """Copy the teacher's operations into the student's block, then freeze and rename them."""
    raise_pending_interrupt()
    block = student.program.global_block()
    mapping = load_paddle().pir.IrMapping()
    for teacher_name, student_name in names.replacements:
        mapping.add(teacher.value(teacher_name), student.value(student_name))
    length = len(block.ops)
    undo.callback(lambda: remove_unused(block, block.ops[length:]))
    teacher.program.copy_to_block(mapping, block)
    raise_pending_interrupt()
    not_copied = {teacher.keys[name][0] for name, _ in names.replacements}
    originals = [op for op in teacher.program.global_block().ops if op.id() not in not_copied]
    copies = block.ops[length:]
    op_ids = dict(_copied_ids(originals, copies))
    raise_pending_interrupt()
    fetches = [op for op in copies if op.name() in PIR_FETCHES]
    dropped = frozenset([op.id() for op in fetches])
    op_ids = {old: new for old, new in op_ids.items() if new not in dropped}
    copies = [op for op in copies if op.id() not in dropped]
    remove_unused(block, fetches)
    raise_pending_interrupt()
    for op in copies:
        freeze(op)
    raise_pending_interrupt()
    new_names = dict((*names.renames, *names.unmapped_feeds))
    for op in copies:
        attribute = NAME_ATTRIBUTES.get(op.name())
        if attribute is not None:
            old = op.str_attr(attribute)
            op.set_str_attr(attribute, new_names.get(old, old))
        if attribute == "parameter_name":
            op.result(0).trainable = False
    raise_pending_interrupt()
    replaced = {old: student.keys[new] for old, new in names.replacements}
    keys = {
        name: replaced.get(name) or (op_ids[op_id], region, position)
        for name, (op_id, region, position) in teacher.keys.items()
        if name in replaced or op_id in op_ids
    }
    return ValueMap(keys=keys, extent=BlockSnapshot.of(student.program))


def _copied_ids(originals: Iterable[Paddle], copies: Iterable[Paddle]) -> Iterator[tuple[int, int]]:
    """Yield the ids of operations with those of their copies, which are in the same order."""
    for original, copied in zip(originals, copies, strict=True):
        yield original.id(), copied.id()
        if original.num_regions():
            for block, copied_block in zip(original.blocks(), copied.blocks(), strict=True):
                yield from _copied_ids(block.ops, copied_block.ops)


_Message: TypeAlias = Any

# Values of Paddle's AttrType.
_INT, _STRINGS, _BOOL, _BLOCK, _BLOCKS, _VARIABLE, _VARIABLES = 0, 5, 6, 8, 10, 13, 14
_FEED_FETCH_VAR_TYPES = frozenset({9, 10})  # Values of Paddle's VarType.
_EMPTY_NAMES = frozenset({"", "@EMPTY@"})
_WRITE_SUFFIX = re.compile(r"@\d+$")
# The kinds of Variables that have a LoD level, and those that have a shape and a dtype.
_LOD_KINDS = ("dense_tensor", "tensor_array")
_SHAPED_KINDS = (*_LOD_KINDS, "selected_rows", "string", "strings", "vocab", "sparse_coo")


def _join_legacy(
    names: NewNames, teacher: LiveProgram, student: LiveProgram, undo: ExitStack
) -> ValueMap:
    """Adapt the teacher's ProgramDesc, then append it to the student's.

    Adapted means renamed, in test mode, without feeds and fetches.
    """
    program = student.program
    renaming = _Renaming.of(names, teacher.program, program)
    message: _Message = program_message()()
    message.ParseFromString(teacher.program.desc.serialize_to_string())
    variables = {
        var.name: renaming(var.name)
        for block in message.blocks
        for var in block.vars
        if var.type.type not in _FEED_FETCH_VAR_TYPES
    }
    for block in message.blocks:
        _adapt_block(block, renaming, variables)
    blocks = len(program.blocks)
    value_names = dict(
        _merged_value_names(renaming, variables, teacher.graph, student.graph, blocks)
    )
    undo.callback(ProgramSnapshot.of(program).restore, program)
    _append(message, program)
    unreplaced = {old: new for old, new in variables.items() if old not in renaming.replaced}
    _freeze_variables(unreplaced, teacher.program, program)
    _copy_feeds(renaming.copied_feeds, program)
    return ValueMap(names=value_names, extent=BlockSnapshot.of(program))


def _append(adapted: _Message, program: Paddle) -> None:
    source = load_paddle().base.core.ProgramDesc(adapted.SerializeToString())
    blocks = [program.desc.block(0)]
    for index in range(1, source.num_blocks()):
        blocks.append(program.desc.append_block(blocks[source.block(index).parent]))
    for index, target in enumerate(blocks):
        message, block = adapted.blocks[index], source.block(index)
        if message.forward_block_idx > 0:
            target._set_forward_block_idx(blocks[message.forward_block_idx].id)  # noqa: SLF001
        for var in message.vars:
            key = var.name.encode()
            # A Variable that the student feeds exists already.
            if not target.has_var(key):
                _copy_var_desc(var, block.find_var(key), target.var(key))
    for index, target in enumerate(blocks):
        for position, op in enumerate(adapted.blocks[index].ops):
            copied = target.append_op()
            copied.copy_from(source.block(index).op(position))
            for attr in op.attrs:
                _set_reference(copied, attr, target, blocks)
    # Only once: each call walks the whole Program.
    program._sync_with_cpp()  # noqa: SLF001


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


def _set_reference(op: Paddle, attr: _Message, block: Paddle, blocks: Sequence[Paddle]) -> None:
    """Make a copied attribute refer to the merged Program's Blocks or Variables."""

    def variables(names: Iterable[str]) -> list[Paddle]:
        return [block.find_var_recursive(name.encode()) for name in names]

    if attr.type == _BLOCK:
        op.set_block_attr(attr.name, blocks[attr.block_idx])
    elif attr.type == _BLOCKS and attr.blocks_idx:
        op.set_blocks_attr(attr.name, [blocks[index] for index in attr.blocks_idx])
    elif attr.type == _VARIABLE:
        op.set_var_attr(attr.name, variables([attr.var_name])[0])
    elif attr.type == _VARIABLES and attr.vars_name:
        op.set_vars_attr(attr.name, variables(attr.vars_name))


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


def _adapt_block(block: _Message, renaming: _Renaming, variables: Mapping[str, str]) -> None:
    """Rename a Block's Variables, drop its feeds and fetches, and put it into test mode."""
    for var in [var for var in block.vars if var.type.type in _FEED_FETCH_VAR_TYPES]:
        block.vars.remove(var)
    for op in [op for op in block.ops if op.type in LEGACY_PORTS]:
        block.ops.remove(op)
    for var in block.vars:
        var.name = renaming(var.name)
        var.stop_gradient = True
    for op in block.ops:
        for slot in (*op.inputs, *op.outputs):
            slot.arguments[:] = map(renaming, slot.arguments)
        for attr in op.attrs:
            _adapt_attribute(attr, renaming, variables)
        _set_test_mode(op)


def _adapt_attribute(attr: _Message, renaming: _Renaming, variables: Mapping[str, str]) -> None:
    kind = attr.type
    if kind == _INT and attr.name == "op_role":
        attr.i = 0
    elif kind == _STRINGS and attr.name == "op_role_var":
        del attr.strings[:]
    elif kind == _STRINGS and attr.name != "op_callstack":
        # Loops and branches list Variables by name: those to keep, the states of a recurrence.
        names = [(text, variables.get(text.decode(errors="replace"))) for text in attr.strings]
        attr.strings[:] = [text if new is None else new.encode() for text, new in names]
    elif kind == _VARIABLE:
        attr.var_name = renaming(attr.var_name)
    elif kind == _VARIABLES:
        attr.vars_name[:] = map(renaming, attr.vars_name)


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
