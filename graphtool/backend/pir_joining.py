"""Join PIR Programs: copy the teacher's operations into the student's block, then freeze them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from graphtool.backend.interrupts import heed_interrupt
from graphtool.backend.joining import BlockSnapshot, NewNames, ValueMap
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.pir import ValueKey
from graphtool.backend.pir_editing import freeze, remove_unused
from graphtool.ops import PIR_FETCHES
from graphtool.readers.graph_builder import NAME_ATTRIBUTES

__all__ = ["STEPS", "join"]


@dataclass(kw_only=True, eq=False)
class _PirMerge:
    """A merge in progress: `copied_ops` are the new operations, `op_ids` maps old ids to new."""

    names: NewNames
    teacher: LiveProgram
    student: LiveProgram
    undo: ExitStack
    copied_ops: Sequence[Paddle] = ()
    op_ids: dict[int, int] = field(default_factory=dict[int, int])
    joined: ValueMap | None = None


def join(names: NewNames, teacher: LiveProgram, student: LiveProgram, undo: ExitStack) -> ValueMap:
    """Copy the teacher into `student.program`, in place; `undo` gets the rollback callbacks."""
    merge = _PirMerge(names=names, teacher=teacher, student=student, undo=undo)
    for step in STEPS:
        heed_interrupt()
        step(merge)
    assert merge.joined is not None
    return merge.joined


def _copy(merge: _PirMerge) -> None:
    block = merge.student.program.global_block()
    mapping = load_paddle().pir.IrMapping()
    for teacher_name, student_name in merge.names.replacements:
        mapping.add(merge.teacher.value(teacher_name), merge.student.value(student_name))
    length = len(block.ops)
    merge.undo.callback(_truncate, block, length)
    merge.teacher.program.copy_to_block(mapping, block)
    merge.copied_ops = block.ops[length:]


def _truncate(block: Paddle, length: int) -> None:
    remove_unused(block, block.ops[length:])


def _map_op_ids(merge: _PirMerge) -> None:
    """Map operation ids to those of their copies, which are in the same order."""
    not_copied = {merge.teacher.keys[name][0] for name, _ in merge.names.replacements}
    ops = [(op.id(), op) for op in merge.teacher.program.global_block().ops]
    _map_ids([pair for pair in ops if pair[0] not in not_copied], merge.copied_ops, merge.op_ids)


def _map_ids(
    originals: Sequence[tuple[int, Paddle]], copies: Sequence[Paddle], op_ids: dict[int, int]
) -> None:
    for (op_id, original), copied in zip(originals, copies, strict=True):
        op_ids[op_id] = copied.id()
        if original.num_regions():
            for block, copied_block in zip(original.blocks(), copied.blocks(), strict=True):
                _map_ids([(op.id(), op) for op in block.ops], copied_block.ops, op_ids)


def _drop_fetches(merge: _PirMerge) -> None:
    fetches = [op for op in merge.copied_ops if op.name() in PIR_FETCHES]
    if fetches:
        dropped = frozenset([op.id() for op in fetches])
        merge.op_ids = {old: new for old, new in merge.op_ids.items() if new not in dropped}
        merge.copied_ops = [op for op in merge.copied_ops if op.id() not in dropped]
        remove_unused(merge.student.program.global_block(), fetches)


def _freeze(merge: _PirMerge) -> None:
    for op in merge.copied_ops:
        freeze(op)


def _rename(merge: _PirMerge) -> None:
    new_names = dict((*merge.names.renames, *merge.names.unmapped_feeds))
    for op in merge.copied_ops:
        attribute = NAME_ATTRIBUTES.get(op.name())
        if attribute is not None:
            old = op.str_attr(attribute)
            op.set_str_attr(attribute, new_names.get(old, old))
        if attribute == "parameter_name":
            op.result(0).trainable = False


def _locate_values(merge: _PirMerge) -> None:
    """Find the keys of the teacher's Values in the merged Program."""
    student_keys = {old: merge.student.keys[new] for old, new in merge.names.replacements}
    keys: dict[str, ValueKey] = {}
    for name, (op_id, block, position) in merge.teacher.keys.items():
        if name in student_keys:
            keys[name] = student_keys[name]
        elif op_id in merge.op_ids:
            keys[name] = (merge.op_ids[op_id], block, position)
    merge.joined = ValueMap(keys=keys, extent=BlockSnapshot.of(merge.student.program))


STEPS: tuple[Callable[[_PirMerge], None], ...] = (
    _copy,
    _map_op_ids,
    _drop_fetches,
    _freeze,
    _rename,
    _locate_values,
)
