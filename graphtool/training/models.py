"""Open a command's model, saved or `module:callable`, with its parameters in a Scope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphtool.backend.layer_weights import copy_layer_tensors
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle
from graphtool.backend.tensors import looks_untrained, new_scope
from graphtool.checks import persistable_names
from graphtool.diagnostics import Diagnostic, Report, Severity, Where
from graphtool.evidence.networks import random_weights
from graphtool.graph import Graph
from graphtool.paths import path_exists
from graphtool.readers.files import find_parameters
from graphtool.readers.problems import no_parameters_beside
from graphtool.readers.weights import SUFFIXES, persistable_values
from graphtool.sources.builder import build
from graphtool.sources.layers import Network
from graphtool.sources.model_spec import is_callable_spec
from graphtool.training.parameters import load_parameters
from graphtool.training.trainable import for_training, open_program

__all__ = ["Model", "open_model"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A network ready to be merged: its Program, and the Scope that holds its parameters.

    `network` is set for a network built from code. It has the keys of the Layer's state dict, but
    not the Layer: the weights are in the Scope.
    """

    live: LiveProgram
    scope: Paddle
    report: Report
    network: Network | None = None

    @property
    def program(self) -> Paddle:
        """The Program."""
        return self.live.program

    @property
    def graph(self) -> Graph:
        """The Graph of the Program."""
        return self.live.graph


def open_model(
    source: str, *, role: str, inputs: Sequence[str] = (), weights: str | None = None
) -> Model:
    """Open a model with its parameters in a new Scope; a student is trainable.

    `source` is a saved model, whose parameters lie beside it unless `weights` names others, or
    `module:callable` with `inputs` as `gt.read` takes them. A saved student goes through
    `for_training`. A network from code is built in training mode as a student, in test mode as a
    teacher, and keeps the weights that the callable gave it unless `weights` names a file.

    A saved student without parameters is an error in the Model's report: GT250.

    Raises GraphtoolError as `gt.read`, `for_training` and `load_parameters` do.
    """
    scope = new_scope()
    is_student = role == "student"
    if path_exists(source) or not is_callable_spec(source):
        return _open_saved(source, scope, weights, is_student=is_student)
    built_scope = new_scope()
    built = build(source, inputs, train=is_student, scope=built_scope)
    if not isinstance(built, Network):
        if weights is None:
            return Model(live=built, scope=built_scope, report=Report())
        loaded = load_parameters(built, weights, scope=scope)
        return Model(live=built, scope=scope, report=loaded.report)
    # This includes the Layer's non-persistable buffers, which are in no file.
    copy_layer_tensors(built.layer, scope)
    if weights is None:
        report = _weights_report(built, scope, role)
    else:
        report = load_parameters(built, weights, scope=scope).report
    return Model(live=built.live, scope=scope, report=report, network=replace(built, layer=None))


def _open_saved(source: str, scope: Paddle, weights: str | None, *, is_student: bool) -> Model:
    if is_student:
        trainable = for_training(source)
        live, found = trainable.live, list(trainable.report)
    else:
        live, found = open_program(source), list[Diagnostic]()
    names = persistable_names(live.graph)
    file = weights or find_parameters(live.graph.source, names, endings=SUFFIXES)
    if file is not None:
        found += load_parameters(live.program, file, scope=scope).report
    elif is_student and names:
        found.append(no_parameters_beside(live.graph.source))
    return Model(live=live, scope=scope, report=Report.of(found))


def _weights_report(built: Network, scope: Paddle, role: str) -> Report:
    """Warn unless the weights that the callable gave its Layer are clearly trained."""
    random = looks_untrained(scope, persistable_values(built.graph))
    if not built.parameters or random is False:
        return Report()
    if random:
        message = f"the {role}'s parameters are those of a network that was just built"
    else:
        message = f"it is unknown whether `{built.graph.source}` loads the weights of the {role}"
    found = random_weights(
        message,
        (Where(role=role, program=built.graph.source),),
        severity=Severity.WARNING if role == "teacher" else Severity.NOTE,
        help=f"--{role}-weights FILE",
    )
    return Report((found,))
