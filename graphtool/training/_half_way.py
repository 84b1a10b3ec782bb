"""Mark what Paddle left half-way: its optimizers can't be taken out of a Program again."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

from graphtool.diagnostics import GraphtoolError
from graphtool.merging._failures import FAILURES, words_of
from graphtool.training.minimize_problems import half_way

__all__ = ["is_marked", "whole_or_marked"]

# Programs and optimizers are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_MARK = "_graphtool_half_way"


def is_marked(given: _Paddle) -> bool:
    """Tell a Program, or a clone of it, or an optimizer that was left half-way."""
    return getattr(given, _MARK, False)


@contextmanager
def whole_or_marked(program: _Paddle, optimizer: _Paddle) -> Generator[None]:
    """Leave a mark on both unless all goes well, interrupts included.

    Fleet gets none: there is one in a process, which could never be used again.

    Raises GraphtoolError: GT547 with what Paddle says.
    """
    marked = (program,) if type(optimizer).__name__ == "Fleet" else (program, optimizer)
    for one in marked:
        setattr(one, _MARK, True)
    try:
        yield
    except FAILURES as error:
        words = words_of(error)
        if words is None:
            raise
        raise GraphtoolError(half_way(words)) from error
    for one in marked:
        delattr(one, _MARK)
