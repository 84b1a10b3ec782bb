"""Read a Program, wherever it is, into a Graph."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.diagnostics import UsageError
from graphtool.graph import Graph
from graphtool.paths import is_there
from graphtool.readers import problems

__all__ = ["Source", "read", "read_own"]

# A Graph, a path, `module:callable`, or a live Program or Network: those are Paddle's or built from
# it, and have no static type without Paddle.
Source: TypeAlias = "Graph | str | PathLike[str] | Any"


def read(source: Source, *, inputs: Sequence[str] = (), train: bool = False) -> Graph:
    """Read a model into a neutral Graph.

    `source` is the path of a `.json`, `.pdmodel` or `__model__` file or of a folder that holds one
    (the first two also without their ending, as Paddle's prefixes are), `module:callable` (an
    `nn.Layer` class or factory, or a function that returns a Program or a Network), a live Program
    of either kind or what has one (a Network, a Trainable, a Merged), or a Graph, which is returned
    as it is.
    `inputs` describes what a Layer from `module:callable` reads, as on the command line:
    `3,224,224` or `name=3,224,224:float32`, the batch left out; `train` builds it in training mode.

    Files are read without Paddle and never executed; `module:callable` runs the user's code.

    Raises ReadError with a GT0xx Diagnostic where the source cannot be read, UsageError where it is
    empty, no source at all (GT046) or the inputs do not fit.
    """
    if isinstance(source, Graph):
        return source
    if isinstance(source, (str, PathLike)):
        return _read_named(fspath(source), inputs, train=train)
    from graphtool.readers.live import as_live, is_live

    if not is_live(source):
        raise UsageError(problems.not_a_source(type(source).__name__))
    return as_live(source).graph


def read_own(source: Source) -> Graph:
    """Read a network of a pair: as `read` does, but without the teachers that were merged into it.

    Raises as `read` does.
    """
    given: object = source
    if not isinstance(given, (Graph, str, PathLike)):
        from graphtool.readers.live import is_live, own_graph

        if is_live(given):
            return own_graph(given)
    return read(source)


def _read_named(source: str, inputs: Sequence[str], *, train: bool) -> Graph:
    if not source:
        raise UsageError(problems.nameless_model())
    _, colon, name = source.rpartition(":")
    if colon and "/" not in name and not is_there(source):
        from graphtool.readers._builder import build

        return build(source, inputs, train=train).graph
    from graphtool.readers._files import read_file

    return read_file(Path(source))
