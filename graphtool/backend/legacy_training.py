"""Put a clone of a legacy inference model into training mode."""

from __future__ import annotations

import re
from collections.abc import Collection

from graphtool.backend.legacy_editing import remove_operators, remove_variables
from graphtool.backend.paddle import Paddle, legacy_mode, load_paddle
from graphtool.ops import BATCH_NORMS, LEGACY_PORTS, TEST_MODE

__all__ = ["counts_names_by_program", "training_clone"]


# `conv2d_53.tmp_0` was counted twice: as the 53rd `conv2d`, then as the first `conv2d_53.tmp`.
_COUNTER = re.compile(r"_(?P<number>\d+)(?=\.|$)")


def training_clone(
    program: Paddle,
    *,
    trainable: Collection[str],
    statistics: Collection[str],
    unstopped: Collection[str],
) -> Paddle:
    """Return a clone in training mode without feed and fetch operators.

    `trainable` names the parameters to train, `statistics` the running statistics. `unstopped` is
    empty: `stop_gradient` of legacy Variables is as the user set it.
    """
    assert not unstopped
    with legacy_mode():
        clone = program.clone()
        block = clone.global_block()
        _remove_ports(block)
        for op in [op for inner in clone.blocks for op in inner.ops]:
            for attribute in TEST_MODE:
                if op.has_attr(attribute):
                    op._set_attr(attribute, False)  # noqa: SLF001, FBT003  # nothing public does
            if op.type in BATCH_NORMS:
                _add_reserve(op)
        for name in trainable:
            _make_parameter(block, name)
        for name in statistics:
            block.vars[name].stop_gradient = True
        clone._sync_with_cpp()  # noqa: SLF001
        _advance_name_counters(clone)
    return clone


def _advance_name_counters(program: Paddle) -> None:
    """Advance the name counters of a Program of Paddle 3 past the names in it."""
    if not counts_names_by_program(program):
        return
    ids = program._name_generator.ids  # noqa: SLF001
    for name in program.global_block().vars:
        for counter in _COUNTER.finditer(name):
            stem = name[: counter.start()]
            ids[stem] = max(ids[stem], int(counter["number"]) + 1)


def counts_names_by_program(program: Paddle) -> bool:
    """Return whether the Program counts new names itself; Paddle 2.6 counts by process."""
    return hasattr(program, "_name_generator")


def _remove_ports(block: Paddle) -> None:
    ports = [op for op in block.ops if op.type in LEGACY_PORTS]
    for op in ports:
        if op.type == "feed":
            fed = block.vars[op.output("Out")[0]]
            fed.desc.set_need_check_feed(True)
            fed.stop_gradient = True
    remove_operators(block, ports)
    remove_variables(block, LEGACY_PORTS & block.vars.keys())


def _add_reserve(op: Paddle) -> None:
    """Add the `ReserveSpace` output that a batch norm writes in training; old exports omit it."""
    if "ReserveSpace" in op.output_names and op.output("ReserveSpace"):
        return
    paddle, output = load_paddle(), op.output("Y")[0]
    reserve = op.block.create_var(
        name=paddle.utils.unique_name.generate(f"{output}.reserve"),
        dtype=op.block._var_recursive(output).dtype,  # noqa: SLF001  # an outer Block may have it
        stop_gradient=True,
    )
    op.desc.set_output("ReserveSpace", [reserve.name])


def _make_parameter(block: Paddle, name: str) -> None:
    """Replace a Variable by a Parameter: optimizers only find those."""
    parameter = load_paddle().base.framework.Parameter
    old = block.vars[name]
    if not isinstance(old, parameter):
        parameter(block, old.shape, old.dtype, name=name, trainable=True)
