"""Open a network to run it: its Program, and its parameters for a private Scope."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, cast

from graphtool.backend.layer_weights import copy_layer_tensors, weights_layer_unless_in
from graphtool.backend.live import (
    LiveProgram,
    is_live,
    open_legacy,
    open_pir,
    program_before_merges,
    program_of,
)
from graphtool.backend.paddle import Paddle, load_paddle, static_mode
from graphtool.backend.registry import student_scope_of
from graphtool.backend.tensors import (
    as_bfloat16,
    copy_tensor,
    initialised_tensors,
    looks_untrained,
    set_tensors,
    share_tensors,
)
from graphtool.both import Both
from graphtool.diagnostics import Call, Diagnostic, PairError, Severity, UsageError, Where
from graphtool.graph import Graph, Origin, ProgramKind, Value, fits_shape
from graphtool.matching import evidence_problems as problems
from graphtool.ops import has_side_effects
from graphtool.paths import path_exists
from graphtool.readers.files import combined_path, find_parameters
from graphtool.readers.tensor_files import Tensor
from graphtool.readers.weights import SUFFIXES, persistable_values, read_weights
from graphtool.sources import Source, read
from graphtool.sources._builder import build
from graphtool.sources._model_spec import is_callable_spec
from graphtool.sources.layers import Network
from graphtool.sources.problems import not_a_source
from graphtool.text import path_argument, shell_command

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Opened", "check_apart", "open_network"]


_ALLOW = Call("gt.suggest_pairs", allow_random=True)
_UNTRAINED = "trained: biases, scales and shifts have one number throughout"
_SEED = 20260
_SET_STATE = 'net.set_state_dict(paddle.load("weights.pdparams"))'
_LOAD = 'gt.load_parameters(program, "weights.pdparams")'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A network, and the function that loads its parameters into a Scope.

    `fill` takes a Scope and the names of the needed parameters, and returns those that were never
    loaded; `reason` says why, `help` how to load them. `scope` is the user's Scope that they come
    from, None where they come from elsewhere.
    """

    role: str
    live: LiveProgram
    fill: Callable[[Paddle, Sequence[str]], Sequence[str]]
    reason: str
    help: str
    scope: Paddle | None = None

    @property
    def graph(self) -> Graph:
        """The Graph of the Program, with the names that `read` gives for the same source."""
        return self.live.graph

    def load_parameters(
        self, graph: Graph, scope: Paddle, *, allow_random: bool
    ) -> list[Diagnostic]:
        """Load the persistables of a part of the Program into a Scope; return diagnostics.

        Raises PairError: GT376 where some were never loaded, unless random numbers are allowed;
        GT372 if some are not finite. Raises GraphtoolError as `read_weights` does.
        """
        known = persistable_values(graph)
        names = list(known)
        not_loaded = set(self.fill(scope, names))
        missing = [
            name for name in names if name in not_loaded or not _fits(scope, known[name], name)
        ]
        if not missing:
            self._check_finite(scope, names)
            if not looks_untrained(scope, known):
                return []
        count = len(missing or names)
        number = f"{count}" if count == len(names) else f"{count} of {len(names)}"
        reason = f"loaded: {self.reason}" if missing else _UNTRAINED
        notes = ["CKA of random weights says how alike two random functions are"]
        if not allow_random:
            notes.append("--allow-random (in Python allow_random=True) measures all the same")
        # Untrained parameters were loaded correctly: loading them again does not help.
        hint = self.help if missing else None
        diagnostic = problems.random_weights(
            f"{number} parameters of the {self.role} were never {reason}",
            (Where(role=self.role, program=self.graph.source),),
            severity=Severity.WARNING if allow_random else Severity.ERROR,
            notes=notes,
            help=hint if hint or allow_random else _ALLOW,
        )
        if not allow_random:
            raise PairError(diagnostic)
        set_tensors(_random_tensors({name: known[name] for name in missing}), scope)
        return [diagnostic]

    def _check_finite(self, scope: Paddle, names: Iterable[str]) -> None:
        """Refuse NaN and infinities in weights, which a ReLU could hide.

        Raises PairError: GT372.
        """
        import numpy as np

        for name in names:
            array = np.array(scope.find_var(name).get_tensor())
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                shape = tuple(array.shape)
                place = Where(role=self.role, program=self.graph.source, value=name, shape=shape)
                message = "the parameters have a NaN or an infinity"
                raise PairError(problems.unusable_evidence(message, (place,), help=self.help))


def open_network(
    source: Source, role: str, *, inputs: Sequence[str] = (), scope: Paddle | None = None
) -> Opened:
    """Open what `read` takes, except a Graph; the parameters of a live Program are in `scope`.

    Raises ReadError as `read` does. Raises UsageError: GT036, GT370 for what cannot run. Raises
    PairError: GT385 for a saved model with side effects.
    """
    load_paddle()
    if isinstance(source, Graph):
        call = 'gt.suggest_pairs("teacher.json", "student.json", evidence="samples.npz")'
        where = (Where(role=role, program=source.source),)
        message = f"the {role} is a Graph, which cannot run"
        raise UsageError(problems.no_evidence(message, where=where, help=call))
    if isinstance(source, str | PathLike):
        name = fspath(cast("str | PathLike[str]", source))
        if is_callable_spec(name) and not path_exists(name):
            return _built(name, role, inputs)
        return _saved(name, role)
    if not is_live(source):
        raise UsageError(not_a_source(source))
    live, home = program_before_merges(source), student_scope_of(program_of(source))
    default = load_paddle().static.global_scope() if home is None else home
    layer = weights_layer_unless_in(source, persistable_values(live.graph), scope)
    if layer is not None and home is None:
        return _of_layer(role, live, layer)
    return _of_scope(role, live, default if scope is None else scope)


