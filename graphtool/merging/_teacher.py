"""Get at a teacher, whatever it is handed over as: a live Program, a Network or a saved model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.checks import persistable_names, used_names
from graphtool.diagnostics import ReadError
from graphtool.graph import Graph, ProgramKind, shapes_agree
from graphtool.merging._scope import copy_of
from graphtool.readers import read, weight_problems
from graphtool.readers._paddle import in_mode, is_legacy, load_paddle
from graphtool.readers.facts import ParameterFileFacts, parameter_file_facts
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram, translate
from graphtool.readers.parameter_files import parameters_beside
from graphtool.readers.tensors import read_tensors, set_tensors

__all__ = ["Teacher", "as_live", "kind_of", "open_teacher", "working_on"]

# Programs, Scopes and tensors are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teacher:
    """A teacher to be merged, and the Scope its weights are in once `load` has run."""

    live: LiveProgram
    scope: _Paddle
    load: Callable[[], None]
    file: ParameterFileFacts | None = None
    loads: bool = False


def open_teacher(
    source: _Paddle, scope: _Paddle | None, students: _Paddle, kind: ProgramKind
) -> Teacher:
    """Open what a teacher is handed over as, for a student of the given kind.

    A saved model and a Layer of dynamic mode have weights of their own, which get a private Scope;
    all other teachers have theirs in `scope`, in the student's where that is None. For a PIR
    student a legacy teacher is translated.
    """
    if isinstance(source, (str, PathLike)):
        return _saved(Path(fspath(source)), scope, kind)
    live = as_live(source)
    if live.kind is ProgramKind.LEGACY and kind is ProgramKind.PIR:
        live = translate(live.program)
    if isinstance(source, Network) and _is_dynamic(source.layer):
        layer, own = source.layer, _new_scope()
        return Teacher(live=live, scope=own, load=lambda: _load_layer(layer, own), loads=True)
    return Teacher(live=live, scope=students if scope is None else scope, load=_nothing)


def as_live(source: _Paddle) -> LiveProgram:
    """Read a Program, LiveProgram or Network as it is now, with the names that it is known by."""
    if not isinstance(source, Network | LiveProgram):
        return LiveProgram.of(source)
    now = LiveProgram.of(source.program)
    if now.graph.operators.keys() == source.graph.operators.keys():
        return source.live if isinstance(source, Network) else source
    return replace(now, graph=_with_layers(now.graph, source.graph))


def kind_of(source: _Paddle) -> ProgramKind:
    """Tell the kind of a live Program, LiveProgram or Network."""
    program = source.program if isinstance(source, Network | LiveProgram) else source
    return ProgramKind.LEGACY if is_legacy(program) else ProgramKind.PIR


@contextmanager
def working_on(kind: ProgramKind) -> Generator[None]:
    """Let Paddle 3 work on legacy Programs for a while; it does so on PIR by itself."""
    if kind is ProgramKind.PIR:
        yield
        return
    # Paddle 2.6 has no other kind, and no such guard.
    guard = getattr(load_paddle().pir_utils, "OldIrGuard", None)
    with in_mode(static=True) if guard is None else guard():
        yield


def _load_file(path: Path, live: LiveProgram, scope: _Paddle) -> None:
    """Load a combined file of parameters, or a folder with one file for each, into a Scope."""
    names = sorted(persistable_names(live.graph))
    files = [path / name for name in names] if path.is_dir() else [path]
    tensors = [tensor for file in files for tensor in read_tensors(file)]
    known = used_names(live.graph)
    shapes = [known[name].shape for name in names]
    if len(tensors) != len(names) or not all(
        shapes_agree(tensor.shape, shape) for tensor, shape in zip(tensors, shapes, strict=True)
    ):
        source = live.graph.source
        raise ReadError(weight_problems.other_count(str(path), len(tensors), len(names), source))
    set_tensors(dict(zip(names, tensors, strict=True)), scope)


def _saved(path: Path, scope: _Paddle | None, kind: ProgramKind) -> Teacher:
    graph = read(path)
    model = Path(graph.source)
    live = _program(model, graph, kind)
    weights = parameters_beside(model, persistable_names(live.graph))
    if weights is None:
        # Without a file of weights they can't be in the student's Scope by chance of a name.
        return Teacher(live=live, scope=_new_scope() if scope is None else scope, load=_nothing)
    own = _new_scope()
    facts = None if weights.is_dir() else parameter_file_facts(weights)
    return Teacher(
        live=live, scope=own, load=lambda: _load_file(weights, live, own), file=facts, loads=True
    )


def _program(model: Path, graph: Graph, kind: ProgramKind) -> LiveProgram:
    paddle = load_paddle()
    if graph.kind is ProgramKind.LEGACY:
        if kind is ProgramKind.PIR:
            return translate(model)
        with working_on(kind):
            return _named(
                LiveProgram.of(paddle.static.deserialize_program(model.read_bytes())), graph
            )
    program = paddle.static.Program()
    paddle.base.core.deserialize_pir_program(str(model), program)
    return _named(LiveProgram.of(program), graph)


def _named(live: LiveProgram, graph: Graph) -> LiveProgram:
    return replace(live, graph=replace(live.graph, source=graph.source))


def _is_dynamic(layer: _Paddle) -> bool:
    return any(type(held).__name__ == "EagerParamBase" for held in _held(layer))


def _held(layer: _Paddle) -> Iterator[_Paddle]:
    """Yield a Layer's parameters and buffers."""
    # `parameters()` refuses those of the mode that Paddle is not in.
    for inner in layer.sublayers(include_self=True):
        for held in (*inner._parameters.values(), *inner._buffers.values()):  # noqa: SLF001
            if held is not None:
                yield held


def _load_layer(layer: _Paddle, scope: _Paddle) -> None:
    with in_mode(static=False):
        for held in _held(layer):
            # Copied: the Layer may go on training in dynamic mode.
            copied = copy_of(held.value().get_tensor())
            scope.var(held.name).get_tensor()._share_data_with(copied)  # noqa: SLF001


def _with_layers(graph: Graph, annotated: Graph) -> Graph:
    values = dict(graph.values)
    for name, value in annotated.values.items():
        if name in values and (value.layer or value.layer_outputs):
            values[name] = replace(
                values[name], layer=value.layer, layer_outputs=value.layer_outputs
            )
    return replace(graph, values=values)


def _new_scope() -> _Paddle:
    return load_paddle().base.core.Scope()


def _nothing() -> None:
    """Load nothing: the weights are where they are."""
