"""What no merge can do without: walk both Programs, copy operations, freeze and prefix them.

The garbage collector is paused, as it is while graphtool merges.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from graphtool.backend.tensors import copy_tensor
from graphtool.graph import collection_paused
from tests.benchmarks.programs import static_paddle

__all__ = ["bare_legacy_merge", "bare_pir_merge", "copied", "walked_legacy", "walked_pir"]

# Programs and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_PREFIX = "teacher_"


@collection_paused()
def walked_pir(program: _Paddle) -> list[_Paddle]:
    """Take out what a check has to look at: types, attributes, operands, shapes."""
    ops = program.global_block().ops
    for op in ops:
        op.name()
        op.attrs()
        for value in op.operands_source():
            _ = value.initialized() and value.id
        for value in op.results():
            _ = value.initialized() and (value.id, value.shape, value.dtype)
    return ops


@collection_paused()
def walked_legacy(program: _Paddle) -> list[_Paddle]:
    """Take out the same from descriptions, and that of all Variables."""
    block = program.desc.block(0)
    for var in block.all_vars():
        _ = var.name(), var.type(), var.persistable()
    ops = [block.op(index) for index in range(block.op_size())]
    for op in ops:
        _ = op.type(), [op.attr(name) for name in op.attr_names()]
        for slot in op.input_names():
            op.input(slot)
        for slot in op.output_names():
            op.output(slot)
    return ops


@collection_paused()
def bare_pir_merge(teacher: _Paddle, student: _Paddle) -> None:
    """Walk both Programs, copy the teacher's operations, freeze them and name parameters anew."""
    walked = [walked_pir(program) for program in (teacher, student)]
    mapping, block = static_paddle().pir.IrMapping(), student.global_block()
    feeds = [next(op for op in ops if op.name() == "pd_op.data") for ops in walked]
    mapping.add(feeds[0].result(0), feeds[1].result(0))
    before = len(block.ops)
    teacher.copy_to_block(mapping, block)
    for op in block.ops[before:]:
        if op.has_attr("is_test"):
            op.set_bool_attr("is_test", True)  # noqa: FBT003
        for value in op.results():
            if value.initialized():
                value.stop_gradient = True
        if op.name() == "builtin.parameter":
            name = op.attrs()["parameter_name"]
            op.set_str_attr("parameter_name", f"{_PREFIX}{name}")


@collection_paused()
def bare_legacy_merge(teacher: _Paddle, student: _Paddle) -> None:
    """Walk both Programs, append the teacher's descriptions under new names, in test mode."""
    walked_legacy(student)
    ops, variables = walked_legacy(teacher), teacher.desc.block(0).all_vars()
    block = student.desc.block(0)
    for var in variables:
        _describe(var, block.var(f"{_PREFIX}{var.name()}".encode()))
    for op in ops:
        copy = block.append_op()
        copy.copy_from(op)
        for old in op.input_arg_names():
            copy._rename_input(old, f"{_PREFIX}{old}")
        for old in op.output_arg_names():
            copy._rename_output(old, f"{_PREFIX}{old}")
        if copy.has_attr("is_test"):
            copy._set_bool_attr("is_test", True)  # noqa: FBT003
    student._sync_with_cpp()


def _describe(old: _Paddle, new: _Paddle) -> None:
    new.set_type(old.type())
    new.set_shape(old.shape())
    new.set_dtype(old.dtype())
    new.set_persistable(old.persistable())
    new.set_stop_gradient(True)


def copied(scope: _Paddle, names: Iterable[str]) -> list[_Paddle]:
    """Copy tensors of a Scope."""
    return [copy_tensor(scope.find_var(name).get_tensor()) for name in names]
