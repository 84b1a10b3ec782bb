"""Open what a command names, a saved model or `module:callable`, with its parameters in a Scope."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.checks import persistable_names
from graphtool.diagnostics import Diagnostic, Report
from graphtool.graph import Graph, ProgramKind
from graphtool.readers._builder import build, is_callable_spec
from graphtool.readers._paddle import in_mode, load_paddle
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram
from graphtool.readers.parameter_files import parameters_beside
from graphtool.readers.tensors import Tensor, set_tensors
from graphtool.readers.weights import ENDINGS
from graphtool.training import problems
from graphtool.training._legacy_mode import legacy_mode
from graphtool.training.parameters import load_parameters
from graphtool.training.trainable import for_training, opened

__all__ = ["Model", "open_model"]

# Programs, Layers and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A network ready to be merged: its Program, and the Scope that holds its parameters."""

    live: LiveProgram
    scope: _Paddle
    report: Report

    @property
    def program(self) -> _Paddle:
        """The Program."""
        return self.live.program

    @property
    def graph(self) -> Graph:
        """The Graph of the Program."""
        return self.live.graph


def open_model(
    source: str, *, role: str, inputs: Sequence[str] = (), weights: str | None = None
) -> Model:
    """Open a model with its parameters in a Scope of its own; the student's trains.

    `source` is a saved model, whose parameters lie beside it unless `weights` names others, or
    `module:callable` with `inputs` as `gt.read` takes them. A saved student goes through
    `for_training`; a network from code is built in training mode for a student, in test mode for a
    teacher, and has what its initialisers make of it unless `weights` names a file.

    Raises GraphtoolError as `gt.read`, `for_training` and `load_parameters` do.
    """
    scope = load_paddle().base.core.Scope()
    is_student = role == "student"
    if Path(source).exists() or not is_callable_spec(source):
        return _saved(source, scope, weights, is_student=is_student)
    built = build(source, inputs, train=is_student)
    if weights is None:
        return _initialised(built, scope, role=role)
    layer = built if isinstance(built, Network) else None
    loaded = load_parameters(built.program, weights, layer=layer, scope=scope)
    return Model(live=_live(built), scope=scope, report=loaded.report)


def _saved(source: str, scope: _Paddle, weights: str | None, *, is_student: bool) -> Model:
    if is_student:
        trainable = for_training(source)
        live, said = trainable.live, tuple(trainable.report)
    else:
        live, said = opened(source), ()
    names = persistable_names(live.graph)
    found = weights or parameters_beside(source, names, endings=ENDINGS)
    if found is not None:
        said = (*said, *load_parameters(live.program, found, scope=scope).report)
    return Model(live=live, scope=scope, report=Report.of(said))


def _initialised(built: Network | LiveProgram, scope: _Paddle, *, role: str) -> Model:
    """Give a network that was built from code what its Layer or its startup program holds."""
    live = _live(built)
    said: tuple[Diagnostic, ...] = ()
    if isinstance(built, Network):
        said = (problems.random_parameters(role, live.graph.source),)
        if not _take_from_layer(built.layer, scope):
            _run_startup(built, scope)
    return Model(live=live, scope=scope, report=Report.of(said))


def _live(built: Network | LiveProgram) -> LiveProgram:
    return built.live if isinstance(built, Network) else built


def _take_from_layer(layer: _Paddle, scope: _Paddle) -> bool:
    """Copy the tensors of a Layer that was made in dynamic mode; False for one of static mode."""
    held = dict(layer.state_dict())
    if not all(hasattr(value, "get_tensor") or _is_eager(value) for value in held.values()):
        return False
    with in_mode(static=False):
        tensors = {value.name: Tensor.of(value.numpy()) for value in held.values()}
    set_tensors(tensors, scope)
    return True


def _is_eager(value: _Paddle) -> bool:
    return type(value).__name__ in ("EagerParamBase", "Tensor")


def _run_startup(built: Network, scope: _Paddle) -> None:
    paddle = load_paddle()
    mode = legacy_mode() if built.graph.kind is ProgramKind.LEGACY else in_mode(static=True)
    with mode, redirect_stdout(sys.stderr):
        paddle.static.Executor().run(built.startup, scope=scope)
