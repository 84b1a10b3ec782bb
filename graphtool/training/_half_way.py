"""Mark what Paddle left half-way: its optimizers can't be taken out of a Program again."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

from graphtool.diagnostics import GraphtoolError
from graphtool.merging._failures import said_by_paddle
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
    marked = {"Program": program}
    if type(optimizer).__name__ != "Fleet":
        marked["optimizer"] = optimizer
    with said_by_paddle(lambda words: GraphtoolError(half_way(words, marked=tuple(marked)))):
        for one in marked.values():
            setattr(one, _MARK, True)
        yield
        for one in marked.values():
            delattr(one, _MARK)
