"""Open what a command names, a saved model or `module:callable`, with its parameters in a Scope."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphtool.checks import persistable_names
from graphtool.diagnostics import Diagnostic, Report
from graphtool.graph import Graph
from graphtool.paths import is_there
from graphtool.readers import weight_problems
from graphtool.readers._builder import build
from graphtool.readers._paddle import load_paddle, static_mode
from graphtool.readers._spelling import is_callable_spec
from graphtool.readers.layer_weights import dynamic_layer, load_layer
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram
from graphtool.readers.parameter_files import parameters_beside
from graphtool.readers.tensors import held_tensors, is_untouched, share_tensors
from graphtool.readers.weights import ENDINGS, persistables
from graphtool.training import problems
from graphtool.training.parameters import load_parameters, variables_of
from graphtool.training.trainable import for_training, opened

__all__ = ["Model", "open_model"]

# Programs, Layers and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A network ready to be merged: its Program, and the Scope that holds its parameters.

    `network` is what code made it, without the Layer, whose weights are in the Scope; it knows the
    names of the Layer's state dict.
    """

    live: LiveProgram
    scope: _Paddle
    report: Report
    network: Network | None = None

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
    teacher, and has what the callable loads into it, else what its initialisers make of it, unless
    `weights` names a file.

    A saved student without parameters is an error of the Model's report: GT509.

    Raises GraphtoolError as `gt.read`, `for_training` and `load_parameters` do.
    """
    scope = load_paddle().base.core.Scope()
    is_student = role == "student"
    if is_there(source) or not is_callable_spec(source):
        return _saved(source, scope, weights, is_student=is_student)
    given = load_paddle().base.core.Scope()
    built = build(source, inputs, train=is_student, scope=given)
    if weights is None:
        return _initialised(built, scope, given, role=role)
    layer = dynamic_layer(built)
    if layer is not None:
        # Buffers that are not persistable are in no file.
        load_layer(layer, scope)
    loaded = load_parameters(built, weights, scope=scope)
    return Model(
        live=_live(built), scope=scope, report=loaded.report, network=_without_layer(built)
    )


def _saved(source: str, scope: _Paddle, weights: str | None, *, is_student: bool) -> Model:
    if is_student:
        trainable = for_training(source)
        live, said = trainable.live, tuple(trainable.report)
    else:
        live, said = opened(source), ()
    names = persistable_names(live.graph)
    found = weights or parameters_beside(live.graph.source, names, endings=ENDINGS)
    if found is None and is_student and names:
        said = (*said, weight_problems.parameters_not_beside(live.graph.source))
    if found is not None:
        said = (*said, *load_parameters(live.program, found, scope=scope).report)
    return Model(live=live, scope=scope, report=Report.of(said))


def _initialised(
    built: Network | LiveProgram, scope: _Paddle, given: _Paddle, *, role: str
) -> Model:
    """Give a network that was built from code what its Layer or its startup program holds.

    `given` is the Scope that was the global one while it was built: what is there goes over that.
    """
    if not isinstance(built, Network):
        return Model(live=built, scope=given, report=Report())
    names = list(dict.fromkeys(variables_of(built).values()))
    if dynamic_layer(built) is not None:
        load_layer(built.layer, scope)
        random = is_untouched(scope, persistables(built.graph))
        lacking = None if random is None else names if random else []
    else:
        _run_startup(built, scope)
        loaded = held_tensors(given, names)
        share_tensors(loaded, scope)
        lacking = [name for name in names if name not in loaded]
    said: list[Diagnostic] = []
    if lacking is None or lacking:
        said = [problems.random_parameters(role, built.graph.source, lacking, len(names))]
    return Model(
        live=built.live, scope=scope, report=Report.of(said), network=_without_layer(built)
    )


def _without_layer(built: Network | LiveProgram) -> Network | None:
    return replace(built, layer=None) if isinstance(built, Network) else None


def _live(built: Network | LiveProgram) -> LiveProgram:
    return built.live if isinstance(built, Network) else built


def _run_startup(built: Network, scope: _Paddle) -> None:
    paddle = load_paddle()
    with static_mode(built.graph.kind), redirect_stdout(sys.stderr):
        paddle.static.Executor().run(built.startup, scope=scope)
