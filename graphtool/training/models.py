"""Open what a command names, a saved model or `module:callable`, with its parameters in a Scope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphtool.checks import persistable_names
from graphtool.diagnostics import Report
from graphtool.graph import Graph
from graphtool.paths import is_there
from graphtool.readers import weight_problems
from graphtool.readers._builder import build
from graphtool.readers._paddle import load_paddle
from graphtool.readers._spelling import is_callable_spec
from graphtool.readers.layer_weights import load_layer
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram
from graphtool.readers.parameter_files import parameters_beside
from graphtool.readers.tensors import is_untouched
from graphtool.readers.weights import ENDINGS, persistables
from graphtool.training import problems
from graphtool.training.parameters import load_parameters
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
    teacher, and has the weights that the callable gives it, unless `weights` names a file.

    A saved student without parameters is an error of the Model's report: GT509.

    Raises GraphtoolError as `gt.read`, `for_training` and `load_parameters` do.
    """
    scope = load_paddle().base.core.Scope()
    is_student = role == "student"
    if is_there(source) or not is_callable_spec(source):
        return _saved(source, scope, weights, is_student=is_student)
    given = load_paddle().base.core.Scope()
    built = build(source, inputs, train=is_student, scope=given)
    if not isinstance(built, Network):
        if weights is None:
            return Model(live=built, scope=given, report=Report())
        loaded = load_parameters(built, weights, scope=scope)
        return Model(live=built, scope=scope, report=loaded.report)
    # With its buffers that are not persistable, which are in no file.
    load_layer(built.layer, scope)
    if weights is None:
        report = _about_weights(built, scope, role)
    else:
        report = load_parameters(built, weights, scope=scope).report
    return Model(live=built.live, scope=scope, report=report, network=replace(built, layer=None))


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


def _about_weights(built: Network, scope: _Paddle, role: str) -> Report:
    """Report whether the weights that the callable gave its Layer look like those of a new one."""
    random = is_untouched(scope, persistables(built.graph))
    if not built.parameters or random is False:
        return Report()
    return Report((problems.random_parameters(role, built.graph.source, known=random is True),))
