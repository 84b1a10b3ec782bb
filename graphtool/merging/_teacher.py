"""Open a teacher given as a live Program, a Network or the path of a saved model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path

from graphtool.backend.layer_weights import copy_layer_tensors, weights_layer_unless_in
from graphtool.backend.live import (
    LiveProgram,
    open_legacy,
    open_pir,
    program_before_merges,
    program_of,
    translate,
)
from graphtool.backend.paddle import Paddle, is_legacy, static_mode
from graphtool.backend.registry import student_scope_of
from graphtool.backend.tensors import new_scope, set_dropout_states, set_tensors
from graphtool.checks import are_saved_shapes, persistable_names, saved_names, used_names
from graphtool.diagnostics import ReadError
from graphtool.graph import Graph, ProgramKind
from graphtool.readers.files import find_parameters
from graphtool.readers.problems import wrong_tensor_count
from graphtool.readers.tensor_files import ParameterFileFacts, parameter_file_facts, read_tensors
from graphtool.sources import read

__all__ = ["Teacher", "open_teacher", "program_kind"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teacher:
    """An opened teacher; its weights are in `scope` after `load(scope)`.

    `has_own_weights` says that they are in a file or a Layer, and `load` puts them into a Scope.
    `file` describes the file.
    """

    live: LiveProgram
    scope: Paddle
    load: Callable[[Paddle], None]
    file: ParameterFileFacts | None = None
    has_own_weights: bool = False


def open_teacher(
    source: Paddle, scope: Paddle | None, student_scope: Paddle, kind: ProgramKind
) -> Teacher:
    """Open a teacher for a student of the given kind.

    A saved model or a Network has its own weights, which go into a private Scope. For any other
    teacher they are in `scope`, or in the student's if that is None. The same holds for a Network
    whose startup program was requested, whose parameters were loaded, or whose weights are all in
    the given `scope`. A legacy teacher is translated for a PIR student.

    A teacher that had a teacher itself is opened as it was before that merge, without losses and
    optimizer. Its weights are in the Scope in which it was trained if `scope` is None.
    """
    if isinstance(source, (str, PathLike)):
        return _open_saved_model(Path(fspath(source)), scope, kind)
    live = program_before_merges(source)
    if live.kind is ProgramKind.LEGACY and kind is ProgramKind.PIR:
        live = translate(live.program)
    training_scope = student_scope_of(program_of(source))
    if training_scope is not None:
        teacher_scope = training_scope if scope is None else scope
        return Teacher(live=live, scope=teacher_scope, load=_load_nothing)
    layer = weights_layer_unless_in(source, persistable_names(live.graph), scope)
    if layer is not None:
        load = partial(copy_layer_tensors, layer)
        return Teacher(live=live, scope=new_scope(), load=load, has_own_weights=True)
    teacher_scope = student_scope if scope is None else scope
    return Teacher(live=live, scope=teacher_scope, load=_load_nothing)


def program_kind(source: Paddle) -> ProgramKind:
    """Return the kind of a live Program, or of the Program that a Network has."""
    return ProgramKind.LEGACY if is_legacy(program_of(source)) else ProgramKind.PIR


def _open_saved_model(path: Path, scope: Paddle | None, kind: ProgramKind) -> Teacher:
    graph = read(path)
    model = Path(graph.source)
    live = _open_program(model, graph, kind)
    weights = find_parameters(model, persistable_names(live.graph))
    if weights is None:
        # An empty Scope: the student's could hold other tensors under the same names.
        teacher_scope = new_scope() if scope is None else scope
        return Teacher(live=live, scope=teacher_scope, load=_load_nothing)
    facts = None if weights.is_dir() else parameter_file_facts(weights)
    load = partial(_load_file, weights.absolute(), live)
    return Teacher(live=live, scope=new_scope(), load=load, file=facts, has_own_weights=True)


def _open_program(model: Path, graph: Graph, kind: ProgramKind) -> LiveProgram:
    if graph.kind is not ProgramKind.LEGACY:
        return open_pir(str(model), graph)
    if kind is ProgramKind.PIR:
        return translate(model)
    with static_mode(kind):
        live = open_legacy(str(model))
        return replace(live, graph=replace(live.graph, source=graph.source))


def _load_file(path: Path, live: LiveProgram, scope: Paddle) -> None:
    """Load a combined parameter file, or a folder with one file per parameter, into a Scope."""
    names = saved_names(live.graph)
    files = [path / name for name in names] if path.is_dir() else [path]
    tensors = [tensor for file in files for tensor in read_tensors(file)]
    if not are_saved_shapes(live.graph, [tensor.shape for tensor in tensors]):
        source = live.graph.source
        raise ReadError(wrong_tensor_count(str(path), len(tensors), len(names), source))
    set_tensors(dict(zip(names, tensors, strict=True)), scope)
    set_dropout_states(used_names(live.graph), scope)


def _load_nothing(_: Paddle) -> None:
    """Load nothing: the weights are in their Scope already."""
