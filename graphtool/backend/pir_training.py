"""Put a clone of a PIR inference model into training mode."""

from __future__ import annotations

from collections.abc import Collection

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.pir import read_pir
from graphtool.backend.pir_editing import inserting_before, operations
from graphtool.ops import PIR_FETCHES, TEST_MODE

__all__ = ["training_clone"]


_BATCH_NORM = (
    "batch_norm_",
    ("is_test", "momentum", "epsilon", "data_format", "use_global_stats", "trainable_statistics"),
)
# Operators whose last result only their gradient reads: the function of `_C_ops` that makes each,
# as those of `nn.functional` would add further operators, and the attributes it takes, in order.
_REBUILT = {
    "pd_op.batch_norm": _BATCH_NORM,
    "pd_op.batch_norm_": _BATCH_NORM,
    "pd_op.dropout": ("dropout", ("is_test", "mode", "seed", "fix_seed")),
}


def training_clone(
    program: Paddle,
    *,
    trainable: Collection[str],
    statistics: Collection[str],
    unstopped: Collection[str],
) -> Paddle:
    """Return a clone in training mode without fetch operators.

    `trainable` names the parameters to train, `statistics` the running statistics, `unstopped` the
    Values whose `stop_gradient` is cleared.
    """
    clone = program.clone()
    block = clone.global_block()
    _clear_stop_gradient(clone, unstopped)
    for op in block.ops:
        if op.name() in PIR_FETCHES:
            block.remove_op(op)
        elif op.name() == "pd_op.feed":
            _replace_feed(clone, block, op)
    for op in list(operations(block)):
        for attribute in TEST_MODE:
            if op.has_attr(attribute):
                op.set_bool_attr(attribute, False)  # noqa: FBT003  # Paddle takes it by position
        if op.name() in _REBUILT and not op.result(op.num_results() - 1).initialized():
            _rebuild(clone, op)
    for value in block.all_parameters():
        _set_flags(value, trainable, statistics)
    return clone


def _clear_stop_gradient(program: Paddle, names: Collection[str]) -> None:
    if not names:
        return
    name_of = read_pir(program).names
    for op in operations(program.global_block()):
        for value in op.results():
            if name_of.get(value.id) in names:
                value.stop_gradient = False


def _set_flags(value: Paddle, trainable: Collection[str], statistics: Collection[str]) -> None:
    # Parameters of a translated program have no flags at all, which reads as frozen.
    if value.name in trainable:
        value.is_parameter = True
        value.trainable = True
        value.stop_gradient = False
    elif value.name in statistics:
        value.trainable = False
        value.stop_gradient = True


def _replace_feed(program: Paddle, block: Paddle, op: Paddle) -> None:
    """Replace a `feed` operation by a `data` operation, as `paddle.static.data` makes it."""
    paddle = load_paddle()
    fed, name = op.result(0), op.attrs()["name"]
    with inserting_before(op, program):
        place = paddle.base.core.Place()
        data = paddle._C_ops.data(name, fed.shape, fed.dtype, place)  # noqa: SLF001
    data.stop_gradient = True
    fed.replace_all_uses_with(data)
    block.remove_op(op)


def _rebuild(program: Paddle, op: Paddle) -> None:
    """Replace an operation without its last result by a complete one: Paddle would crash.

    Files of Paddle 2 omit the reserve of a batch norm and the mask of a dropout; translation leaves
    that result empty.
    """
    paddle, attributes = load_paddle(), op.attrs()
    function, names = _REBUILT[op.name()]
    operands = (value if value.initialized() else None for value in op.operands_source())
    with inserting_before(op, program):
        make = getattr(paddle._C_ops, function)  # noqa: SLF001
        results = make(*operands, *(attributes[name] for name in names))
    rebuilt = paddle.utils.flatten(results)[0].get_defining_op()
    if "struct_name" in attributes:
        rebuilt.set_str_attr("struct_name", attributes["struct_name"])
    for old, new in zip(op.results()[:-1], rebuilt.results()[:-1], strict=True):
        old.replace_all_uses_with(new)
    op.get_parent_block().remove_op(op)
