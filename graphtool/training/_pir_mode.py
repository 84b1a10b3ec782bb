"""Put a clone of a PIR inference model into training mode."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

from graphtool.readers._paddle import load_paddle
from graphtool.readers._pir import walk_pir

__all__ = ["restored"]

# PIR's Programs, Blocks, operations and Values ship no types.
_Paddle: TypeAlias = Any

_FETCHES = frozenset({"pd_op.fetch", "builtin.shadow_output"})
_TEST_MODE = ("is_test", "use_global_stats")
_NORM = (
    "batch_norm_",
    ("is_test", "momentum", "epsilon", "data_format", "use_global_stats", "trainable_statistics"),
)
# What has a last result that only its gradient reads: the function that makes it, as functions of
# `nn.functional` would add operators of their own, and the attributes that this takes in order.
_REBUILT = {
    "pd_op.batch_norm": _NORM,
    "pd_op.batch_norm_": _NORM,
    "pd_op.dropout": ("dropout", ("is_test", "mode", "seed", "fix_seed")),
}


def restored(
    program: _Paddle,
    *,
    trainable: Collection[str],
    statistics: Collection[str],
    revived: Collection[str],
) -> _Paddle:
    """Return a clone in training mode without fetch operators.

    `trainable` names parameters that learn, `revived` Values that pass gradients on again.
    """
    clone = program.clone()
    block = clone.global_block()
    _revive(clone, revived)
    for op in block.ops:
        if op.name() in _FETCHES:
            block.remove_op(op)
        elif op.name() == "pd_op.feed":
            _replace_feed(clone, block, op)
    for op in list(_operations(block)):
        for attribute in _TEST_MODE:
            if op.has_attr(attribute):
                op.set_bool_attr(attribute, False)  # noqa: FBT003  # Paddle takes it so
        if op.name() in _REBUILT and not op.result(op.num_results() - 1).initialized():
            _rebuild(clone, op)
    for value in block.all_parameters():
        _set_trainable(value, trainable, statistics)
    return clone


def _operations(block: _Paddle) -> Iterator[_Paddle]:
    for op in block.ops:
        yield op
        for inner in op.blocks() if op.num_regions() else ():
            yield from _operations(inner)


def _revive(clone: _Paddle, names: Collection[str]) -> None:
    if not names:
        return
    addresses = walk_pir(clone).names
    for op in _operations(clone.global_block()):
        for value in op.results():
            if addresses.get(value.id) in names:
                value.stop_gradient = False


def _set_trainable(value: _Paddle, trainable: Collection[str], statistics: Collection[str]) -> None:
    # Parameters of a translated program have no flags at all, which reads as frozen.
    if value.name in trainable:
        value.is_parameter = True
        value.trainable = True
        value.stop_gradient = False
    elif value.name in statistics:
        value.trainable = False
        value.stop_gradient = True


def _replace_feed(program: _Paddle, block: _Paddle, op: _Paddle) -> None:
    """Put a `data` operator, as `paddle.static.data` makes it, where a `feed` stands."""
    paddle = load_paddle()
    fed, name = op.result(0), op.attrs()["name"]
    with paddle.static.program_guard(program):
        paddle.pir.set_insertion_point(op)
        place = paddle.base.core.Place()
        data = paddle._C_ops.data(name, fed.shape, fed.dtype, place)  # noqa: SLF001
        paddle.pir.reset_insertion_point_to_end()
    data.stop_gradient = True
    fed.replace_all_uses_with(data)
    block.remove_op(op)


def _rebuild(program: _Paddle, op: _Paddle) -> None:
    """Build an operator anew that lacks its last result, which Paddle crashes without.

    Files of Paddle 2 leave out the reserve of a batch norm and the mask of a dropout, and
    translation then leaves the result empty.
    """
    paddle, attributes = load_paddle(), op.attrs()
    function, names = _REBUILT[op.name()]
    operands = (value if value.initialized() else None for value in op.operands_source())
    with paddle.static.program_guard(program):
        paddle.pir.set_insertion_point(op)
        make = getattr(paddle._C_ops, function)  # noqa: SLF001
        made = make(*operands, *(attributes[name] for name in names))
        paddle.pir.reset_insertion_point_to_end()
    new = paddle.utils.flatten(made)[0].get_defining_op()
    if "struct_name" in attributes:
        new.set_str_attr("struct_name", attributes["struct_name"])
    for old, result in zip(op.results()[:-1], new.results()[:-1], strict=True):
        old.replace_all_uses_with(result)
    op.get_parent_block().remove_op(op)
