"""Merge under PIR: copy the teacher's operations into the student's block, then freeze them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from graphtool.backend.interrupts import heed_interrupt
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.pir import ValueKey
from graphtool.checks.plan import MergePlan, ParametersWhen
from graphtool.merging._backend import BlockSnapshot, Scopes, ValueMap
from graphtool.merging._scope import transfer_weights
from graphtool.ops import PIR_FETCHES
from graphtool.readers._graph_builder import NAME_ATTRIBUTES

__all__ = [
    "STEPS",
    "freeze",
    "join",
    "operations",
    "remove_unused",
    "set_test_mode",
]


@dataclass(kw_only=True, eq=False)
class _PirMerge:
    """A merge in progress: `copied_ops` are the new operations, `op_ids` maps old ids to new."""

    plan: MergePlan
    teacher: LiveProgram
    student: LiveProgram
    scopes: Scopes
    place: Paddle | None
    undo: ExitStack
    copied_ops: Sequence[Paddle] = ()
    op_ids: dict[int, int] = field(default_factory=dict[int, int])
    joined: ValueMap | None = None


def join(
    plan: MergePlan,
    teacher: LiveProgram,
    student: LiveProgram,
    scopes: Scopes,
    place: Paddle | None,
    undo: ExitStack,
) -> ValueMap:
    """Merge the teacher into `student.program`, in place; `undo` gets the rollback callbacks."""
    merge = _PirMerge(
        plan=plan, teacher=teacher, student=student, scopes=scopes, place=place, undo=undo
    )
    for step in STEPS:
        heed_interrupt()
        step(merge)
    assert merge.joined is not None
    return merge.joined


def operations(block: Paddle) -> Iterator[Paddle]:
    """Yield a Block's operations in pre-order, nested Blocks included."""
    for op in block.ops:
        yield op
        if op.num_regions():
            for inner in op.blocks():
                yield from operations(inner)


def set_test_mode(op: Paddle) -> None:
    """Put one operation into test mode, without the operations nested in it."""
    if op.has_attr("is_test"):
        op.set_bool_attr("is_test", True)  # noqa: FBT003
        if op.has_attr("trainable_statistics"):
            # While this is set, batch norm keeps updating its running statistics.
            op.set_bool_attr("trainable_statistics", False)  # noqa: FBT003


def freeze(op: Paddle) -> None:
    """Put an operation and those nested in it into test mode, and stop their gradients."""
    set_test_mode(op)
    for value in op.results():
        if value.initialized():
            value.stop_gradient = True
    if op.num_regions():
        for block in op.blocks():
            for argument in block.args():
                argument.stop_gradient = True
            for inner in block.ops:
                freeze(inner)


def remove_unused(block: Paddle, ops: Sequence[Paddle]) -> None:
    """Remove operations from a Block, last first, except those whose results are used."""
    for op in reversed(ops):
        # Removing an operation that has users makes Paddle abort the process.
        if all(value.use_empty() for value in op.results()):
            block.remove_op(op)


def _copy(merge: _PirMerge) -> None:
    block = merge.student.program.global_block()
    mapping = load_paddle().pir.IrMapping()
    for teacher_name, student_name in merge.plan.replacements:
        mapping.add(merge.teacher.value(teacher_name), merge.student.value(student_name))
    length = len(block.ops)
    merge.undo.callback(_truncate, block, length)
    merge.teacher.program.copy_to_block(mapping, block)
    merge.copied_ops = block.ops[length:]


def _truncate(block: Paddle, length: int) -> None:
    remove_unused(block, block.ops[length:])


def _map_op_ids(merge: _PirMerge) -> None:
    """Map operation ids to those of their copies, which are in the same order."""
    not_copied = {merge.teacher.keys[name][0] for name, _ in merge.plan.replacements}
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
    new_names = dict((*merge.plan.renames, *merge.plan.unmapped_feeds))
    for op in merge.copied_ops:
        attribute = NAME_ATTRIBUTES.get(op.name())
        if attribute is not None:
            old = op.str_attr(attribute)
            op.set_str_attr(attribute, new_names.get(old, old))
        if attribute == "parameter_name":
            op.result(0).trainable = False


def _transfer_weights(merge: _PirMerge) -> None:
    if merge.plan.parameters is ParametersWhen.NOW:
        transfer_weights(merge.plan, merge.scopes, merge.place, merge.undo)


def _locate_values(merge: _PirMerge) -> None:
    """Find the keys of the teacher's Values in the merged Program."""
    student_keys = {old: merge.student.keys[new] for old, new in merge.plan.replacements}
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
    _transfer_weights,
    _locate_values,
)
