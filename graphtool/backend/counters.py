"""Read and advance the counters by which Paddle names new layers and Variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import ExitStack

from graphtool.backend.paddle import Paddle, in_mode, load_paddle
from graphtool.graph import Graph, ProgramKind

__all__ = ["advance_counters", "counted_names", "restore_counters_on"]


# `batch_norm2d_0.w_1` has two counters: that of `batch_norm2d` and that of `batch_norm2d_0.w`.
_NUMBERED = re.compile(r"_(?P<number>\d+)(?=\.|$)")


def advance_counters(program: Paddle, names: Iterable[str]) -> None:
    """Advance Paddle's counters past the names in a Program, so that new layers get unused ones.

    A network may have been built under other counters, or read from a file. A layer added later,
    such as an adapter, could get the name of an existing one: both would be the same tensor, which
    the startup program then overwrites.
    """
    shared, *per_program = _generators(program)
    for name in names:
        _advance(name.removeprefix(shared.prefix), shared.ids)
        for generator in per_program:
            _advance(name, generator.ids)


def restore_counters_on(program: Paddle, undo: ExitStack) -> None:
    """Make `undo` restore the current counters."""
    for generator in _generators(program):
        undo.callback(setattr, generator, "ids", generator.ids.copy())


def _generators(program: Paddle) -> list[Paddle]:
    """Return the name generator of all Programs, and that of a legacy Program in Paddle 3."""
    with in_mode(static=True):
        # Dynamic mode has another generator, which is not used for Programs.
        shared = load_paddle().base.unique_name.generator
    of_program = getattr(program, "_name_generator", None)
    return [shared] if of_program is None else [shared, of_program]


def counted_names(graph: Graph) -> Iterator[str]:
    """Yield the names in a Graph that one of Paddle's counters may have given."""
    if graph.kind is ProgramKind.LEGACY:
        yield from graph.values
    else:
        yield from (value.name for value in graph.parameters)


def _advance(name: str, counters: MutableMapping[str, int]) -> None:
    for match in _NUMBERED.finditer(name):
        stem = name[: match.start()]
        counters[stem] = max(counters.get(stem, 0), int(match["number"]) + 1)
