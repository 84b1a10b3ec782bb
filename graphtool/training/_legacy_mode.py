"""Put a clone of a legacy inference model into training mode."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, TypeAlias

from graphtool.readers._paddle import legacy_mode, load_paddle

__all__ = ["counts_by_program", "restored"]

# Legacy Programs, Blocks and Operators have no types that hold for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_PORTS = frozenset({"feed", "fetch"})
_NORMS = frozenset({"batch_norm", "sync_batch_norm"})
_TEST_MODE = ("is_test", "use_global_stats")


# `conv2d_53.tmp_0` was counted twice: as the 53rd `conv2d`, then as the first `conv2d_53.tmp`.
_COUNTED = re.compile(r"_(?P<number>\d+)(?=\.|$)")


def restored(
    program: _Paddle,
    *,
    trainable: Collection[str],
    statistics: Collection[str],
    revived: Collection[str],
) -> _Paddle:
    """Return a clone in training mode without feed and fetch operators; `trainable` learns.

    Gradients of legacy programs stop where their Variables say so: `revived` is empty.
    """
    assert not revived
    with legacy_mode():
        clone = program.clone()
        block = clone.global_block()
        _drop_ports(block)
        for inner in clone.blocks:
            for op in inner.ops:
                for attribute in _TEST_MODE:
                    if op.has_attr(attribute):
                        op._set_attr(attribute, False)  # noqa: SLF001, FBT003  # no public spelling
        for op in [op for inner in clone.blocks for op in inner.ops if op.type in _NORMS]:
            _add_reserve(op)
        for name in trainable:
            _make_parameter(block, name)
        for name in statistics:
            block.vars[name].stop_gradient = True
        clone._sync_with_cpp()  # noqa: SLF001
        _count_on(clone)
    return clone


def _count_on(program: _Paddle) -> None:
    """Let Paddle 3, which counts names for each Program, count on from those that are taken."""
    if not counts_by_program(program):
        return
    ids = program._name_generator.ids  # noqa: SLF001
    for name in program.global_block().vars:
        for counted in _COUNTED.finditer(name):
            stem = name[: counted.start()]
            ids[stem] = max(ids[stem], int(counted["number"]) + 1)


def counts_by_program(program: _Paddle) -> bool:
    """Tell whether new names are counted by the Program itself; Paddle 2.6 counts by process."""
    return hasattr(program, "_name_generator")


def _drop_ports(block: _Paddle) -> None:
    for index in reversed(range(len(block.ops))):
        op = block.ops[index]
        if op.type not in _PORTS:
            continue
        if op.type == "feed":
            fed = block.vars[op.output("Out")[0]]
            fed.desc.set_need_check_feed(True)
            fed.stop_gradient = True
        block._remove_op(index)  # noqa: SLF001
    for name in _PORTS & block.vars.keys():
        block._remove_var(name, sync=False)  # noqa: SLF001


def _add_reserve(op: _Paddle) -> None:
    """Give a batch norm the reserve that its training writes; old exports leave it out."""
    if "ReserveSpace" in op.output_names and op.output("ReserveSpace"):
        return
    paddle, shown = load_paddle(), op.output("Y")[0]
    reserve = op.block.create_var(
        name=paddle.utils.unique_name.generate(f"{shown}.reserve"),
        dtype=op.block._var_recursive(shown).dtype,  # noqa: SLF001  # it may lie further out
        stop_gradient=True,
    )
    op.desc.set_output("ReserveSpace", [reserve.name])


def _make_parameter(block: _Paddle, name: str) -> None:
    """Put a Parameter in the place of a Variable: optimizers find those alone."""
    parameter = load_paddle().base.framework.Parameter
    old = block.vars[name]
    if not isinstance(old, parameter):
        parameter(block, old.shape, old.dtype, name=name, trainable=True)
