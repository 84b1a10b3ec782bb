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
_NORMS = frozenset({"pd_op.batch_norm", "pd_op.batch_norm_"})


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
        if op.name() in _NORMS and not op.result(op.num_results() - 1).initialized():
            _rebuild_norm(clone, op)
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


def _rebuild_norm(program: _Paddle, op: _Paddle) -> None:
    """Build a batch norm anew that lacks the reserve that its training writes.

    Files of Paddle 2 leave it out, and translation then leaves the result empty.
    """
    paddle, attributes = load_paddle(), op.attrs()
    with paddle.static.program_guard(program):
        paddle.pir.set_insertion_point(op)
        results = paddle._C_ops.batch_norm_(  # noqa: SLF001  # `F.batch_norm` would add its own
            *op.operands_source(),
            attributes["is_test"],
            attributes["momentum"],
            attributes["epsilon"],
            attributes["data_format"],
            attributes["use_global_stats"],
            attributes["trainable_statistics"],
        )
        paddle.pir.reset_insertion_point_to_end()
    new = results[0].get_defining_op()
    if "struct_name" in attributes:
        new.set_str_attr("struct_name", attributes["struct_name"])
    for old, result in zip(op.results()[:-1], results[:-1], strict=True):
        old.replace_all_uses_with(result)
    op.get_parent_block().remove_op(op)
