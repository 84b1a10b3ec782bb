"""Get at a teacher, whatever it is handed over as: a live Program, a Network or a saved model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.checks import are_saved_shapes, persistable_names, saved_names, used_names
from graphtool.diagnostics import ReadError
from graphtool.graph import Graph, ProgramKind
from graphtool.readers import read, weight_problems
from graphtool.readers._paddle import is_legacy, load_paddle, static_mode
from graphtool.readers.facts import ParameterFileFacts, parameter_file_facts
from graphtool.readers.layer_weights import holding_layer, load_layer
from graphtool.readers.live import LiveProgram, deserialise, own_live, parse, program_of, translate
from graphtool.readers.parameter_files import parameters_beside
from graphtool.readers.registry import home_of
from graphtool.readers.tensors import read_tensors, set_empty, set_tensors

__all__ = ["Teacher", "kind_of", "open_teacher"]

# Programs, Scopes and tensors are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teacher:
    """A teacher to be merged, and the Scope its weights are in once `load` was given it."""

    live: LiveProgram
    scope: _Paddle
    load: Callable[[_Paddle], None]
    file: ParameterFileFacts | None = None
    loads: bool = False


def open_teacher(
    source: _Paddle, scope: _Paddle | None, students: _Paddle, kind: ProgramKind
) -> Teacher:
    """Open what a teacher is handed over as, for a student of the given kind.

    A saved model and a Network have weights of their own, which get a private Scope; all other
    teachers have theirs in `scope`, in the student's where that is None. So has a Network once its
    startup program was asked for or parameters were loaded, and one where the `scope` that is given
    holds all of them. For a PIR student a legacy teacher is translated.

    A teacher that had a teacher itself comes as it was before that merge, without losses and
    optimizer; its weights are in the Scope that it learnt in where `scope` is None.
    """
    if isinstance(source, (str, PathLike)):
        return _saved(Path(fspath(source)), scope, kind)
    live = own_live(source)
    if live.kind is ProgramKind.LEGACY and kind is ProgramKind.PIR:
        live = translate(live.program)
    home = home_of(program_of(source))
    if home is not None:
        return Teacher(live=live, scope=home if scope is None else scope, load=_nothing)
    layer = holding_layer(source, persistable_names(live.graph), scope)
    if layer is not None:
        return Teacher(live=live, scope=_new_scope(), load=partial(load_layer, layer), loads=True)
    return Teacher(live=live, scope=students if scope is None else scope, load=_nothing)


def kind_of(source: _Paddle) -> ProgramKind:
    """Tell the kind of a live Program, or of what has one."""
    return ProgramKind.LEGACY if is_legacy(program_of(source)) else ProgramKind.PIR


def _load_file(path: Path, live: LiveProgram, scope: _Paddle) -> None:
    """Load a combined file of parameters, or a folder with one file for each, into a Scope."""
    names = saved_names(live.graph)
    files = [path / name for name in names] if path.is_dir() else [path]
    tensors = [tensor for file in files for tensor in read_tensors(file)]
    if not are_saved_shapes(live.graph, [tensor.shape for tensor in tensors]):
        source = live.graph.source
        raise ReadError(weight_problems.other_count(str(path), len(tensors), len(names), source))
    set_tensors(dict(zip(names, tensors, strict=True)), scope)
    set_empty(used_names(live.graph), scope)


def _saved(path: Path, scope: _Paddle | None, kind: ProgramKind) -> Teacher:
    graph = read(path)
    model = Path(graph.source)
    live = _program(model, graph, kind)
    weights = parameters_beside(model, persistable_names(live.graph))
    if weights is None:
        # Without a file of weights they can't be in the student's Scope by chance of a name.
        return Teacher(live=live, scope=_new_scope() if scope is None else scope, load=_nothing)
    facts = None if weights.is_dir() else parameter_file_facts(weights)
    load = partial(_load_file, weights.absolute(), live)
    return Teacher(live=live, scope=_new_scope(), load=load, file=facts, loads=True)


def _program(model: Path, graph: Graph, kind: ProgramKind) -> LiveProgram:
    if graph.kind is ProgramKind.LEGACY:
        if kind is ProgramKind.PIR:
            return translate(model)
        with static_mode(kind):
            return _named(parse(str(model)), graph)
    return deserialise(str(model), graph)


def _named(live: LiveProgram, graph: Graph) -> LiveProgram:
    return replace(live, graph=replace(live.graph, source=graph.source))


def _new_scope() -> _Paddle:
    return load_paddle().base.core.Scope()


def _nothing(_: _Paddle) -> None:
    """Load nothing: the weights are where they are."""
