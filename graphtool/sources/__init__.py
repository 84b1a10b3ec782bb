"""Read a model from any source into a Graph."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.diagnostics import UsageError
from graphtool.graph import Graph
from graphtool.paths import path_exists
from graphtool.readers.problems import no_such_path
from graphtool.sources.problems import not_a_source

__all__ = ["Source", "read", "read_without_teachers"]

# A Graph, a path, `module:callable`, a live Program or a Network. Paddle's have no static type.
Source: TypeAlias = "Graph | str | PathLike[str] | Any"


def read(source: Source, *, inputs: Sequence[str] = (), train: bool = False) -> Graph:
    """Read a model into a neutral Graph.

    `source` is one of:

    - the path of a `.json`, `.pdmodel` or `__model__` file or of a folder with one; the first two
      also without suffix, as Paddle's prefixes are;
    - `module:callable`: an `nn.Layer` class or factory, or a function that returns a Program or a
      Network;
    - a live Program of either kind, or an object that has one: a Network, a Trainable, a Merged;
    - a Graph, which is returned unchanged.

    `inputs` are the inputs of a Layer from `module:callable`, spelt as on the command line:
    `3,224,224` or `name=3,224,224:float32`, without the batch; `train` builds it in training mode.

    Files are read without Paddle and never executed; `module:callable` runs the user's code.

    Raises ReadError with a GT0xx Diagnostic if the source cannot be read. Raises UsageError if it
    is empty or not a source (GT036), or if the inputs do not fit.
    """
    if isinstance(source, Graph):
        return source
    if isinstance(source, (str, PathLike)):
        return _read_path_or_callable(fspath(source), inputs, train=train)
    from graphtool.backend.live import is_live, live_program

    if not is_live(source):
        raise UsageError(not_a_source(source))
    return live_program(source).graph


def read_without_teachers(source: Source) -> Graph:
    """Read a teacher or student: as `read`, but without teachers that were merged into it.

    Raises as `read` does.
    """
    untyped: object = source
    if not isinstance(untyped, (Graph, str, PathLike)):
        from graphtool.backend.live import graph_before_merges, is_live

        if is_live(untyped):
            return graph_before_merges(untyped)
    return read(source)


def _read_path_or_callable(source: str, inputs: Sequence[str], *, train: bool) -> Graph:
    if not source:
        raise UsageError(no_such_path(""))
    _, colon, name = source.rpartition(":")
    if colon and "/" not in name and not path_exists(source):
        from graphtool.sources._builder import build

        return build(source, inputs, train=train).graph
    from graphtool.readers.files import read_file

    return read_file(Path(source))
