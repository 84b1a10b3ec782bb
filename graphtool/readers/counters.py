"""The counters by which Paddle names new layers and Variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import ExitStack
from typing import Any, TypeAlias

from graphtool.graph import Graph, ProgramKind
from graphtool.readers._paddle import in_mode, load_paddle

__all__ = ["count_past", "keep_counters", "user_names"]

# Programs and generators of names are Paddle's, without types that hold for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# `batch_norm2d_0.w_1` was counted twice: as the first `batch_norm2d`, then as the second `….w`.
_COUNTED = re.compile(r"_(?P<number>\d+)(?=\.|$)")


def count_past(program: _Paddle, names: Iterable[str]) -> None:
    """Let Paddle count on from names that a Program has: a new layer gets one that is free.

    A network may have been built under counters of its own, or read from a file. A layer that is
    added to it afterwards, an adapter say, would get the name of one that is there, and both would
    be one tensor, which the startup program then sets anew.
    """
    generator, *own = _generators(program)
    for name in names:
        _count(name.removeprefix(generator.prefix), generator.ids)
        for counting in own:
            _count(name, counting.ids)


def keep_counters(program: _Paddle, undo: ExitStack) -> None:
    """Let `undo` set back how far Paddle has counted by now."""
    for generator in _generators(program):
        undo.callback(setattr, generator, "ids", generator.ids.copy())


def _generators(program: _Paddle) -> list[_Paddle]:
    """Return what counts for all Programs, then what does for a legacy one of Paddle 3 alone."""
    with in_mode(static=True):
        # Dynamic mode has counters of its own, which Programs are not built with.
        general = load_paddle().base.unique_name.generator
    own = getattr(program, "_name_generator", None)
    return [general] if own is None else [general, own]


def user_names(graph: Graph) -> Iterator[str]:
    """Yield the names in a Graph that a counter of Paddle's may have given."""
    if graph.kind is ProgramKind.LEGACY:
        yield from graph.values
    else:
        yield from (value.name for value in graph.parameters)


def _count(name: str, counters: MutableMapping[str, int]) -> None:
    for counted in _COUNTED.finditer(name):
        stem = name[: counted.start()]
        counters[stem] = max(counters.get(stem, 0), int(counted["number"]) + 1)
