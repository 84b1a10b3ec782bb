"""Merge under PIR: copy the teacher's operations into the student's block, then freeze them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphtool.checks.plan import MergePlan, ParametersWhen
from graphtool.merging._backend import Extent, Joined, Scopes
from graphtool.merging._interrupts import heed_interrupt
from graphtool.merging._scope import bring_parameters
from graphtool.readers._assembly import NAME_ATTRIBUTES
from graphtool.readers._paddle import load_paddle
from graphtool.readers._pir import ValueKey
from graphtool.readers.live import LiveProgram

__all__ = [
    "ENDS",
    "STEPS",
    "freeze",
    "join",
    "operations",
    "remove_unused",
    "to_test_mode",
]

# Paddle ships no types for its compiled part, which Programs, Blocks and operations are of.
_Paddle: TypeAlias = Any

ENDS = frozenset({"pd_op.fetch", "builtin.shadow_output"})


@dataclass(kw_only=True, eq=False)
class _Job:
    plan: MergePlan
    teacher: LiveProgram
    student: LiveProgram
    scopes: Scopes
    place: _Paddle | None
    undo: ExitStack
    new: Sequence[_Paddle] = ()
    ids: dict[int, int] = field(default_factory=dict[int, int])
    joined: Joined | None = None


def join(
    plan: MergePlan,
    teacher: LiveProgram,
    student: LiveProgram,
    scopes: Scopes,
    place: _Paddle | None,
    undo: ExitStack,
) -> Joined:
    """Merge the teacher into `student.program`, in place; `undo` gets what takes it out again."""
    job = _Job(plan=plan, teacher=teacher, student=student, scopes=scopes, place=place, undo=undo)
    for step in STEPS:
        heed_interrupt()
        step(job)
    assert job.joined is not None
    return job.joined


def operations(block: _Paddle) -> Iterator[_Paddle]:
    """Yield a Block's operations in pre-order, those of Blocks inside it included."""
    for op in block.ops:
        yield op
        if op.num_regions():
            for inner in op.blocks():
                yield from operations(inner)


def to_test_mode(op: _Paddle) -> None:
    """Put one operation into test mode; nested ones are not looked at."""
    if op.has_attr("is_test"):
        op.set_bool_attr("is_test", True)  # noqa: FBT003
        if op.has_attr("trainable_statistics"):
            # Batch norm goes on writing its running statistics where this is set.
            op.set_bool_attr("trainable_statistics", False)  # noqa: FBT003


def freeze(op: _Paddle) -> None:
    """Put an operation, and all in its Blocks, into test mode and let no gradient pass."""
    to_test_mode(op)
    for value in op.results():
        if value.initialized():
            value.stop_gradient = True
    if op.num_regions():
        for block in op.blocks():
            for argument in block.args():
                argument.stop_gradient = True
            for inner in block.ops:
                freeze(inner)


def remove_unused(block: _Paddle, ops: Sequence[_Paddle]) -> None:
    """Remove operations from a Block, last first; those with a user are left where they are."""
    for op in reversed(ops):
        # Paddle ends the process where an operation that has users is removed.
        if all(value.use_empty() for value in op.results()):
            block.remove_op(op)


def _copy(job: _Job) -> None:
    block = job.student.program.global_block()
    mapping = load_paddle().pir.IrMapping()
    for theirs, ours in job.plan.stand_ins:
        mapping.add(job.teacher.value(theirs), job.student.value(ours))
    before = len(block.ops)
    job.undo.callback(_cut, block, before)
    job.teacher.program.copy_to_block(mapping, block)
    job.new = block.ops[before:]


def _cut(block: _Paddle, length: int) -> None:
    remove_unused(block, block.ops[length:])


def _trace(job: _Job) -> None:
    """Note which operation became which: copies stand in the order of what they are copies of."""
    left_out = {job.teacher.keys[theirs][0] for theirs, _ in job.plan.stand_ins}
    old = [(op.id(), op) for op in job.teacher.program.global_block().ops]
    _pair([pair for pair in old if pair[0] not in left_out], job.new, job.ids)


def _pair(old: Sequence[tuple[int, _Paddle]], new: Sequence[_Paddle], ids: dict[int, int]) -> None:
    for (old_id, theirs), ours in zip(old, new, strict=True):
        ids[old_id] = ours.id()
        if theirs.num_regions():
            for block, copied in zip(theirs.blocks(), ours.blocks(), strict=True):
                _pair([(op.id(), op) for op in block.ops], copied.ops, ids)


def _drop_ends(job: _Job) -> None:
    ends = [op for op in job.new if op.name() in ENDS]
    if ends:
        gone = frozenset([op.id() for op in ends])
        job.ids = {old: new for old, new in job.ids.items() if new not in gone}
        job.new = [op for op in job.new if op.id() not in gone]
        remove_unused(job.student.program.global_block(), ends)


def _freeze(job: _Job) -> None:
    for op in job.new:
        freeze(op)


def _rename(job: _Job) -> None:
    new_names = dict((*job.plan.renames, *job.plan.own_feeds))
    for op in job.new:
        attribute = NAME_ATTRIBUTES.get(op.name())
        if attribute is not None:
            old = op.str_attr(attribute)
            op.set_str_attr(attribute, new_names.get(old, old))
        if attribute == "parameter_name":
            op.result(0).trainable = False


def _bring_parameters(job: _Job) -> None:
    if job.plan.parameters is ParametersWhen.NOW:
        bring_parameters(job.plan, job.scopes, job.place, job.undo)


def _find_values(job: _Job) -> None:
    job.joined = Joined(keys=_moved(job), extent=Extent.of(job.student.program))


def _moved(job: _Job) -> dict[str, ValueKey]:
    ids = job.ids
    stand_ins = {old: job.student.keys[new] for old, new in job.plan.stand_ins}
    return {
        old: stand_ins.get(old) or (ids[op_id], block, position)
        for old, (op_id, block, position) in job.teacher.keys.items()
        if old in stand_ins or op_id in ids
    }


STEPS: tuple[Callable[[_Job], None], ...] = (
    _copy,
    _trace,
    _drop_ends,
    _freeze,
    _rename,
    _bring_parameters,
    _find_values,
)