def check_apart(teacher: Opened, student: Opened, *, teacher_scope_given: bool) -> None:
    """Refuse two Programs with parameters of one name in one Scope, which holds one of them.

    Where the user gave the teacher's Scope, the Programs may share parameters that fit both.

    Raises PairError: GT384.
    """
    if teacher.scope is None or teacher.scope is not student.scope:
        return
    if teacher.live.program is student.live.program:
        return
    parameters = Both(_parameters(teacher.graph), _parameters(student.graph))
    common = [
        name
        for name, value in parameters.teacher.items()
        if name in parameters.student
        and not (teacher_scope_given and value.shape == parameters.student[name].shape)
    ]
    if common:
        name = common[0]
        places = [
            Where(role=side.role, program=side.graph.source, value=name, shape=held[name].shape)
            for side, held in zip((teacher, student), parameters, strict=True)
        ]
        raise PairError(problems.shared_scope(places, len(common)))


def _parameters(graph: Graph) -> dict[str, Value]:
    kept = persistable_values(graph).items()
    return {name: value for name, value in kept if value.origin is Origin.PARAMETER}


def _saved(path: str, role: str) -> Opened:
    """Open a saved model; the parameters beside it are read when they are needed."""
    graph = read(path)
    types = [one.type for one in graph.operators.values() if has_side_effects(one)]
    if types:
        raise PairError(problems.unsafe_operators(role, path, list(dict.fromkeys(types))))
    if graph.kind is ProgramKind.PIR:
        live = open_pir(graph.source, graph)
    else:
        with static_mode(graph.kind):
            live = open_legacy(graph.source)
            live = replace(live, graph=replace(live.graph, source=graph.source))

    def fill(scope: Paddle, names: Sequence[str]) -> Sequence[str]:
        file = find_parameters(graph.source, names, endings=SUFFIXES)
        if file is None:
            return names
        weights = read_weights(file, graph)
        held = {weights.table.get(name, name): one for name, one in weights.tensors.items()}
        set_tensors({name: held[name] for name in names if name in held}, scope)
        return [name for name in names if name not in held]

    reason = "no file of parameters beside the model has them"
    copy = shell_command(
        "cp", "WEIGHTS.pdiparams", path_argument(str(combined_path(Path(graph.source))))
    )
    return Opened(role=role, live=live, fill=fill, reason=reason, help=copy)


def _built(spec: str, role: str, inputs: Sequence[str]) -> Opened:
    """Build the network of a callable, with the parameters that it loads."""
    scope = load_paddle().static.Scope()
    built = build(spec, inputs, scope=scope)
    if isinstance(built, Network):
        return _of_layer(role, built.live, built.layer)
    return replace(_of_scope(role, built, scope), reason="the callable does not load them")


def _of_layer(role: str, live: LiveProgram, layer: Paddle) -> Opened:
    def fill(scope: Paddle, names: Sequence[str]) -> Sequence[str]:
        # All of it: a run also reads Variables that are not persistable.
        copy_layer_tensors(layer, scope)
        loaded = initialised_tensors(scope, names)
        return [name for name in names if name not in loaded]

    reason = "the Layer does not hold them"
    return Opened(role=role, live=live, fill=fill, reason=reason, help=_SET_STATE)


def _of_scope(role: str, live: LiveProgram, held: Paddle) -> Opened:
    def fill(scope: Paddle, names: Sequence[str]) -> Sequence[str]:
        tensors = initialised_tensors(held, names)
        share_tensors({name: copy_tensor(tensor) for name, tensor in tensors.items()}, scope)
        return [name for name in names if name not in tensors]

    argument = "teacher_scope" if role == "teacher" else "scope"
    reason = f"the Scope does not hold them, which `{argument}` may name"
    return Opened(role=role, live=live, fill=fill, reason=reason, help=_LOAD, scope=held)


def _fits(scope: Paddle, value: Value, name: str) -> bool:
    """Return whether a tensor has the Value's shape, not that of another network."""
    return fits_shape(value, tuple(scope.find_var(name).get_tensor().shape()))


def _random_tensors(values: Mapping[str, Value]) -> dict[str, Tensor]:
    """Draw parameters at random, with a fixed seed."""
    import numpy as np

    random = np.random.default_rng(_SEED)
    return {name: _random_tensor(value, random) for name, value in values.items()}


def _random_tensor(value: Value, random: np.random.Generator) -> Tensor:
    """Draw a vector near 1, as it may be a variance, other tensors as in He et al. 2015.

    Source: Delving Deep into Rectifiers (arXiv 1502.01852), equation 10.
    """
    import numpy as np

    shape, dtype = value.shape or (), value.dtype or "float32"
    if len(shape) < 2:
        numbers = random.uniform(0.5, 1.5, shape)
    else:
        inputs = shape[0] if len(shape) == 2 else prod(shape[1:])
        numbers = random.normal(0.0, (2 / max(inputs, 1)) ** 0.5, shape)
    if dtype == "bfloat16":
        return Tensor(as_bfloat16(numbers.astype(np.float32)), dtype)
    return Tensor(numbers.astype(dtype), dtype)
