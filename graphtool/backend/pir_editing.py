"""Edit PIR Programs in place: test mode, frozen Values, removed operations."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.ops import STACK_PUSHES

__all__ = [
    "freeze",
    "inserting_after",
    "inserting_before",
    "insertion_block",
    "operations",
    "remove_stack_pushes",
    "remove_unused",
    "set_test_mode",
]


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


def remove_stack_pushes(op: Paddle) -> None:
    """Remove what the branches and loops in an operation save for a gradient that is gone."""
    for block in op.blocks() if op.num_regions() else ():
        for inner in block.ops:
            if inner.name() in STACK_PUSHES:
                block.remove_op(inner)
            else:
                remove_stack_pushes(inner)


@contextmanager
def inserting_after(op: Paddle, program: Paddle) -> Generator[None]:
    """Insert what is built in the body behind an operation of a Program."""
    paddle = load_paddle()
    with paddle.static.program_guard(program):
        paddle.base.libpaddle.pir.set_insertion_point_after(op)
        yield


@contextmanager
def inserting_before(op: Paddle, program: Paddle) -> Generator[None]:
    """Insert what is built in the body in front of an operation of a Program."""
    paddle = load_paddle()
    with paddle.static.program_guard(program):
        paddle.pir.set_insertion_point(op)
        yield
        paddle.pir.reset_insertion_point_to_end()


def insertion_block() -> Paddle:
    """Return the Block that operations are inserted into at present."""
    return load_paddle().base.libpaddle.pir.get_current_insertion_point().block()
